//! Which handshakes `trace` shows.

use std::str::FromStr;

use crate::core::names::{INVALID_SERVER_NAME, NO_SERVER_NAME};
use crate::core::record::{Handshake, Outcome, Process, Role, ServerName};

/// Conditions that must all hold; an empty one always does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub server_name: Option<Glob>,
    pub service: Option<String>,
    pub result: Option<Outcome>,
    pub role: Option<Role>,
}

impl Filter {
    pub fn matches(&self, handshake: &Handshake, process: Option<&Process>) -> bool {
        let service = || process.and_then(|process| process.service.as_deref());
        self.role.is_none_or(|role| role == handshake.role)
            && self
                .result
                .is_none_or(|result| result == handshake.outcome())
            && self
                .service
                .as_deref()
                .is_none_or(|wanted| service() == Some(wanted))
            && self
                .server_name
                .as_ref()
                .is_none_or(|glob| glob.matches(name_or_marker(handshake.server_name.as_ref())))
    }
}

/// The server name, or the marker that stands in its place, as in the metrics.
pub fn name_or_marker(name: Option<&ServerName>) -> &str {
    match name {
        Some(ServerName::Host(name)) => name,
        Some(ServerName::Invalid) => INVALID_SERVER_NAME,
        None => NO_SERVER_NAME,
    }
}

/// A pattern in which `*` stands for any run of characters, also an empty one, and `?` for one.
/// ASCII case does not count, as in host names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Box<[u8]>);

impl Glob {
    /// Compares bytes, because host names are ASCII. Only the last `*` is ever retried, which is
    /// enough: an earlier one that took more would leave less to the later ones. So the time is
    /// at most the product of both lengths, never exponential.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (&*self.0, text.as_bytes());
        let (mut at, mut position) = (0, 0);
        // Where to go on when a literal differs: behind the last `*`, one byte further on.
        let mut retry: Option<(usize, usize)> = None;
        while position < text.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    retry = Some((at + 1, position));
                    at += 1;
                }
                Some(&expected)
                    if expected == b'?' || expected.eq_ignore_ascii_case(&text[position]) =>
                {
                    at += 1;
                    position += 1;
                }
                _ => match retry {
                    Some((behind_star, start)) => {
                        retry = Some((behind_star, start + 1));
                        at = behind_star;
                        position = start + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|&rest| rest == b'*')
    }
}

impl FromStr for Glob {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.as_bytes().into()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::core::sample;

    fn glob(pattern: &str) -> Glob {
        pattern.parse().expect("every text is a glob")
    }

    #[test]
    fn matches_stars_and_question_marks() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "a.example"),
            ("*.example.com", "www.example.com"),
            ("*.example.com", ".example.com"),
            ("a?c", "abc"),
            ("WWW.example.*", "www.EXAMPLE.org"),
            ("*a*b*c*", "xxaxxbxxcxx"),
            ("*aab", "aaaab"),
            ("**", "x"),
            ("_none", "_none"),
        ] {
            assert!(glob(pattern).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn refuses_what_does_not_match_whole() {
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("*.example.com", "example.com"),
            ("*.example.com", "www.example.com.evil"),
            ("a?c", "ac"),
            ("*a", "ab"),
            ("www.example.com", "www-example.com"),
        ] {
            assert!(!glob(pattern).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn hostile_patterns_take_no_exponential_time() {
        let start = Instant::now();
        assert!(!glob(&"*a".repeat(60)).matches(&format!("{}b", "a".repeat(2_000))));
        assert!(start.elapsed().as_secs() < 1);
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_recursive_matcher(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn obvious(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.split_first(), text.split_first()) {
                    (None, None) => true,
                    (None, Some(_)) => false,
                    (Some((b'*', rest)), None) => obvious(rest, text),
                    (Some((b'*', rest)), Some((_, tail))) => {
                        obvious(rest, text) || obvious(pattern, tail)
                    }
                    (Some(_), None) => false,
                    (Some((want, rest)), Some((have, tail))) => {
                        (*want == b'?' || want == have) && obvious(rest, tail)
                    }
                }
            }
            prop_assert_eq!(
                glob(&pattern).matches(&text),
                obvious(pattern.as_bytes(), text.as_bytes())
            );
        }
    }

    #[test]
    fn an_empty_filter_lets_everything_through() {
        assert!(Filter::default().matches(&sample::resumed(), None));
        assert!(Filter::default().matches(&sample::failed(), Some(&sample::process())));
    }

    #[test]
    fn every_condition_must_hold() {
        let filter = Filter {
            server_name: Some(glob("*.example.com")),
            service: Some("nginx".to_owned()),
            result: Some(Outcome::Resumed),
            role: Some(Role::Server),
        };
        let process = sample::process();
        assert!(filter.matches(&sample::resumed(), Some(&process)));
        assert!(
            !filter.matches(&sample::resumed(), None),
            "service not known"
        );
        let other = Process {
            service: Some("haproxy".to_owned()),
            ..process.clone()
        };
        assert!(!filter.matches(&sample::resumed(), Some(&other)));
        let full = Handshake {
            resumed: false,
            ..sample::resumed()
        };
        assert!(!filter.matches(&full, Some(&process)));
        let client = Handshake {
            role: Role::Client,
            ..sample::resumed()
        };
        assert!(!filter.matches(&client, Some(&process)));
        let nameless = Handshake {
            server_name: None,
            ..sample::resumed()
        };
        assert!(!filter.matches(&nameless, Some(&process)));
    }

    #[test]
    fn connections_without_name_can_be_asked_for() {
        let filter = Filter {
            server_name: Some(glob("_none")),
            ..Filter::default()
        };
        let nameless = Handshake {
            server_name: None,
            ..sample::resumed()
        };
        assert!(filter.matches(&nameless, None));
        assert!(!filter.matches(&sample::resumed(), None));
    }
}

//! Errors as people read them: what failed and every cause in one line, the way out below it.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
};

/// The text of an error with those of its causes that it does not name itself.
///
/// Errors here put advice on the lines after the first, so causes go to the end of the first line.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let (what, advice) = match text.split_once('\n') {
        Some((what, advice)) => (what, Some(advice)),
        None => (text.as_str(), None),
    };
    let mut out = what.to_owned();
    let mut source = error.source();
    while let Some(error) = source {
        source = error.source();
        let cause = error.to_string();
        // Many errors of libraries print their source as well as returning it.
        if !text.contains(&cause) && !out.contains(&cause) {
            out.push_str(": ");
            out.push_str(&cause);
        }
    }
    if let Some(advice) = advice {
        out.push('\n');
        out.push_str(advice);
    }
    out
}

/// Writes a line to standard error. Nobody reading it is no reason to stop (`eprintln!` panics).
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("cannot open it: {source}\nname another file")]
    struct Outer {
        source: Inner,
    }

    #[derive(Debug, Error)]
    #[error("the call failed")]
    struct Inner {
        source: io::Error,
    }

    #[test]
    fn every_cause_stands_once_and_before_the_advice() {
        let error = Outer {
            source: Inner {
                source: io::Error::other("no permission"),
            },
        };
        assert_eq!(
            explain(&error),
            "cannot open it: the call failed: no permission\nname another file"
        );
    }

    #[test]
    fn an_error_without_cause_or_advice_stays_as_it_is() {
        assert_eq!(explain(&io::Error::other("broken")), "broken");
    }
}

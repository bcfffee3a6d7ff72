//! Every finding: a real server that raises it, and one like it that does not.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use openssl::ssl::SslVersion;
use resumetry_tests::client::{Client, Versions, dial};
use resumetry_tests::faults::{self, KeysInUse, ticket_keys};
use resumetry_tests::findings::{Finding, Subject, ask, clock_is_off};
use resumetry_tests::session::Offer;
use resumetry_tests::stage::{Served, Stage, come_back, fetch, of_version};
use resumetry_tests::{ports, repository, wait};

const PATIENCE: Duration = Duration::from_secs(60);

/// How long a key may issue tickets here.
const KEY_MAX_AGE: Duration = Duration::from_secs(20);

/// Servers and clients of which something is wrong, beside some of which it is not.
struct Scenario {
    what: &'static str,
    /// Rule, server name and service of each finding, empty where it has none.
    raises: &'static [(&'static str, &'static str, &'static str)],
    play: fn(&Stage) -> Result<()>,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        what: "clients come twice, others twenty times",
        raises: &[("quota_low", "rare.findings.test", "")],
        play: faults::few_and_many_returns,
    },
    Scenario {
        what: "clients have no memory",
        raises: &[
            ("clients_never_offer", "", "nginx-forgotten"),
            ("quota_low", "forgotten.findings.test", ""),
        ],
        play: faults::clients_without_memory,
    },
    Scenario {
        what: "tickets of another node's key",
        raises: &[("tickets_never_accepted", "", "nginx-stranger")],
        play: faults::tickets_of_another_node,
    },
    Scenario {
        what: "neither tickets nor a cache, and a cache alone",
        raises: &[("no_resumption_offered", "", "nginx-nothing")],
        play: faults::nothing_to_resume_by,
    },
    Scenario {
        what: "clients return after a second, and tickets live as long or longer",
        raises: &[("lifetime_short", "", "nginx-hasty")],
        play: faults::tickets_that_expire,
    },
    Scenario {
        what: "eight tickets for each client, and two",
        raises: &[("tickets_wasted", "", "nginx-lavish")],
        play: faults::more_tickets_than_of_use,
    },
    Scenario {
        what: "a key is replaced, with and without keeping the old one",
        raises: &[("key_retired_early", "", "nginx-abrupt")],
        play: faults::a_key_is_replaced,
    },
    Scenario {
        what: "a key of zeros, and one of random bytes",
        raises: &[("key_weak", "", "nginx-zeros")],
        play: faults::a_key_of_zeros,
    },
    Scenario {
        what: "two services with one key, and one with its own",
        raises: &[("key_shared", "", "nginx-blog,nginx-shop")],
        play: faults::a_key_for_two,
    },
    Scenario {
        what: "one name at two services, one behind the other, which may differ",
        raises: &[],
        play: faults::services_of_one_name,
    },
    Scenario {
        what: "tickets over QUIC allow early data, which is refused over TCP, and taken",
        raises: &[
            ("early_data_accepted", "", "nginx-early"),
            ("early_data_differs", "late.findings.test", ""),
        ],
        play: faults::early_data,
    },
    Scenario {
        what: "a long chain of certificates, and a short one",
        raises: &[("chain_large", "long.findings.test", "")],
        play: faults::chains,
    },
    Scenario {
        what: "clients ask for a stapled OCSP response, and one server has it",
        raises: &[("ocsp_not_stapled", "bare.findings.test", "")],
        play: faults::stapling,
    },
    Scenario {
        what: "an RSA certificate, for clients that can do ECDSA and for some that cannot",
        raises: &[("rsa_certificate", "rsa.findings.test", "")],
        play: faults::rsa,
    },
    Scenario {
        what: "TLS 1.1, which has no authenticated encryption either",
        raises: &[
            ("version_old", "", "nginx-ancient"),
            ("cipher_old", "", "nginx-ancient"),
        ],
        play: faults::tls11,
    },
    Scenario {
        what: "a suite of TLS 1.2 without authenticated encryption",
        raises: &[("cipher_old", "", "nginx-dusty")],
        play: faults::old_suite,
    },
    Scenario {
        what: "a proxy that does not resume, and one that does",
        raises: &[(
            "upstream_never_resumes",
            "inner.findings.test",
            "nginx-oblivious",
        )],
        play: faults::proxies_that_resume_or_not,
    },
    Scenario {
        what: "a proxy that opens a connection for each request, and one that keeps them",
        raises: &[(
            "upstream_no_keepalive",
            "inner.findings.test",
            "nginx-opener",
        )],
        play: faults::proxies_that_keep_connections_or_not,
    },
    Scenario {
        what: "a key is replaced again and again",
        raises: &[("key_rotated_too_fast", "", "nginx-hectic")],
        play: faults::keys_in_quick_succession,
    },
];

/// Begins before all others and ends after them.
const KEYS_IN_USE: Scenario = Scenario {
    what: "a key issues for too long, and one is replaced in time",
    raises: &[("key_not_rotated", "", "nginx-stale")],
    play: |_| Ok(()),
};

#[test]
fn each_rule_is_raised_by_the_server_that_breaks_it_and_by_no_other() {
    let key_max_age = format!("{}s", KEY_MAX_AGE.as_secs());
    let arguments = ["--check-weak-keys", "--key-max-age", &key_max_age];
    let mut stage = Stage::new("findings", &arguments).unwrap();
    let keys = KeysInUse::begin(&stage).unwrap();
    for scenario in SCENARIOS {
        let began = Instant::now();
        (scenario.play)(&stage).unwrap();
        println!("{:?}: {}", began.elapsed(), scenario.what);
    }
    // Its finding comes last: when it stands, all else was judged.
    keys.come_back(KEY_MAX_AGE + Duration::from_secs(2))
        .unwrap();

    let mut expected = of_the_host();
    let scenarios = SCENARIOS.iter().chain([&KEYS_IN_USE]);
    for scenario in scenarios.clone() {
        expected.extend(scenario.raises.iter().copied().map(Subject::new));
    }
    wait::until(PATIENCE, || expected.is_subset(&standing(&stage)));
    let found = stage.judge.findings().unwrap();
    let standing: BTreeSet<Subject> = found.iter().map(Finding::subject).collect();
    let missing = scenarios.filter(|scenario| {
        let mut raises = scenario.raises.iter().copied().map(Subject::new);
        !raises.all(|subject| standing.contains(&subject))
    });
    let missing: Vec<_> = missing.map(|scenario| scenario.what).collect();
    let surplus = found.iter();
    let surplus: Vec<_> = surplus
        .filter(|finding| !expected.contains(&finding.subject()))
        .collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "not raised: {missing:#?}\nraised besides: {surplus:#?}"
    );
    assert_eq!(standing.len(), found.len(), "a finding stands twice");
    assert_eq!(stage.judge.metric().unwrap(), expected);
    stage.judge.finish().unwrap();
}

/// Rules of which the other test has the scenarios.
const BETWEEN_HOSTS: [&str; 4] = [
    "key_not_distributed",
    "alpn_differs",
    "cipher_differs",
    "version_differs",
];

/// Those who add a rule shall add a scenario. The host's clock is not for a test to change.
#[test]
fn each_rule_of_the_documentation_has_a_scenario() {
    let page = fs::read_to_string(repository().join("docs/findings.md")).unwrap();
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let scenarios = SCENARIOS.iter().chain([&KEYS_IN_USE]);
    let raised = scenarios.flat_map(|scenario| scenario.raises.iter().map(|(id, ..)| *id));
    let raised: BTreeSet<&str> = raised.chain(["clock_off"]).chain(BETWEEN_HOSTS).collect();
    assert_eq!(documented, raised);
}

fn standing(stage: &Stage) -> BTreeSet<Subject> {
    let found = stage.judge.findings().unwrap();
    found.iter().map(Finding::subject).collect()
}

/// What stands on this host, whatever its servers do.
fn of_the_host() -> BTreeSet<Subject> {
    let is_off = clock_is_off().unwrap();
    let finding = is_off.then(|| Subject::new(("clock_off", "", "")));
    finding.into_iter().collect()
}

/// What stands between two agents, not with one of them; and how the command ended.
fn between(hosts: [&Stage; 2]) -> (Vec<Finding>, i32) {
    let urls = hosts.map(|host| host.judge.url());
    let said = ask(&[&urls[0], &urls[1]], &["--format", "json"]).unwrap();
    let findings = said.findings().unwrap().into_iter();
    let between = findings.filter(|finding| finding.url.is_none());
    (between.collect(), said.code)
}

#[test]
fn agents_are_compared_and_what_to_do_is_told() {
    let name = "www.findings.test";
    let edge = Stage::new("edge-1", &["--label", "tier=edge"]).unwrap();
    let sibling = Stage::beside(&edge, "edge-2", &["--label", "tier=edge"]).unwrap();
    let origin = Stage::beside(&edge, "origin", &["--label", "tier=origin"]).unwrap();
    let of_edge = edge.key("edge.key").unwrap();
    let of_origin = edge.key("origin.key").unwrap();
    let [at_edge, at_sibling, at_origin] = [
        (&edge, &of_edge),
        (&sibling, &of_edge),
        (&origin, &of_origin),
    ]
    .map(|(host, key)| {
        let server = host.tls(&[name]).unwrap().with(ticket_keys(&[key]));
        host.serve("nginx", server).unwrap()
    });
    let offer = Offer::new(SslVersion::TLS1_3, name);
    let tickets = fetch(at_edge.port, &offer, 20).unwrap();
    come_back(at_edge.port, &offer, &tickets, true).unwrap();
    come_back(at_sibling.port, &offer, &tickets, true).unwrap();
    come_back(at_origin.port, &offer, &tickets, false).unwrap();
    // Clients go on to resume at the edge: the key is no old one. That is after the refusals by more than two
    // agents' looks at the clock may differ.
    let refused = Instant::now();
    let pause = Duration::from_secs(1);
    wait::until(pause * 2, || refused.elapsed() > pause);
    come_back(at_edge.port, &offer, &tickets, true).unwrap();

    // The origin knows nothing of the edge's key.
    let finds = |hosts: [&Stage; 2], id: &str| {
        let has = || between(hosts).0.iter().any(|finding| finding.id == id);
        assert!(wait::until(PATIENCE, has), "{id}: {:?}", between(hosts));
        between(hosts)
    };
    let (found, code) = finds([&edge, &origin], "key_not_distributed");
    let [cold] = &found[..] else {
        panic!("{found:#?}");
    };
    assert_eq!((cold.severity.as_str(), code), ("error", 1), "{cold:?}");
    assert_eq!(cold.service.as_deref(), Some("nginx"));
    let urls = [edge.judge.url(), origin.judge.url()];
    let evidence = format!("is in use on {}, and {} does not have it", urls[0], urls[1]);
    assert!(cold.evidence.contains(&evidence), "{cold:?}");

    let said = ask(&[&urls[0], &urls[1]], &[]).unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    for told in [
        "error: Tickets of one node are unknown to another (key_not_distributed)",
        &cold.evidence,
        "\n  nginx: ",
        "\n      ssl_session_ticket_key ",
    ] {
        assert!(said.text.contains(told), "no {told:?} in {}", said.text);
    }

    // Those of one tier have the key in common, as they should.
    assert!(between([&edge, &sibling]).0.is_empty());
    let urls = [edge.judge.url(), sibling.judge.url()];
    let said = ask(&[&urls[0], &urls[1]], &[]).unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    let says_none = said.text.starts_with("No finding");
    assert_eq!(says_none, !clock_is_off().unwrap(), "{said:?}");

    // Who gives the origin the edge's key mends one thing and breaks another.
    fs::copy(&of_edge, &of_origin).unwrap();
    at_origin.nginx.renew().unwrap();
    come_back(at_origin.port, &offer, &tickets, true).unwrap();
    let (found, code) = finds([&edge, &origin], "key_shared");
    let found: BTreeSet<_> = found
        .iter()
        .map(|finding| (finding.id.as_str(), finding.severity.as_str()))
        .collect();
    let expected = [
        ("key_not_distributed", "warning"),
        ("key_shared", "warning"),
    ];
    assert_eq!((found, code), (BTreeSet::from(expected), 0));
    assert!(between([&edge, &sibling]).0.is_empty());
}

#[test]
fn hosts_that_serve_a_name_unlike_each_other_are_found() {
    let one = Stage::new("node-1", &[]).unwrap();
    let other = Stage::beside(&one, "node-2", &[]).unwrap();
    faults::hosts_of_one_name([&one, &other]).unwrap();
    let expected = [
        ("alpn_differs", "protocols.findings.test"),
        ("cipher_differs", "suites.findings.test"),
        ("version_differs", "versions.findings.test"),
    ];
    let expected: BTreeSet<Subject> = expected
        .into_iter()
        .map(|(id, name)| Subject::new((id, name, "nginx-web")))
        .collect();
    let found = || -> BTreeSet<Subject> {
        let found = between([&one, &other]).0;
        found.iter().map(Finding::subject).collect()
    };
    wait::until(PATIENCE, || expected.is_subset(&found()));
    assert_eq!(found(), expected, "{:#?}", between([&one, &other]).0);
}

#[test]
fn an_agent_that_does_not_answer_is_told_with_what_starts_one() {
    let nobody = format!("http://127.0.0.1:{}", ports::free().unwrap());
    let said = ask(&[&nobody], &[]).unwrap();
    assert_eq!((said.code, said.text.as_str()), (1, ""));
    for told in [&nobody, "resumetry run"] {
        assert!(said.errors.contains(told), "{}", said.errors);
    }
}

/// Three keys by turns, as `nginx` is advised: one issues, the next is known before it does, and
/// the last opens what is left of its tickets.
struct Ring<'a> {
    stage: &'a Stage,
    served: Served,
}

impl<'a> Ring<'a> {
    const FILES: [&'static str; 3] = ["current.key", "next.key", "previous.key"];

    fn start(stage: &'a Stage, name: &str) -> Self {
        let files = Self::FILES.map(|name| stage.key(name).unwrap());
        let keys = ticket_keys(&files.each_ref().map(|file| file.as_path()));
        // Not over HTTP/2: nginx ends such a connection without an answer when it reloads, and clients try again.
        let server = stage.tls(&[name]).unwrap().with(keys);
        let served = stage.serve("nginx-steady", server).unwrap();
        Self { stage, served }
    }

    fn rotate(&self) {
        let [current, next, previous] = Self::FILES.map(|name| self.stage.file(name));
        fs::copy(&current, previous).unwrap();
        fs::copy(next, current).unwrap();
        self.stage.key("next.key").unwrap();
        self.served.nginx.renew().unwrap();
    }
}

#[test]
fn a_server_that_does_it_all_right_has_no_finding_under_load() {
    const CLIENTS: usize = 200;
    const VISITS: usize = 20;
    const ROTATIONS: usize = 4;
    let name = "steady.findings.test";
    let mut stage = Stage::new("steady", &["--key-max-age", "30s"]).unwrap();
    let ring = Ring::start(&stage, name);
    let port = ring.served.port;
    let (begun, visits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Clients of both versions, two at a time; each comes twenty times, whatever happens to the keys.
    let load = || {
        loop {
            let index = begun.fetch_add(1, Ordering::Relaxed);
            if index >= CLIENTS {
                return;
            }
            let versions = [Versions::Tls12, Versions::Tls13][index % 2];
            let client = Client::new(of_version(versions, name)).unwrap();
            for visit in 0..VISITS {
                let done = client.request(dial(port).unwrap(), visit > 0, 1).unwrap();
                assert_eq!(done.resumed, visit > 0, "visit {visit} of {versions:?}");
                visits.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(load));
        for rotation in 1..=ROTATIONS {
            let due = rotation * CLIENTS * VISITS / (ROTATIONS + 1);
            let is_due = || {
                let is_over = threads.iter().all(|thread| thread.is_finished());
                is_over || visits.load(Ordering::Relaxed) >= due
            };
            assert!(wait::until(PATIENCE, is_due));
            ring.rotate();
        }
    });
    println!("{} handshakes in {:?}", CLIENTS * VISITS, began.elapsed());

    // A fault that was made afterwards proves that what was before has been judged.
    faults::nothing_to_resume_by(&stage).unwrap();
    let mut expected = of_the_host();
    expected.insert(Subject::new(("no_resumption_offered", "", "nginx-nothing")));
    assert!(wait::until(PATIENCE, || expected.is_subset(&standing(&stage))));
    assert_eq!(standing(&stage), expected, "{:#?}", stage.judge.findings());
    assert_eq!(stage.judge.metric().unwrap(), expected);
    stage.judge.finish().unwrap();
}

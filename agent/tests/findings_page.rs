//! Keeps `docs/findings.md` as the rules and the advice are in the code.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fmt::Write as _;
use std::path::Path;

use resumetry::core::findings::{advice, rule::Rule};

const PREFACE: &str = "\
# Findings

Findings are a checklist of good ticket practice, held against what the agent saw on its host.
Each names a rule, how grave it is to break it, what it concerns (a server name, a service or the host), the figures that it rests on, and what to do, server by server.
`resumetry findings` prints them, the built-in page shows them, and `resumetry_finding` is 1 for each that stands.

- *error*: resumption does not work, or is unsafe. Act now; `resumetry findings` exits with 1 while one stands.
- *warning*: it costs users or servers something, or will.
- *info*: worth knowing; it may be as intended.

Rules are evaluated every five seconds, on the last hour, which is all that the agent keeps; a quota on the last five minutes, or on as many more as it takes to see a thousand handshakes.
So a finding goes when its cause has been gone for that long, and not before.
Nearly every rule speaks only when enough connections were seen to tell it from chance.
Silence is no proof: a rule may have seen too little traffic, the library tap that knows the reason may be missing, or another host may be the one at fault.
`resumetry doctor` says what this host allows to be seen.

With several `--url` the hosts are compared as well: `key_not_distributed` comes from that alone, and keys, protocols, suites and versions are held against each other.

Paths and names in the configurations are examples. Test a configuration before you load it: `nginx -t`, `apachectl configtest`, `haproxy -c -f FILE`, `envoy --mode validate -c FILE`.
";

/// Written where `RESUMETRY_WRITE` is set, else held against the page that is kept.
#[test]
fn the_page_says_what_the_rules_and_the_advice_say() {
    let mut page = PREFACE.to_owned();
    for &rule in Rule::ALL {
        let (id, title) = (rule.id(), rule.title());
        write!(page, "\n## {id}\n\n**{title}.** {}\n", advice::why(rule)).unwrap();
        for advice in advice::of(rule) {
            write!(page, "\n*{}*: {}\n", advice.server, advice.text).unwrap();
            if let Some(config) = advice.config {
                write!(page, "\n```\n{}\n```\n", config.trim_end()).unwrap();
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/findings.md");
    if std::env::var_os("RESUMETRY_WRITE").is_some() {
        std::fs::write(path, page).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(kept, page, "docs/findings.md is out of date");
}

//! `resumetry probe` against servers that resume, that do not, and that are not there.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::Command;
use std::time::Duration;

use resumetry_tests::agent::{Agent, Record, binary};
use resumetry_tests::certs::Key;
use resumetry_tests::foreign_server::{s_server, trixie};
use resumetry_tests::haproxy::{Bind, Haproxy};
use resumetry_tests::nginx::{Nginx, Server, write_ticket_key};
use resumetry_tests::process::Owned;
use resumetry_tests::quic_peers::Quinn;
use resumetry_tests::site::Names;
use resumetry_tests::{ports, undisturbed, wait};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// What it said of the first name at these ports of this host, and its exit code.
fn probe(names: &Names, ports: &[u16], arguments: &[&str]) -> (Value, i32) {
    let mut command = Command::new(binary());
    command
        .args(["probe", &names.name(0), "--format", "json"])
        .args(arguments)
        .env("SSL_CERT_FILE", names.authority_file());
    for port in ports {
        command.arg("--address").arg(format!("127.0.0.1:{port}"));
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.code().unwrap())
}

/// The verdict on a ticket of one port at another.
fn verdict(report: &Value, from: u16, to: u16) -> &str {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let matrix = report["matrix"].as_array().unwrap();
    let pair = matrix
        .iter()
        .find(|pair| pair["from"] == address(from) && pair["to"] == address(to));
    pair.unwrap()["verdict"].as_str().unwrap()
}

/// Servers that differ in their ticket keys at most.
fn nginx_pair(names: &Names, shares_keys: bool) -> ([u16; 2], [Nginx; 2]) {
    let file = |name: &str| write_ticket_key(names.directory.path().join(name)).unwrap();
    let first = file("first.key");
    let second = match shares_keys {
        true => first.clone(),
        false => file("second.key"),
    };
    let ports = [ports::free().unwrap(), ports::free().unwrap()];
    let start = |port, key: std::path::PathBuf| {
        let server = Server::new(port, "ssl", &names.served)
            .with(format!("ssl_session_ticket_key {};", key.display()));
        Nginx::start(1, "", &[server]).unwrap()
    };
    (ports, [start(ports[0], first), start(ports[1], second)])
}

#[test]
fn servers_that_share_their_keys_accept_each_other_s_tickets() {
    let names = Names::new().unwrap();
    let (ports, _servers) = nginx_pair(&names, true);
    let mut trace = Agent::start(["trace", "--format", "json", "--role", "server"]).unwrap();
    for version in ["1.2", "1.3"] {
        // How much faster it is depends on who else is busy; what resumes does not.
        undisturbed::measure(|| {
            let (report, code) = probe(&names, &ports, &["--tls", version]);
            assert_eq!(
                (code, report["ok"].as_bool()),
                (0, Some(true)),
                "{report:#}"
            );
            for from in ports {
                for to in ports {
                    assert_eq!(verdict(&report, from, to), "accepted", "{report:#}");
                }
            }
            for server in report["addresses"].as_array().unwrap() {
                assert_eq!(server["version"], version);
                assert_eq!(
                    (&server["offered"], &server["resumed"]),
                    (&10.into(), &10.into())
                );
                assert_eq!(server["tickets"], if version == "1.3" { 2 } else { 1 });
                for figure in ["handshake_seconds", "time_to_first_byte_seconds"] {
                    let figure = &server[figure];
                    let is_faster = figure["difference"].as_f64().unwrap() > 0.0;
                    let is_certain = figure["p"].as_f64().unwrap() < 0.05;
                    assert!(is_faster && is_certain, "{version} {server:#}");
                }
            }
            // The key's name is the one that agents show.
            let key = report["addresses"][0]["ticket"]["key"].as_str().unwrap();
            let shown = || -> Vec<String> {
                let records = trace.records().unwrap().into_iter();
                let keys = records.filter_map(|record| record.resumption.ticket.key);
                keys.collect()
            };
            let is_shown = wait::until(PATIENCE, || shown().iter().any(|shown| shown == key));
            assert!(is_shown, "{key}, not {:?}", shown());
        });
    }
    assert!(trace.finish(Signal::TERM).unwrap().success());
}

#[test]
fn tickets_of_other_keys_are_refused_as_the_servers_agent_sees_it() {
    let names = Names::new().unwrap();
    let (ports, _servers) = nginx_pair(&names, false);
    let mut trace = Agent::start(["trace", "--format", "json", "--role", "server"]).unwrap();
    let (report, code) = probe(&names, &ports, &["--connections", "3"]);
    assert_eq!(
        (code, report["ok"].as_bool()),
        (1, Some(false)),
        "{report:#}"
    );
    let findings: Vec<_> = report["findings"].as_array().unwrap().iter().collect();
    for (from, to) in [(ports[0], ports[1]), (ports[1], ports[0])] {
        assert_eq!(verdict(&report, from, from), "accepted");
        assert_eq!(verdict(&report, from, to), "refused");
        let told = format!("127.0.0.1:{to} refused a ticket of 127.0.0.1:{from}");
        let says = |finding: &&Value| {
            let text = finding.as_str().unwrap();
            text.starts_with(&told) && text.contains("different ticket keys")
        };
        assert!(findings.iter().any(says), "{report:#}");
        let offers = || -> Vec<Record> {
            let mut records = trace.records().unwrap();
            records.retain(|record| record.server.port == to && record.resumption.offered == "psk");
            records
        };
        // Three of its own in turns, and one of each in the matrix.
        wait::until(PATIENCE, || offers().len() >= 5);
        let (resumed, refused): (Vec<_>, Vec<_>) =
            offers().into_iter().partition(|record| record.tls.resumed);
        assert_eq!((resumed.len(), refused.len()), (4, 1));
        let reason = refused[0].resumption.reject_reason.as_deref();
        assert_eq!(reason, Some("key_unknown"));
    }
    assert!(trace.finish(Signal::TERM).unwrap().success());
}

#[test]
fn haproxy_session_ids_and_quic_are_told_as_they_are() {
    let names = Names::new().unwrap();
    let port = ports::free().unwrap();
    let certificates = names.directory.path().join("served/both");
    let bind = Bind {
        port,
        parameters: String::new(),
    };
    let _haproxy = Haproxy::start(&certificates, &[bind]).unwrap();
    let (report, code) = probe(&names, &[port], &["--connections", "3"]);
    assert_eq!(
        (code, &report["addresses"][0]["resumed"]),
        (0, &3.into()),
        "{report:#}"
    );

    // By session IDs alone.
    let port = ports::free().unwrap();
    let by_id = "ssl_session_tickets off; ssl_session_cache shared:probe:1m;";
    let server = Server::new(port, "ssl", &names.served).with(by_id);
    let _nginx = Nginx::start(1, "", &[server]).unwrap();
    let (report, code) = probe(&names, &[port], &["--connections", "3", "--tls", "1.2"]);
    let server = &report["addresses"][0];
    assert_eq!((code, &server["resumed"]), (0, &3.into()), "{report:#}");
    assert_eq!(
        (&server["method"], &server["tickets"]),
        (&"session_id".into(), &0.into())
    );

    let identity = names.authority.issue(&names.name(0), Key::Ecdsa).unwrap();
    for early_data in [false, true] {
        let quinn = Quinn::start(&names.authority, &identity, early_data).unwrap();
        let arguments = ["--quic", "--alpn", "", "--connections", "3"];
        let (report, code) = probe(&names, &[quinn.port()], &arguments);
        let server = &report["addresses"][0];
        assert_eq!((code, &server["resumed"]), (0, &3.into()), "{report:#}");
        assert_eq!(report["transport"], "quic");
        assert_eq!(server["ticket"]["early_data"], early_data, "{report:#}");
    }
}

#[test]
fn time_to_first_byte_over_http3_is_told() {
    let names = Names::new().unwrap();
    let port = ports::free().unwrap();
    let http3 = format!("listen 127.0.0.1:{port} quic reuseport; http3 on;");
    let server = Server::new(port, "ssl", &names.served[..1]).with(http3);
    let program = trixie("trixie-nginx", "usr/sbin/nginx").unwrap();
    let _nginx = Nginx::start_command(program, 1, "", &[server]).unwrap();
    let (report, code) = probe(&names, &[port], &["--quic", "--connections", "3"]);
    let server = &report["addresses"][0];
    assert_eq!((code, &server["resumed"]), (0, &3.into()), "{report:#}");
    assert_eq!(server["next_protocol"], "h3", "{report:#}");
    for kind in ["full", "resumed"] {
        let of = |figure: &str| server[figure][kind]["median"].as_f64();
        let (handshake, first_byte) = (of("handshake_seconds"), of("time_to_first_byte_seconds"));
        assert!(handshake.unwrap() < first_byte.unwrap(), "{report:#}");
    }
}

/// `openssl s_server` of this system; its port.
fn start_s_server(names: &Names, arguments: &[&str]) -> (u16, Owned) {
    s_server(Command::new("openssl"), &names.served[0].1, arguments).unwrap()
}

#[test]
fn servers_that_do_not_resume_and_none_at_all_are_told_apart() {
    let names = Names::new().unwrap();
    let few = ["--connections", "3"];
    let says = |report: &Value, what: &str| {
        let findings = report["findings"].as_array().unwrap();
        let says = |finding: &Value| finding.as_str().is_some_and(|text| text.contains(what));
        assert!(findings.iter().any(says), "{report:#}");
    };
    // No ticket allowed anything.
    let (port, _server) = start_s_server(&names, &["-num_tickets", "0"]);
    let (report, code) = probe(&names, &[port], &few);
    assert_eq!(
        (code, &report["addresses"][0]["offered"]),
        (0, &0.into()),
        "{report:#}"
    );
    says(&report, "gives out nothing to resume by");

    // Tickets that name an entry in a cache which keeps none.
    let port = ports::free().unwrap();
    let ignores = "ssl_session_tickets off; ssl_session_cache off;";
    let server = Server::new(port, "ssl", &names.served).with(ignores);
    let _nginx = Nginx::start(1, "", &[server]).unwrap();
    let (report, code) = probe(&names, &[port], &["--connections", "3", "--tls", "1.3"]);
    assert_eq!(code, 1, "{report:#}");
    says(&report, "refused 3 of 3 offers");

    let dead = ports::free().unwrap();
    let (report, code) = probe(&names, &[port, dead], &few);
    assert_eq!(code, 1);
    assert_eq!(verdict(&report, port, dead), "unreachable");
    says(&report, &format!("cannot connect to 127.0.0.1:{dead}"));
}

#[test]
fn a_certificate_that_does_not_verify_is_no_server_unless_told_so() {
    let names = Names::new().unwrap();
    let (port, _server) = start_s_server(&names, &[]);
    let run = |arguments: &[&str]| {
        let output = Command::new(binary())
            .args(["probe", &format!("127.0.0.1:{port}"), "--connections", "1"])
            .args(arguments)
            .output()
            .unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (code, said) = run(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("certificate"), "{said}");
    let (code, said) = run(&["--insecure"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Every ticket was accepted."), "{said}");
    // More than is polite.
    let many: Vec<String> = (1..30)
        .map(|host| format!("--address=127.0.0.{host}:1"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (code, said) = run(&many);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--address"), "{said}");
}

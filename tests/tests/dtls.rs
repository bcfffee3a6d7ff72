//! DTLS is recognised, counted and left alone.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::{Command, Stdio};
use std::time::Duration;

use resumetry_tests::agent::Agent;
use resumetry_tests::metrics::scrape;
use resumetry_tests::process::Owned;
use resumetry_tests::site::Names;
use resumetry_tests::{ports, wait};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn handshakes_of_dtls_are_counted_and_no_record_is_made_of_them() {
    let names = Names::new().unwrap();
    let (name, files) = &names.served[0];
    let port = ports::free().unwrap();
    let listen = ([127, 0, 0, 1], ports::free().unwrap()).into();
    let mut run = Agent::start(["run", "--listen", &format!("{listen}")]).unwrap();
    let counted = || -> f64 {
        let samples = scrape(listen).unwrap();
        let sample = samples
            .iter()
            .find(|sample| sample.name == "resumetry_unfollowed_handshakes_total")
            .unwrap();
        assert_eq!(sample.label("protocol"), "dtls");
        sample.value
    };
    let openssl = |command: &str, argument: &str| {
        let mut openssl = Command::new("openssl");
        openssl
            .args([command, "-dtls1_2", "-quiet", argument])
            .arg(format!("127.0.0.1:{port}"))
            .stderr(Stdio::null());
        openssl
    };
    // It asks for a second ClientHello with a cookie.
    let mut server = openssl("s_server", "-accept");
    server
        .args([
            "-listen".as_ref(),
            "-cert".as_ref(),
            files.certificate.as_os_str(),
        ])
        .args(["-key".as_ref(), files.key.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let _server = Owned::new(server.spawn().unwrap());
    // It may come before the server listens.
    let done = wait::until(PATIENCE, || {
        let mut client = openssl("s_client", "-connect");
        client
            .args(["-servername", name, "-no_ign_eof"])
            .stdin(Stdio::null());
        let output = Command::new("timeout")
            .arg("5")
            .arg(client.get_program())
            .args(client.get_args())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output.status.success()
    });
    assert!(done, "the fixtures");
    // On loopback both ends are seen.
    let is_counted = wait::until(PATIENCE, || counted() >= 2.0);
    assert!(is_counted, "{}", counted());
    let samples = scrape(listen).unwrap();
    let of_it = |label: &str| label.contains(name.as_str());
    assert!(
        !samples
            .iter()
            .any(|sample| of_it(sample.label("server_name")))
    );
    assert!(run.finish(Signal::TERM).unwrap().success());
}

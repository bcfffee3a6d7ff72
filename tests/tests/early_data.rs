//! Early data over TCP: taken or refused, as nginx' answers tell.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use openssl::ssl::SslStream;
use resumetry_tests::agent::{Agent, EarlyData};
use resumetry_tests::client::{Client, Profile, goodbye};
use resumetry_tests::nginx::{self, Nginx, Server};
use resumetry_tests::site::Names;
use resumetry_tests::{http1, ports};
use rustix::process::Signal;

/// How a connection asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    Full,
    Resumed,
    Early,
}

/// One connection; the client's port, and whether nginx took early data.
fn ask(client: &Client, port: u16, ask: Ask) -> (u16, bool) {
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let local = socket.local_addr().unwrap().port();
    let ssl = client.ssl(ask != Ask::Full).unwrap();
    let mut stream = SslStream::new(ssl, client.prepare(socket).unwrap()).unwrap();
    if ask == Ask::Early {
        let request = http1::request(client.host(), "/first", false);
        stream.write_early_data(&request).unwrap();
    }
    stream.connect().unwrap();
    stream
        .write_all(&http1::request(client.host(), "/last", false))
        .unwrap();
    // Of early data that was refused there is no answer: nginx never sees the request.
    let mut answers = String::new();
    while !answers.contains("/last") {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        answers.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    goodbye(stream);
    (local, answers.contains("/first"))
}

#[test]
fn early_data_is_taken_or_refused_as_the_server_says() {
    let names = Names::new().unwrap();
    let key = nginx::write_ticket_key(names.directory.path().join("ticket.key")).unwrap();
    let [taking, refusing] = [ports::free().unwrap(), ports::free().unwrap()];
    let server = |port, early| {
        Server::new(port, "ssl", &names.served)
            .with(format!("ssl_session_ticket_key {};", key.display()))
            .with(format!("ssl_early_data {early};"))
            .location("return 200 \"$uri\\n\";")
    };
    let servers = [server(taking, "on"), server(refusing, "off")];
    let _nginx = Nginx::start(1, "", &servers).unwrap();
    let client = Client::new(Profile {
        server_name: Some(names.name(0)),
        ..Profile::default()
    })
    .unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    let mut made = Vec::new();
    for _ in 0..5 {
        for (port, kind) in [
            (taking, Ask::Full),
            (taking, Ask::Early),
            (taking, Ask::Full),
            // The session allows early data; this server does not.
            (refusing, Ask::Early),
            (taking, Ask::Full),
            (taking, Ask::Resumed),
        ] {
            let (local, taken) = ask(&client, port, kind);
            assert_eq!(
                taken,
                (port, kind) == (taking, Ask::Early),
                "the fixtures: {kind:?} at {port}"
            );
            let early_data = EarlyData {
                offered: Some(kind == Ask::Early),
                sent: (kind == Ask::Early).then_some(true),
                accepted: (kind == Ask::Early).then_some(taken),
            };
            made.push(((local, port), kind, early_data));
        }
    }
    let records = trace
        .records_of(made.iter().map(|(ends, ..)| ends), Duration::from_secs(20))
        .unwrap();
    for (ends, kind, early_data) in &made {
        let record = &records[ends];
        assert_eq!(record.early_data, *early_data, "{kind:?} {record:?}");
        assert_eq!(record.tls.resumed, *kind != Ask::Full, "{record:?}");
    }
    assert!(trace.finish(Signal::TERM).unwrap().success());
}

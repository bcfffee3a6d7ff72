#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use axum::http::HeaderValue;
use expect_test::expect;

use super::*;
use crate::core::aggregate::AggregateConfig;
use crate::core::record::{Alert, Handshake, Method, ServerName, Source, Spared};
use crate::core::sample;
use crate::export::EventLoss;
use crate::tap::Tap;

pub(in crate::export) fn handshake(server_name: &str) -> Handshake {
    Handshake {
        established: true,
        version: Some(0x0303),
        server_name: Some(ServerName::Host(server_name.into())),
        certificate_chain_bytes: Some(2_801),
        offered: Method::Ticket,
        handshake_ns: Some(1_500_000),
        handshake_source: Some(Source::Wire),
        ..sample::bare()
    }
}

fn state() -> Arc<State> {
    let state = State::new(
        AggregateConfig::default(),
        vec![("pop".into(), "fra1".into())],
    );
    state.record(&handshake("example.com"), Some("nginx"), 0);
    let refused = Handshake {
        established: false,
        version: None,
        handshake_ns: None,
        certificate_chain_bytes: None,
        early_data_offered: true,
        ech_offered: true,
        early_data_accepted: Some(false),
        alert: Some(Alert {
            level: Some(2),
            description: Some(40),
            sent: true,
        }),
        ..handshake("example.com")
    };
    state.record(&refused, Some("a \"b\"\n"), 0);
    state.set_events(Tap::Wire, 7);
    state.set_events_lost(Tap::Wire, EventLoss::RingFull, 2);
    state.set_coverage(Tap::Wire, 9, 10);
    state.set_libraries([
        ("libssl.so.3".into(), "3.0.17".into()),
        ("libssl.so.3".into(), "3.0.17".into()),
    ]);
    state.set_probe_hit("SSL_do_handshake", 1_700_000_000.5);
    Arc::new(state)
}

fn render(state: &Arc<State>, format: Format) -> Vec<u8> {
    let mut body = Vec::new();
    write(state, format, &mut body).unwrap();
    body
}

/// The lines that begin with one of `prefixes`, as they stand.
fn lines(body: &str, prefixes: &[&str]) -> String {
    let named = |line: &&str| {
        let name = line
            .strip_prefix("# HELP ")
            .or_else(|| line.strip_prefix("# TYPE "))
            .unwrap_or(line);
        // The time is another each time.
        let is_clock = name.starts_with("resumetry_clock_timestamp_seconds");
        prefixes.iter().any(|prefix| name.starts_with(prefix)) && !is_clock
    };
    body.lines()
        .filter(named)
        .map(|line| format!("{line}\n"))
        .collect()
}

fn body(state: &Arc<State>, format: Format) -> String {
    String::from_utf8(render(state, format)).unwrap()
}

/// What `prometheus-client` writes of what is observed.
fn by_the_library(state: &Arc<State>, format: Format) -> String {
    let mut body = String::new();
    for registry in Scrape::of(state, true).registries() {
        text::by_the_library(&mut body, &registry, format).unwrap();
    }
    body
}

#[test]
fn all_formats_are_what_the_library_writes_byte_by_byte() {
    // Between name and labels stands `le` in one of the formats, behind all in the other.
    for (format, labels) in [
        (Format::OpenMetrics, Vec::new()),
        (
            Format::Prometheus,
            vec![("pop".into(), "a\\b\"c\nd".into())],
        ),
    ] {
        let state = State::new(AggregateConfig::default(), labels);
        for (number, service) in ["nginx", "a \"b\"\n\\", "ü"].into_iter().enumerate() {
            for resumed in [false, true] {
                let number = number as u64 + u64::from(resumed);
                let handshake = Handshake {
                    resumed,
                    early_data_offered: resumed,
                    handshake_ns: Some(1_234_567_890 >> (number * 7)),
                    time_to_first_byte_ns: Some(1 << (number * 12)),
                    cpu_ns: Some(3_600_000_000_000 * number),
                    ticket_age_ns: Some(7 * 86_400_000_000_000),
                    primitives_ns: (number == 1).then_some([1, 20_000, 3, 0, 5_000_000]),
                    spared: Some(Spared {
                        wait_ns: Some(number * 1_000_001),
                        cpu_ns: None,
                    }),
                    ..handshake(&format!("{number}.example.com"))
                };
                state.record(&handshake, Some(service), 0);
            }
        }
        let state = Arc::new(state);
        let mut messages = Vec::new();
        for part in tls::PARTS {
            let part = Scrape::of(&state, true).registry(part);
            messages.extend(prometheus_protobuf::encode_to_vec(&part).unwrap());
        }
        // What follows is of the agent itself.
        let ours = render(&state, Format::Protobuf);
        assert!(messages.len() > 5_000 && ours.starts_with(&messages));
        let observed = |body: String| lines(&body, &["tls_"]);
        let ours = observed(body(&state, format));
        assert!(ours.lines().count() > 300, "{ours}");
        assert_eq!(ours, observed(by_the_library(&state, format)));
    }
}

#[test]
fn plain_text_names_counters_with_their_suffix() {
    let body = body(&state(), Format::Prometheus);
    expect![[r##"
        # HELP tls_handshakes_total Finished TLS handshakes, failed ones included.
        # TYPE tls_handshakes_total counter
        tls_handshakes_total{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",offered="ticket",result="full"} 1
        tls_handshakes_total{pop="fra1",role="server",server_name="example.com",service="a \"b\"\n",transport="tcp",version="unknown",offered="ticket",result="failed"} 1
        # HELP tls_handshake_duration_seconds First byte of the ClientHello to the end of the handshake at the server.
        # TYPE tls_handshake_duration_seconds histogram
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.00025"} 0
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.0005"} 0
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.001"} 0
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.0025"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.005"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.01"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.025"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.05"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.1"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.25"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="0.5"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="1"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="2.5"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="5"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="10"} 1
        tls_handshake_duration_seconds_bucket{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full",le="+Inf"} 1
        tls_handshake_duration_seconds_sum{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full"} 0.0015
        tls_handshake_duration_seconds_count{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",result="full"} 1
        # HELP tls_time_to_first_byte_seconds TCP established to the first byte of the response, as the client sees it (connections sampled by --responses).
        # TYPE tls_time_to_first_byte_seconds histogram
        # HELP tls_handshake_cpu_seconds On-CPU time of the serving thread inside the handshake (sampled by --handshake-calls).
        # TYPE tls_handshake_cpu_seconds histogram
        # HELP tls_crypto_cpu_seconds_total On-CPU time in cryptographic primitives of handshakes, estimated from those timed in windows (--primitives): each stands for all of its kind since the last.
        # TYPE tls_crypto_cpu_seconds_total counter
        # HELP tls_time_to_first_byte_gap_seconds Time to first byte of full handshakes less that of resumed ones, of the last five to ten minutes: between connections of like distance, without the server's thinking (matched), and between all (plain).
        # TYPE tls_time_to_first_byte_gap_seconds gauge
        # HELP tls_resumption_saved_wait_seconds_total Time to first byte that resumed handshakes spared, against full ones of the same service; absent before enough of both were measured.
        # TYPE tls_resumption_saved_wait_seconds_total counter
        # HELP tls_resumption_saved_cpu_seconds_total CPU time in handshakes that resumed ones spared, against full ones of the same service; absent before enough of both were measured.
        # TYPE tls_resumption_saved_cpu_seconds_total counter
        # HELP tls_resumption_lost_wait_seconds_total Time to first byte that refused offers to resume cost, by reason of the refusal.
        # TYPE tls_resumption_lost_wait_seconds_total counter
        # HELP tls_resumption_lost_cpu_seconds_total CPU time in handshakes that refused offers to resume cost, by reason of the refusal.
        # TYPE tls_resumption_lost_cpu_seconds_total counter
        # HELP tls_resumption_rejections_total Offers to resume that the server refused, by reason.
        # TYPE tls_resumption_rejections_total counter
        # HELP tls_ticket_age_seconds Age of the session in an offered ticket that the server could decrypt.
        # TYPE tls_ticket_age_seconds histogram
        # HELP tls_early_data_total Handshakes with early data (0-RTT) by what became of it.
        # TYPE tls_early_data_total counter
        tls_early_data_total{pop="fra1",role="server",server_name="example.com",service="a \"b\"\n",transport="tcp",status="offered"} 1
        tls_early_data_total{pop="fra1",role="server",server_name="example.com",service="a \"b\"\n",transport="tcp",status="rejected"} 1
        # HELP tls_encrypted_client_hello_offers_total Handshakes whose ClientHello holds another one, encrypted (ECH), or pretends to (GREASE): their server name is the outer one.
        # TYPE tls_encrypted_client_hello_offers_total counter
        tls_encrypted_client_hello_offers_total{pop="fra1",role="server",server_name="example.com",service="a \"b\"\n",transport="tcp"} 1
        # HELP tls_alerts_total Alerts that ended a handshake, by description (IANA) and as seen by the process.
        # TYPE tls_alerts_total counter
        tls_alerts_total{pop="fra1",role="server",server_name="example.com",service="a \"b\"\n",transport="tcp",description="handshake_failure",direction="sent"} 1
        # HELP tls_tickets_total Session tickets by the key that they name, issued (TLS 1.2 only), accepted and refused.
        # TYPE tls_tickets_total counter
        tls_tickets_total{pop="fra1",service="nginx",key="_none",event="rejected"} 1
        # HELP tls_ticket_key_refused_early_total Tickets whose key this service did not hold although it had issued or accepted tickets of the key that were still to be accepted: retired too early.
        # TYPE tls_ticket_key_refused_early_total counter
        # HELP tls_ticket_key_weak 1 where the ticket key can be guessed, 0 where it was tried and is none of the known ones (--check-weak-keys).
        # TYPE tls_ticket_key_weak gauge
        # HELP tls_ticket_key_first_seen_timestamp_seconds When this service was first seen to issue, accept or refuse a ticket of this key.
        # TYPE tls_ticket_key_first_seen_timestamp_seconds gauge
        tls_ticket_key_first_seen_timestamp_seconds{pop="fra1",service="nginx",key="_none"} 0.0
        # HELP tls_ticket_key_last_accepted_timestamp_seconds When this service last resumed from a ticket of this key.
        # TYPE tls_ticket_key_last_accepted_timestamp_seconds gauge
        # HELP tls_ticket_key_last_issued_timestamp_seconds When this service was last seen to issue a ticket of this key (TLS 1.2 only).
        # TYPE tls_ticket_key_last_issued_timestamp_seconds gauge
        # HELP tls_tickets_reoffered_total Offered tickets that had been offered before: clients that do not use them once.
        # TYPE tls_tickets_reoffered_total counter
        # HELP tls_server_certificate_chain_bytes Length of the server's last Certificate message (TLS 1.2 and older).
        # TYPE tls_server_certificate_chain_bytes gauge
        tls_server_certificate_chain_bytes{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp"} 2801
    "##]].assert_eq(&lines(&body, &["tls_"]));
    assert!(!body.contains("# EOF"));
}

#[test]
fn open_metrics_names_families_without_suffix_and_ends_with_eof() {
    let body = body(&state(), Format::OpenMetrics);
    expect![[r##"
        # HELP tls_handshakes Finished TLS handshakes, failed ones included.
        # TYPE tls_handshakes counter
        tls_handshakes_total{pop="fra1",role="server",server_name="example.com",service="nginx",transport="tcp",version="1.2",offered="ticket",result="full"} 1
        tls_handshakes_total{pop="fra1",role="server",server_name="example.com",service="a \"b\"\n",transport="tcp",version="unknown",offered="ticket",result="failed"} 1
        # HELP tls_early_data Handshakes with early data (0-RTT) by what became of it.
        # TYPE tls_early_data counter
        tls_early_data_total{pop="fra1",role="server",server_name="example.com",service="a \"b\"\n",transport="tcp",status="offered"} 1
        tls_early_data_total{pop="fra1",role="server",server_name="example.com",service="a \"b\"\n",transport="tcp",status="rejected"} 1
        # HELP tls_alerts Alerts that ended a handshake, by description (IANA) and as seen by the process.
        # TYPE tls_alerts counter
        tls_alerts_total{pop="fra1",role="server",server_name="example.com",service="a \"b\"\n",transport="tcp",description="handshake_failure",direction="sent"} 1
    "##]].assert_eq(&lines(
        &body,
        &["tls_handshakes", "tls_early", "tls_alerts"],
    ));
    assert!(body.ends_with("# EOF\n"));
    assert_eq!(body.matches("# EOF").count(), 1);
}

#[test]
fn self_metrics_start_at_zero_for_every_tap_and_reason() {
    let body = body(&state(), Format::Prometheus);
    expect![[r##"
        # HELP resumetry_events_total Events that a tap submitted.
        # TYPE resumetry_events_total counter
        resumetry_events_total{tap="wire"} 7
        resumetry_events_total{tap="library"} 0
        resumetry_events_total{tap="socket"} 0
        # HELP resumetry_events_lost_total Events of a tap that were lost.
        # TYPE resumetry_events_lost_total counter
        resumetry_events_lost_total{tap="wire",reason="ring_full"} 2
        resumetry_events_lost_total{tap="wire",reason="map_full"} 0
        resumetry_events_lost_total{tap="wire",reason="load_failed"} 0
        resumetry_events_lost_total{tap="wire",reason="undecodable"} 0
        resumetry_events_lost_total{tap="library",reason="ring_full"} 0
        resumetry_events_lost_total{tap="library",reason="map_full"} 0
        resumetry_events_lost_total{tap="library",reason="load_failed"} 0
        resumetry_events_lost_total{tap="library",reason="undecodable"} 0
        resumetry_events_lost_total{tap="socket",reason="ring_full"} 0
        resumetry_events_lost_total{tap="socket",reason="map_full"} 0
        resumetry_events_lost_total{tap="socket",reason="load_failed"} 0
        resumetry_events_lost_total{tap="socket",reason="undecodable"} 0
        # HELP resumetry_coverage_ratio Handshakes fully described over handshakes counted in the kernel.
        # TYPE resumetry_coverage_ratio gauge
        resumetry_coverage_ratio{tap="wire"} 0.9
        # HELP resumetry_handshakes_lost_total Handshakes that were seen but could not be described.
        # TYPE resumetry_handshakes_lost_total counter
        resumetry_handshakes_lost_total{reason="events_lost"} 0
        resumetry_handshakes_lost_total{reason="truncated"} 0
        resumetry_handshakes_lost_total{reason="evicted"} 0
        # HELP resumetry_unfollowed_handshakes_total ClientHellos of protocols that are recognised and not followed.
        # TYPE resumetry_unfollowed_handshakes_total counter
        resumetry_unfollowed_handshakes_total{protocol="dtls"} 0
        # HELP resumetry_libraries_attached TLS library files that probes are attached to.
        # TYPE resumetry_libraries_attached gauge
        resumetry_libraries_attached{library="libssl.so.3",version="3.0.17"} 2
        # HELP resumetry_probe_last_hit_timestamp_seconds When a probe last fired, Unix time.
        # TYPE resumetry_probe_last_hit_timestamp_seconds gauge
        resumetry_probe_last_hit_timestamp_seconds{probe="SSL_do_handshake"} 1700000000.5
        # HELP resumetry_probe_hits_total Runs of a probe, by what they had to do.
        # TYPE resumetry_probe_hits_total counter
        resumetry_probe_hits_total{probe="wire_passed"} 0
        resumetry_probe_hits_total{probe="wire_headers"} 0
        resumetry_probe_hits_total{probe="wire_copied"} 0
        resumetry_probe_hits_total{probe="socket_passed"} 0
        resumetry_probe_hits_total{probe="socket_established"} 0
        resumetry_probe_hits_total{probe="handshake_enter"} 0
        resumetry_probe_hits_total{probe="handshake_return"} 0
        resumetry_probe_hits_total{probe="machine_begin"} 0
        resumetry_probe_hits_total{probe="machine_end"} 0
        resumetry_probe_hits_total{probe="primitive_begin"} 0
        resumetry_probe_hits_total{probe="primitive_end"} 0
        resumetry_probe_hits_total{probe="ticket"} 0
        resumetry_probe_hits_total{probe="lookup"} 0
        resumetry_probe_hits_total{probe="exec"} 0
        # HELP resumetry_probe_cost_seconds_total Estimated CPU time that the runs of a probe took.
        # TYPE resumetry_probe_cost_seconds_total counter
        resumetry_probe_cost_seconds_total{probe="wire_passed"} 0.0
        resumetry_probe_cost_seconds_total{probe="wire_headers"} 0.0
        resumetry_probe_cost_seconds_total{probe="wire_copied"} 0.0
        resumetry_probe_cost_seconds_total{probe="socket_passed"} 0.0
        resumetry_probe_cost_seconds_total{probe="socket_established"} 0.0
        resumetry_probe_cost_seconds_total{probe="handshake_enter"} 0.0
        resumetry_probe_cost_seconds_total{probe="handshake_return"} 0.0
        resumetry_probe_cost_seconds_total{probe="machine_begin"} 0.0
        resumetry_probe_cost_seconds_total{probe="machine_end"} 0.0
        resumetry_probe_cost_seconds_total{probe="primitive_begin"} 0.0
        resumetry_probe_cost_seconds_total{probe="primitive_end"} 0.0
        resumetry_probe_cost_seconds_total{probe="ticket"} 0.0
        resumetry_probe_cost_seconds_total{probe="lookup"} 0.0
        resumetry_probe_cost_seconds_total{probe="exec"} 0.0
        # HELP resumetry_probe_shed 1 while a group of probes is left out because watching costs too much.
        # TYPE resumetry_probe_shed gauge
        resumetry_probe_shed{probe="handshake_calls"} 0
        resumetry_probe_shed{probe="tickets"} 0
        # HELP resumetry_server_names Server names that have series of their own.
        # TYPE resumetry_server_names gauge
        resumetry_server_names 1
        # HELP resumetry_build_info 1; the build is in the labels.
        # TYPE resumetry_build_info gauge
        resumetry_build_info{version="0.1.0",arch="x86_64"} 1
        # HELP resumetry_finding 1 for each rule of good ticket practice that is broken; `resumetry findings` says more.
        # TYPE resumetry_finding gauge
    "##]].assert_eq(&lines(&body, &["resumetry_"]));
}

#[test]
fn process_metrics_bear_their_usual_names() {
    let body = body(&state(), Format::Prometheus);
    for name in [
        "process_cpu_seconds_total",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
    ] {
        assert!(
            body.lines()
                .any(|line| line.starts_with(&format!("{name} "))),
            "{name}"
        );
    }
}

#[test]
fn self_counters_never_fall() {
    let state = state();
    state.set_events(Tap::Wire, 5);
    let body = body(&state, Format::Prometheus);
    assert!(body.contains("resumetry_events_total{tap=\"wire\"} 7\n"));
}

#[test]
fn coverage_is_one_when_nothing_was_counted_and_never_more() {
    for (described, counted, ratio) in [(0, 0, "1"), (0, 4, "0"), (3, 4, "0.75"), (5, 4, "1")] {
        let state = Arc::new(State::new(AggregateConfig::default(), Vec::new()));
        state.set_coverage(Tap::Wire, described, counted);
        let body = body(&state, Format::Prometheus);
        let line = body
            .lines()
            .find(|line| line.starts_with("resumetry_coverage_ratio{tap=\"wire\"}"));
        let value: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(value, ratio.parse::<f64>().unwrap());
    }
}

#[test]
fn negotiates_open_metrics_only_where_it_is_preferred() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,\
                      application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, format) in [
        (Some(prometheus), Format::OpenMetrics),
        (Some("application/openmetrics-text"), Format::OpenMetrics),
        (
            Some("text/plain, application/openmetrics-text;q=0.5"),
            Format::Prometheus,
        ),
        (Some("application/openmetrics-text;q=0"), Format::Prometheus),
        (
            Some("application/openmetrics-text;q=soon"),
            Format::Prometheus,
        ),
        (Some("text/html,*/*;q=0.8"), Format::Prometheus),
        (Some(";;,,=q"), Format::Prometheus),
        (None, Format::Prometheus),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        assert_eq!(Format::negotiate(&headers), format, "{accept:?}");
    }
}

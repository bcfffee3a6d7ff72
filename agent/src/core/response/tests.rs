use super::*;
use crate::core::sample;

/// Protection of TLS 1.3: inner type and tag.
const ADDED: u16 = 17;
const TICKET: u16 = 255;
const RESPONSE: u16 = 900;
const HANDSHAKE_NS: u64 = 1_000_000;

/// What happened behind a handshake, times in microseconds from the ClientHello on.
enum Step {
    Ask(u64),
    Send(u64, u16),
    /// Before the client's Finished.
    Early(u64, u16),
}
use Step::{Ask, Early, Send};

/// A resumed handshake of TLS 1.3 that took a millisecond, seen by the wire, and HTTP/1.1.
fn handshake(steps: &[Step]) -> Handshake {
    let start = sample::resumed().client_hello_ns;
    let mut answer = Answer::default();
    for step in steps {
        match *step {
            Ask(at) => answer.ask(start + at * 1000),
            Send(at, length) => answer.add(start + at * 1000, length, false),
            Early(at, length) => answer.add(start + at * 1000, length, true),
        }
    }
    Handshake {
        established_to_client_hello_ns: Some(0),
        handshake_ns: Some(HANDSHAKE_NS),
        handshake_source: Some(Source::Wire),
        ticket_age_ns: None,
        early_data_offered: false,
        early_data_sent: None,
        time_to_first_byte_ns: None,
        time_to_first_byte_source: None,
        response_wait_ns: None,
        rtt_ns: Some(0),
        http2: Some(false),
        answer: Some(Box::new(answer)),
        ..sample::resumed()
    }
}

/// Microseconds to the first byte.
fn judge(responses: &mut Responses, mut handshake: Handshake) -> Option<u64> {
    responses.complete(&mut handshake, Some(&sample::process()));
    handshake.time_to_first_byte_ns.map(|ns| ns / 1000)
}

fn judged(handshake: Handshake) -> Option<u64> {
    judge(&mut Responses::default(), handshake)
}

fn by_library(handshake: Handshake) -> Handshake {
    Handshake {
        handshake_source: Some(Source::Library),
        ..handshake
    }
}

#[test]
fn tickets_sent_before_the_library_returned_are_no_response() {
    let steps = [
        Ask(900),
        Send(950, TICKET),
        Send(960, TICKET),
        Send(3_000, RESPONSE),
    ];
    assert_eq!(judged(by_library(handshake(&steps))), Some(3_000));
}

#[test]
fn response_of_the_length_of_a_ticket_is_a_response_behind_the_library_s_end() {
    let steps = [Ask(900), Send(950, TICKET), Send(3_000, TICKET)];
    assert_eq!(judged(by_library(handshake(&steps))), Some(3_000));
}

#[test]
fn what_came_before_the_first_request_is_no_response() {
    let steps = [Send(1_100, TICKET), Ask(2_000), Send(9_000, RESPONSE)];
    assert_eq!(judged(handshake(&steps)), Some(9_000));
}

#[test]
fn record_behind_a_request_is_no_response_before_the_habit_is_known() {
    let steps = [Ask(1_000), Send(1_100, TICKET), Send(9_000, RESPONSE)];
    assert_eq!(judged(handshake(&steps)), None);
}

#[test]
fn habit_of_a_service_tells_tickets_from_the_response() {
    let mut responses = Responses::default();
    for _ in 0..3 {
        let patient = [
            Send(1_100, TICKET),
            Send(1_110, TICKET),
            Ask(2_000),
            Send(9_000, RESPONSE),
        ];
        assert_eq!(judge(&mut responses, handshake(&patient)), Some(9_000));
    }
    let eager = [
        Ask(1_000),
        Send(1_100, TICKET),
        Send(1_110, TICKET),
        Send(9_000, RESPONSE),
    ];
    assert_eq!(judge(&mut responses, handshake(&eager)), Some(9_000));
    let one_ticket = [Ask(1_000), Send(1_100, TICKET), Send(9_000, RESPONSE)];
    assert_eq!(judge(&mut responses, handshake(&one_ticket)), None);
}

#[test]
fn habit_that_changes_is_forgotten_before_it_misleads_for_long() {
    let mut responses = Responses::default();
    let of = |tickets: usize| {
        let mut steps = vec![Ask(900)];
        steps.extend((0..tickets as u64).map(|n| Send(950 + n, TICKET)));
        steps.push(Send(3_000, RESPONSE));
        by_library(handshake(&steps))
    };
    for _ in 0..100 {
        judge(&mut responses, of(2));
    }
    let eager = || handshake(&[Ask(1_000), Send(1_100, TICKET), Send(9_000, RESPONSE)]);
    judge(&mut responses, of(1));
    assert_eq!(judge(&mut responses, eager()), None);
    for _ in 0..400 {
        judge(&mut responses, of(1));
    }
    assert_eq!(judge(&mut responses, eager()), Some(9_000));
}

#[test]
fn settings_of_http2_are_no_response() {
    let steps = [
        Send(1_100, TICKET),
        Send(1_110, 40 + ADDED),
        Ask(2_000),
        Send(2_100, 9 + ADDED),
        Ask(2_200),
        Send(9_000, 120 + ADDED),
    ];
    let http2 = Handshake {
        http2: Some(true),
        ..handshake(&steps)
    };
    assert_eq!(judged(http2), Some(9_000));
}

#[test]
fn record_that_may_be_settings_or_a_short_response_tells_nothing() {
    let steps = [Ask(900), Send(2_000, 27 + ADDED), Send(9_000, RESPONSE)];
    let unknown = Handshake {
        http2: None,
        ..by_library(handshake(&steps))
    };
    assert_eq!(judged(unknown), None);
    let http1 = by_library(handshake(&steps));
    assert_eq!(judged(http1), Some(2_000));
}

#[test]
fn answer_to_early_data_is_the_response_at_openssl() {
    let steps = [Ask(0), Early(700, RESPONSE), Send(1_500, TICKET)];
    let known = Handshake {
        ticket_age_ns: Some(1),
        ..handshake(&steps)
    };
    assert_eq!(judged(known), Some(700));
    assert_eq!(judged(handshake(&steps)), None);
}

#[test]
fn answer_to_early_data_may_come_before_the_tickets() {
    let mut responses = Responses::default();
    for _ in 0..3 {
        let patient = [Send(1_100, TICKET), Ask(2_000), Send(9_000, RESPONSE)];
        judge(&mut responses, handshake(&patient));
    }
    let early = |steps: &[Step]| Handshake {
        early_data_offered: true,
        ..handshake(steps)
    };
    let before = [Ask(0), Send(1_100, RESPONSE), Send(1_500, TICKET)];
    assert_eq!(judge(&mut responses, early(&before)), Some(1_100));
    let behind = [Ask(0), Send(1_100, TICKET), Send(9_000, RESPONSE)];
    assert_eq!(judge(&mut responses, early(&behind)), Some(9_000));
    // A ticket for another name is longer, and no response.
    let longer = [Ask(0), Send(1_100, TICKET + 16), Send(9_000, RESPONSE)];
    assert_eq!(judge(&mut responses, early(&longer)), None);
    // Without early data there is no such order.
    assert_eq!(judge(&mut responses, handshake(&before)), None);
}

#[test]
fn tls12_has_its_tickets_in_clear_text() {
    let steps = [Ask(2_000), Send(9_000, RESPONSE)];
    let old = Handshake {
        version: Some(0x0303),
        cipher: Some(0xc02f),
        ..handshake(&steps)
    };
    assert_eq!(judged(old), Some(9_000));
}

#[test]
fn server_s_end_adds_the_way_and_the_client_s_does_not() {
    let steps = [Send(1_100, TICKET), Ask(2_000), Send(9_000, RESPONSE)];
    let far = |role| Handshake {
        role,
        rtt_ns: Some(80_000_000),
        established_to_client_hello_ns: Some(500_000),
        ..handshake(&steps)
    };
    assert_eq!(judged(far(Role::Server)), Some(89_500));
    assert_eq!(judged(far(Role::Client)), Some(9_500));
    let unknown = Handshake {
        rtt_ns: None,
        ..far(Role::Server)
    };
    assert_eq!(judged(unknown), None);
}

#[test]
fn time_that_the_server_thought_counts_from_the_last_of_the_request() {
    let steps = [
        Send(1_100, TICKET),
        Ask(2_000),
        Ask(2_500),
        Send(9_000, RESPONSE),
    ];
    let mut handshake = handshake(&steps);
    Responses::default().complete(&mut handshake, None);
    assert_eq!(handshake.response_wait_ns, Some(6_500_000));
}

#[test]
fn control_frames_have_few_lengths() {
    for length in [9, 13, 15, 17, 22, 27, 33, 40, 58, 26] {
        assert!(is_control(length), "{length}");
    }
    for length in [0, 8, 10, 57, 60, 80, 255] {
        assert!(!is_control(length), "{length}");
    }
}

#[test]
fn memory_of_habits_is_bounded() {
    let mut responses = Responses::default();
    for number in 0..3 * MAX_SERVICES {
        let process = Process {
            service: Some(number.to_string()),
            ..sample::process()
        };
        let steps = [Send(1_100, TICKET), Ask(2_000), Send(9_000, RESPONSE)];
        responses.complete(&mut handshake(&steps), Some(&process));
    }
    assert!(responses.habits.len() <= MAX_SERVICES);
}

//! From a conversation to its record.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use agent_common::flow::FlowKey;
use agent_common::primitive;

use super::conversation::{Conversation, End, Moment};
use super::decisions;
use crate::core::fingerprint::Fingerprinter;
use crate::core::record::{Alert, Failure, Handshake, Method, Role, Source, Transport};
use crate::core::tls::client_hello::SessionId;
use crate::core::weak_keys::WeakKeys;

/// What is known of a connection beside its conversation; see [`Handshake`] for each field.
pub struct Setting {
    pub key: FlowKey,
    pub role: Role,
    pub transport: Transport,
    /// The client that PROXY protocol announced.
    pub announced: Option<SocketAddr>,
    pub pid: Option<u32>,
    /// When the first byte of the ClientHello came, nanoseconds.
    pub hello_ns: u64,
    /// When TCP was established, nanoseconds.
    pub established_ns: Option<u64>,
    /// It was followed to its first response.
    pub is_followed: bool,
    pub cpu_ns: Option<u64>,
    pub primitives_ns: Option<[u64; primitive::COUNT]>,
    pub rtt_ns: Option<u64>,
    /// How far the connection has come, where its handshake was never over.
    pub latest: Moment,
}

/// The record of a conversation that is over. `weak_keys` tries the key of an accepted ticket.
pub fn describe(
    talk: &mut Conversation,
    setting: Setting,
    fingerprinter: &Fingerprinter,
    weak_keys: Option<&mut WeakKeys>,
) -> Handshake {
    let established = talk.established();
    let (offered, ticket) = talk.offered();
    let end = established.map(|(at, _)| at);
    let key = &setting.key;
    let local = socket_address(key.local_address, key.local_port);
    let remote = socket_address(key.remote_address, key.remote_port);
    let (peer, server) = match setting.role {
        Role::Client => (local, remote),
        Role::Server | Role::Observer => (remote, local),
    };
    let observed = match setting.role {
        Role::Client => End::Client,
        Role::Server | Role::Observer => End::Server,
    };
    let alert = match established {
        Some(_) => None,
        None => talk.alert.map(|alert| Alert {
            level: alert.level,
            description: alert.description,
            sent: alert.from == observed,
        }),
    };
    let is_selected = established.is_some() || talk.failure == Some(Failure::Unfinished);
    let resumed = is_selected && talk.resumed == Some(true);
    let group = talk.group();
    let tickets_issued = talk.tickets_issued();
    let issued = talk.issued;
    let issued_key = issued
        .and_then(|issued| issued.ticket.key_name)
        .map(|name| fingerprinter.ticket_key(&name));
    let ocsp_stapled = established.and_then(|_| talk.ocsp_stapled());
    let early_data_sent = talk.early_data_sent();
    let early_data_accepted = talk.early_data_accepted();
    let method = match resumed {
        true => talk.method(),
        false => Method::None,
    };
    // A client does not know why.
    let refusal = talk.refusal().filter(|_| setting.role == Role::Server);
    let offers_resumption = talk.offers_resumption();
    let hash = |id: SessionId| fingerprinter.identity(id.as_bytes());
    let (offered_id, issued_id) = talk.session_ids();
    let (offered_session_id, issued_session_id) = (offered_id.map(hash), issued_id.map(hash));
    let (ticket_age_ns, ticket_lifetime_ns) = talk
        .decided
        .as_ref()
        .filter(|_| ticket.is_some())
        .map_or((None, None), decisions::age_and_lifetime);
    let ticket_key = ticket
        .and_then(|ticket| ticket.key_name)
        .map(|name| fingerprinter.ticket_key(&name));
    let weak_key = match (weak_keys, ticket_key, talk.accepted_ticket()) {
        (Some(weak_keys), Some(key), Some(ticket)) => {
            weak_keys.judge(key, ticket, setting.hello_ns)
        }
        _ => None,
    };
    let offered_ticket = ticket
        .and_then(|ticket| ticket.tail)
        .map(|tail| fingerprinter.identity(&tail));
    let http2 = talk.http2();
    let is_measured = setting.is_followed && established.is_some();
    let answer = is_measured.then(|| Box::new(std::mem::take(&mut talk.answer)));
    let hello = talk.hello.take().unwrap_or_default();
    let hello_retry = talk.hello_retry;
    let (version, cipher, next_protocol) = match talk.server.take() {
        Some(server) => (Some(server.version), Some(server.cipher), server.protocol),
        None => (None, None, None),
    };
    let moment = end.unwrap_or(setting.latest);
    Handshake {
        client_hello_ns: setting.hello_ns,
        role: setting.role,
        transport: setting.transport,
        client: setting.announced.unwrap_or(peer),
        server,
        peer: setting.announced.map(|_| peer),
        netns: setting.key.netns,
        pid: setting.pid,
        established: established.is_some(),
        failure: talk.failure,
        resumed,
        version,
        cipher,
        group,
        next_protocol,
        server_name: hello.server_name,
        supported_protocols: hello.protocols,
        ech_offered: hello.encrypted_client_hello,
        hello_retry,
        alert,
        certificate_chain_bytes: talk.certificate_bytes,
        ocsp_stapled,
        asks_for_status: hello.asks_for_status,
        takes_tickets: hello.ticket.is_some(),
        offers_tls13: hello.offers_tls13,
        offers_ecdsa: hello.offers_ecdsa,
        offered,
        method,
        reject_reason: refusal,
        reject_source: refusal.map(|_| Source::Library),
        wire_reason: None,
        ticket_age_ns,
        ticket_lifetime_ns,
        ticket_key,
        weak_key,
        ticket_bytes: ticket.map(|ticket| ticket.bytes),
        tickets_issued,
        tickets_sent: None,
        issued_key,
        issued_lifetime_ns: issued
            .and_then(|issued| issued.lifetime_s)
            .map(|seconds| u64::from(seconds) * 1_000_000_000),
        offers_resumption,
        offered_session_id,
        offered_ticket,
        ticket_reoffered: false,
        issued_session_id,
        early_data_offered: hello.early_data,
        early_data_sent,
        early_data_accepted,
        established_to_client_hello_ns: setting
            .established_ns
            .and_then(|at| setting.hello_ns.checked_sub(at)),
        handshake_ns: end.and_then(|at| at.time_ns.checked_sub(setting.hello_ns)),
        handshake_source: established.map(|(_, source)| source),
        time_to_first_byte_ns: None,
        time_to_first_byte_source: None,
        response_wait_ns: None,
        answer,
        spared: None,
        cpu_ns: setting.cpu_ns,
        primitives_ns: setting.primitives_ns,
        http2,
        rtt_ns: setting.rtt_ns,
        client_bytes: moment.client_bytes,
        server_bytes: moment.server_bytes,
    }
}

fn socket_address(address: [u8; 16], port: u16) -> SocketAddr {
    let address = IpAddr::V6(Ipv6Addr::from(address)).to_canonical();
    SocketAddr::new(address, port)
}

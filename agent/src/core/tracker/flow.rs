//! One connection in its handshake: two streams, their records, and the conversation over them.

mod library;

pub use library::LibraryEnd;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use agent_common::event::{INGRESS, SEGMENT_FIN, SEGMENT_FOLLOWED, SEGMENT_LAST, SEGMENT_RST};
use agent_common::flow::FlowKey;

use super::calls::{Calls, CpuTime, PrimitiveTimes};
use super::conversation::{Conversation, End, Moment};
use super::decisions::{self, Decisions};
use super::proxy_protocol::{self, ProxyHeader};
use crate::core::decode::Segment;
use crate::core::fingerprint::Fingerprinter;
use crate::core::record::{Alert, Failure, Handshake, Method, Role, Source, Transport};
use crate::core::stream::{Chunk, Stream};
use crate::core::tls::client_hello::SessionId;
use crate::core::tls::record::{Item, RecordError, RecordReader};
use crate::core::weak_keys::WeakKeys;

/// Why no more of a flow is expected. The later variant says more and replaces the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// The kernel forgot the flow.
    Forgotten,
    Timeout,
    Closed,
    Reset,
}

/// How a flow came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A record can be made.
    Described,
    NotTls,
    /// Events of it were lost.
    RingLoss,
    /// Bytes that matter were not copied.
    Truncated,
    /// It came too far out of order to be kept.
    Evicted,
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    stream: Stream,
    records: RecordReader,
    /// A header fell into a hole.
    is_blind: bool,
}

#[derive(Debug)]
pub struct Flow {
    pub key: FlowKey,
    role: Role,
    /// Direction of the client's segments.
    client_direction: u8,
    client: Half,
    server: Half,
    proxy: ProxyHeader,
    preface: Preface,
    pub talk: Conversation,
    hello_ns: Option<u64>,
    established_ns: u64,
    srtt_us: u32,
    /// It is followed to its first response.
    is_followed: bool,
    pub pid: Option<u32>,
    /// Process and `SSL*`, where the library tap named them.
    pub library: Option<(u32, u64)>,
    /// On-CPU time of the calls of its handshake.
    cpu: CpuTime,
    /// The same by cryptographic primitive.
    primitives: PrimitiveTimes,
    pub ending: Option<Ending>,
    /// Events lost in the kernel when the flow began.
    pub lost_before: u64,
    /// Its record was made; what follows is of no interest.
    pub is_done: bool,
}

/// What stands before the TLS records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preface {
    /// No byte came yet.
    Unknown,
    Proxy,
    Tls,
}

impl Flow {
    /// An unused flow, whose buffers [`Self::open`] reuses from connection to connection.
    pub fn unused(key: FlowKey) -> Self {
        Self {
            key,
            role: Role::Server,
            client_direction: INGRESS,
            client: Half::default(),
            server: Half::default(),
            proxy: ProxyHeader::default(),
            preface: Preface::Unknown,
            talk: Conversation::default(),
            hello_ns: None,
            established_ns: 0,
            srtt_us: 0,
            is_followed: false,
            pid: None,
            library: None,
            cpu: None,
            primitives: Some(Default::default()),
            ending: None,
            lost_before: 0,
            is_done: false,
        }
    }

    /// Begins with a `SEGMENT_HELLO`. `keeps_tickets`: whole, until its record is made.
    pub fn open(&mut self, hello: &Segment<'_>, lost_before: u64, keeps_tickets: bool) {
        self.key = hello.key;
        self.role = match hello.direction {
            INGRESS => Role::Server,
            _ => Role::Client,
        };
        self.client_direction = hello.direction;
        self.client.restart(hello.sequence);
        self.server.restart(hello.acknowledgment);
        self.proxy.restart();
        self.preface = Preface::Unknown;
        self.talk = Conversation::default();
        self.talk.keeps_tickets = keeps_tickets;
        self.hello_ns = None;
        self.established_ns = hello.established_ns;
        self.srtt_us = 0;
        self.is_followed = hello.flags & SEGMENT_FOLLOWED != 0;
        self.pid = None;
        self.library = None;
        self.cpu = None;
        self.primitives = Some(Default::default());
        self.ending = None;
        self.lost_before = lost_before;
        self.is_done = false;
    }

    /// Frees what the conversation holds; buffers stay.
    pub fn close(&mut self) {
        self.talk = Conversation::default();
        self.is_done = true;
    }

    /// The connection this `SEGMENT_HELLO` starts is the one that is tracked.
    pub fn starts_like(&self, hello: &Segment<'_>) -> bool {
        self.client_direction == hello.direction && self.client.stream.start() == hello.sequence
    }

    /// A segment may belong to this connection, judged by its sequence number.
    pub fn may_contain(&self, segment: &Segment<'_>) -> bool {
        let half = match segment.direction == self.client_direction {
            true => &self.client,
            false => &self.server,
        };
        half.stream.contains(segment.sequence)
    }

    /// Takes a segment; keeps at most `limit` bytes of each direction that are out of order.
    pub fn segment(&mut self, segment: &Segment<'_>, limit: usize) {
        // Delayed acknowledgments of what follows the handshake would count as distance.
        if segment.srtt_us != 0 && self.talk.established().is_none() {
            self.srtt_us = segment.srtt_us;
        }
        let from = match segment.direction == self.client_direction {
            true => End::Client,
            false => End::Server,
        };
        let is_reset = segment.flags & SEGMENT_RST != 0;
        let (this, other) = match from {
            End::Client => (&mut self.client, &mut self.server),
            End::Server => (&mut self.server, &mut self.client),
        };
        // A reset often carries no acknowledgment at all.
        if !is_reset {
            other.stream.acknowledge(segment.acknowledgment);
        }
        if segment.flags & SEGMENT_FIN != 0 {
            this.stream.finish(segment.sequence, segment.payload);
        }
        if segment.payload > 0 {
            self.payload(from, segment, limit);
        }
        if self.client.stream.is_closed() {
            self.talk.client_closed();
        }
        if is_reset {
            self.end(Ending::Reset);
        }
        if segment.flags & SEGMENT_LAST != 0 {
            self.end(Ending::Forgotten);
        }
        let closed_early = self.client.stream.is_closed() && self.talk.established().is_none();
        if closed_early || self.server.stream.is_closed() {
            self.end(Ending::Closed);
        }
    }

    /// Notes that no more is expected.
    pub fn end(&mut self, ending: Ending) {
        self.ending = self.ending.max(Some(ending));
    }

    /// Bytes are known to exist that never came.
    pub fn has_gap(&self) -> bool {
        self.client.stream.has_gap() || self.server.stream.has_gap()
    }

    fn payload(&mut self, from: End, segment: &Segment<'_>, limit: usize) {
        let other_bytes = match from {
            End::Client => self.server.records.position(),
            End::Server => self.client.records.position(),
        };
        let (proxy, preface) = (&mut self.proxy, &mut self.preface);
        let (talk, hello_ns) = (&mut self.talk, &mut self.hello_ns);
        let Half {
            stream,
            records,
            is_blind,
        } = match from {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        };
        let time_ns = segment.time_ns;
        stream.push(
            segment.sequence,
            segment.data,
            segment.payload,
            limit,
            |chunk| {
                let mut receive = |item: Item<'_>, own_bytes: u64| {
                    let (client_bytes, server_bytes) = match from {
                        End::Client => (own_bytes, other_bytes),
                        End::Server => (other_bytes, own_bytes),
                    };
                    talk.item(
                        from,
                        item,
                        Moment {
                            time_ns,
                            client_bytes,
                            server_bytes,
                        },
                    )
                };
                let result = match chunk {
                    Chunk::Data(data) => {
                        let data = match from {
                            End::Server => Some(data),
                            End::Client => records_behind_preface(data, proxy, preface),
                        };
                        match data {
                            None => Err(RecordError::NotARecord),
                            Some([]) => Ok(()),
                            Some(data) => {
                                if from == End::Client {
                                    hello_ns.get_or_insert(time_ns);
                                }
                                records.data(data, &mut receive)
                            }
                        }
                    }
                    Chunk::Hole(length) => records.hole(length, &mut receive),
                };
                match result {
                    Ok(()) => {}
                    Err(RecordError::LostInHole) => {
                        *is_blind = true;
                        if from == End::Client {
                            talk.lost_client(Moment {
                                time_ns,
                                client_bytes: records.position(),
                                server_bytes: other_bytes,
                            });
                        }
                    }
                    Err(RecordError::NotARecord) => talk.garbage(),
                }
            },
        );
    }

    fn moment(&self, time_ns: u64) -> Moment {
        Moment {
            time_ns,
            client_bytes: self.client.records.position(),
            server_bytes: self.server.records.position(),
        }
    }

    /// The thread sends the server's flight: what it decided since the ClientHello is about this
    /// flow. With a HelloRetryRequest it decides twice, and the second time counts.
    pub fn take_decision(&mut self, segment: &Segment<'_>, decisions: &mut Decisions) {
        let on_offer = self.talk.sessions_on_offer();
        if self.role != Role::Server || on_offer == 0 {
            return;
        }
        if let Some(hello_ns) = self.hello_ns
            && let Some(decided) =
                decisions.take(segment.pid_tgid, hello_ns, segment.time_ns, on_offer)
        {
            self.talk.decided = Some(decided);
        }
    }

    /// When TCP was established, CLOCK_MONOTONIC nanoseconds; 0 where not known.
    pub fn established_ns(&self) -> u64 {
        self.established_ns
    }

    /// When the first byte of the ClientHello came.
    pub fn hello_ns(&self) -> Option<u64> {
        self.hello_ns
    }

    /// The response to the first request is still to come.
    pub fn awaits_answer(&self) -> bool {
        self.is_followed && self.established_ns != 0 && !self.talk.answer.is_over()
    }

    /// Decides what a flow that ends now came to. `lost` is the number of events lost in the
    /// kernel so far.
    pub fn conclude(&mut self, lost: u64) -> Verdict {
        let is_blind = self.client.is_blind || self.server.is_blind;
        let overflowed = self.client.stream.overflowed() || self.server.stream.overflowed();
        let missing = |has_gap: bool| match (overflowed, has_gap) {
            (true, _) => Some(Verdict::Evicted),
            (false, true) => Some(Verdict::RingLoss),
            (false, false) => None,
        };
        if self.talk.is_not_tls {
            return Verdict::NotTls;
        }
        self.talk.conclude();
        if self.talk.established().is_some() {
            return Verdict::Described;
        }
        // An alert or garbage ends a handshake for certain, unless the other half of the story
        // is missing.
        if self.talk.failure.is_some() && self.talk.hello.is_some() {
            let gap = self.has_gap();
            return missing(gap).unwrap_or(Verdict::Described);
        }
        if is_blind {
            return Verdict::Truncated;
        }
        let gap = self.has_gap() || lost > self.lost_before;
        if let Some(verdict) = missing(gap) {
            return verdict;
        }
        if self.ending == Some(Ending::Forgotten) {
            return Verdict::Truncated;
        }
        if self.talk.hello.is_none() {
            return Verdict::NotTls;
        }
        self.talk.failure = Some(match self.ending {
            Some(Ending::Reset) => Failure::Reset,
            Some(Ending::Closed) => Failure::Closed,
            _ => Failure::Timeout,
        });
        Verdict::Described
    }

    /// The record. Only after [`Self::conclude`] said `Described`, or the conversation is certain.
    /// `weak_keys` tries the key of an accepted ticket; `calls` tells which library calls are missing.
    pub fn describe(
        &mut self,
        fingerprinter: &Fingerprinter,
        weak_keys: Option<&mut WeakKeys>,
        calls: &Calls,
    ) -> Handshake {
        let cpu_ns = self.cpu_ns(calls.lost_ns());
        let primitives_ns = self.primitives_ns(calls);
        let established = self.talk.established();
        let (offered, ticket) = self.talk.offered();
        let end = established.map(|(at, _)| at);
        let hello_ns = self.hello_ns.unwrap_or_default();
        let local = socket_address(self.key.local_address, self.key.local_port);
        let remote = socket_address(self.key.remote_address, self.key.remote_port);
        let (peer, server) = match self.role {
            Role::Client => (local, remote),
            Role::Server | Role::Observer => (remote, local),
        };
        let announced = match self.preface {
            Preface::Tls => self.proxy.client(),
            _ => None,
        };
        let observed = match self.role {
            Role::Client => End::Client,
            Role::Server | Role::Observer => End::Server,
        };
        let alert = match established {
            Some(_) => None,
            None => self.talk.alert.map(|alert| Alert {
                level: alert.level,
                description: alert.description,
                sent: alert.from == observed,
            }),
        };
        let resumed = established.is_some() && self.talk.resumed == Some(true);
        let group = self.talk.group();
        let tickets_issued = self.talk.tickets_issued();
        let issued = self.talk.issued;
        let issued_key = issued
            .and_then(|issued| issued.ticket.key_name)
            .map(|name| fingerprinter.ticket_key(&name));
        let ocsp_stapled = established.and_then(|_| self.talk.ocsp_stapled());
        let early_data_accepted = self.talk.early_data_accepted();
        let method = match resumed {
            true => self.talk.method(),
            false => Method::None,
        };
        // A client does not know why.
        let refusal = self.talk.refusal().filter(|_| self.role == Role::Server);
        let offers_resumption = self.talk.offers_resumption();
        let hash = |id: SessionId| fingerprinter.identity(id.as_bytes());
        let (offered_id, issued_id) = self.talk.session_ids();
        let (offered_session_id, issued_session_id) = (offered_id.map(hash), issued_id.map(hash));
        let (ticket_age_ns, ticket_lifetime_ns) = self
            .talk
            .decided
            .as_ref()
            .filter(|_| ticket.is_some())
            .map_or((None, None), decisions::age_and_lifetime);
        let ticket_key = ticket
            .and_then(|ticket| ticket.key_name)
            .map(|name| fingerprinter.ticket_key(&name));
        let weak_key = match (weak_keys, ticket_key, self.talk.accepted_ticket()) {
            (Some(weak_keys), Some(key), Some(ticket)) => weak_keys.judge(key, ticket, hello_ns),
            _ => None,
        };
        let offered_ticket = ticket
            .and_then(|ticket| ticket.tail)
            .map(|tail| fingerprinter.identity(&tail));
        let http2 = self.talk.http2();
        let is_measured = self.is_followed && established.is_some();
        let answer = is_measured.then(|| Box::new(std::mem::take(&mut self.talk.answer)));
        let hello = self.talk.hello.take().unwrap_or_default();
        let hello_retry = self.talk.hello_retry;
        let (version, cipher, next_protocol) = match self.talk.server.take() {
            Some(server) => (Some(server.version), Some(server.cipher), server.protocol),
            None => (None, None, None),
        };
        let moment = end.unwrap_or_else(|| self.moment(0));
        Handshake {
            client_hello_ns: hello_ns,
            role: self.role,
            transport: Transport::Tcp,
            client: announced.unwrap_or(peer),
            server,
            peer: announced.map(|_| peer),
            netns: self.key.netns,
            pid: self.pid,
            established: established.is_some(),
            failure: self.talk.failure,
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
            certificate_chain_bytes: self.talk.certificate_bytes,
            ocsp_stapled,
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
            early_data_accepted,
            established_to_client_hello_ns: match self.established_ns {
                0 => None,
                established => hello_ns.checked_sub(established),
            },
            handshake_ns: end.and_then(|at| at.time_ns.checked_sub(hello_ns)),
            handshake_source: established.map(|(_, source)| source),
            time_to_first_byte_ns: None,
            time_to_first_byte_source: None,
            response_wait_ns: None,
            answer,
            spared: None,
            cpu_ns,
            primitives_ns,
            http2,
            rtt_ns: (self.srtt_us != 0).then(|| u64::from(self.srtt_us) * 1000),
            client_bytes: moment.client_bytes,
            server_bytes: moment.server_bytes,
        }
    }
}

impl Half {
    fn restart(&mut self, start: u32) {
        self.stream.restart(start);
        self.records.restart();
        self.is_blind = false;
    }
}

/// What of `data` is TLS, behind a PROXY header where there is one; `None` where it is neither.
fn records_behind_preface<'a>(
    mut data: &'a [u8],
    proxy: &mut ProxyHeader,
    preface: &mut Preface,
) -> Option<&'a [u8]> {
    if *preface == Preface::Unknown {
        *preface = match data.first() {
            Some(&byte) if proxy_protocol::may_start_with(byte) => Preface::Proxy,
            _ => Preface::Tls,
        };
    }
    if *preface == Preface::Proxy {
        data = proxy.data(data).ok()?;
        if proxy.is_done() {
            *preface = Preface::Tls;
        }
    }
    Some(data)
}

fn socket_address(address: [u8; 16], port: u16) -> SocketAddr {
    let address = IpAddr::V6(Ipv6Addr::from(address)).to_canonical();
    SocketAddr::new(address, port)
}

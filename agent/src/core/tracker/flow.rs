//! One connection in its handshake: two streams, their records, and the conversation over them.

mod library;

pub use library::LibraryEnd;

use agent_common::event::{INGRESS, SEGMENT_FIN, SEGMENT_FOLLOWED, SEGMENT_LAST, SEGMENT_RST};
use agent_common::flow::FlowKey;

use super::calls::{Calls, CpuTime, Name, PrimitiveTimes};
use super::conversation::{Conversation, End, Moment};
use super::decisions::Decisions;
use super::describe::{Setting, describe};
use super::opening::Opening;
use super::randoms::Random;
use crate::core::decode::Segment;
use crate::core::fingerprint::Fingerprinter;
use crate::core::record::{Failure, Handshake, Role, Transport};
use crate::core::stream::{Chunk, Stream};
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
    opening: Opening,
    pub talk: Conversation,
    hello_ns: Option<u64>,
    established_ns: u64,
    srtt_us: u32,
    /// It is followed to its first response.
    is_followed: bool,
    pub pid: Option<u32>,
    /// Process and `SSL*`, where the library tap named them.
    pub library: Option<Name>,
    /// What its `SSL*` is known by, once it was asked for.
    pub random: Option<Random>,
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

impl Flow {
    /// An unused flow, whose buffers [`Self::open`] reuses from connection to connection.
    pub fn unused(key: FlowKey) -> Self {
        Self {
            key,
            role: Role::Server,
            client_direction: INGRESS,
            client: Half::default(),
            server: Half::default(),
            opening: Opening::default(),
            talk: Conversation::default(),
            hello_ns: None,
            established_ns: 0,
            srtt_us: 0,
            is_followed: false,
            pid: None,
            library: None,
            random: None,
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
        self.opening.restart();
        self.talk = Conversation::default();
        self.talk.keeps_tickets = keeps_tickets;
        self.hello_ns = None;
        self.established_ns = hello.established_ns;
        self.srtt_us = 0;
        self.is_followed = hello.flags & SEGMENT_FOLLOWED != 0;
        self.pid = None;
        self.library = None;
        self.random = None;
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

    /// The handshake that this `SEGMENT_HELLO` starts is the one that is tracked: its start comes again, or
    /// a later part of it, or the second ClientHello that a HelloRetryRequest asked for.
    pub fn starts_like(&self, hello: &Segment<'_>) -> bool {
        let is_client = self.client_direction == hello.direction;
        let is_asked_for = self.talk.awaits_second_hello() && self.may_contain(hello);
        is_client && (is_asked_for || self.client.stream.has_passed(hello.sequence))
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
        let opening = &mut self.opening;
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
                let chunk = match (chunk, from) {
                    (Chunk::Data(data), End::Client) => {
                        let Some(opened) = opening.data(data) else {
                            return talk.garbage();
                        };
                        if opened.has_begun {
                            hello_ns.get_or_insert(time_ns);
                        }
                        talk.hello = talk.hello.take().or(opened.hello);
                        Chunk::Data(opened.records)
                    }
                    (chunk, _) => chunk,
                };
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
                    Chunk::Data(data) => records.data(data, &mut receive),
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

    /// What its `SSL*` would be known by, the first time that it is known.
    pub fn newly_known_random(&mut self) -> Option<Random> {
        if self.library.is_some() || self.random.is_some() || self.is_done {
            return None;
        }
        self.random = Some(Random {
            process: self.pid?,
            is_server: self.role == Role::Server,
            server: self.talk.server.as_ref()?.random,
        });
        self.random
    }

    /// When this connection began at the latest, CLOCK_MONOTONIC nanoseconds: when TCP was established or,
    /// where that is not known, its first byte came. A server that has the kernel wait for that byte
    /// (`TCP_DEFER_ACCEPT`) has the connection no sooner.
    pub fn began_ns(&self) -> u64 {
        match self.established_ns {
            0 => self.hello_ns.unwrap_or(0),
            established_ns => established_ns,
        }
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
        let setting = Setting {
            key: self.key,
            role: self.role,
            transport: Transport::Tcp,
            announced: self.opening.announced(),
            pid: self.pid,
            hello_ns: self.hello_ns.unwrap_or_default(),
            established_ns: Some(self.established_ns).filter(|at| *at != 0),
            is_followed: self.is_followed,
            cpu_ns: self.cpu_ns(calls.lost_ns()),
            primitives_ns: self.primitives_ns(calls),
            rtt_ns: (self.srtt_us != 0).then(|| u64::from(self.srtt_us) * 1000),
            latest: self.moment(0),
        };
        describe(&mut self.talk, setting, fingerprinter, weak_keys)
    }
}

impl Half {
    fn restart(&mut self, start: u32) {
        self.stream.restart(start);
        self.records.restart();
        self.is_blind = false;
    }
}

//! One QUIC connection in its handshake: its connection IDs, its keys, and the conversation in its
//! Initial packets.

use agent_common::event::INGRESS;
use agent_common::flow::FlowKey;

use super::Number;
use crate::core::decode::Datagram;
use crate::core::fingerprint::Fingerprinter;
use crate::core::quic::frames::{Frame, frames};
use crate::core::quic::initial::{InitialKeys, Opened};
use crate::core::quic::packet::{ConnectionId, Kind, Packet, Version};
use crate::core::record::{Failure, Handshake, Role, Transport};
use crate::core::stream::{Chunk, Stream};
use crate::core::tls::record::{Item, MAX_HELLO};
use crate::core::tracker::conversation::{Conversation, End, Moment};
use crate::core::tracker::decisions::Decisions;
use crate::core::tracker::describe::{Setting, describe};
use crate::core::tracker::flow::Verdict;
use crate::core::weak_keys::WeakKeys;

/// Bytes kept of a hello ahead of a gap.
const AHEAD_BYTES: usize = 64 * 1024;

/// Packets noted ahead of a ServerHello.
const MAX_AHEAD: usize = 8;

/// Length of a handshake message's header (RFC 8446, 4).
const MESSAGE_HEADER: usize = 4;

/// One direction.
#[derive(Debug, Default)]
struct Half {
    stream: Stream,
    /// The handshake message that is being read, header included.
    message: Vec<u8>,
    largest: u64,
    /// Of datagrams, UDP payload.
    bytes: u64,
}

#[derive(Debug)]
pub struct Connection {
    pub key: FlowKey,
    pub number: Number,
    pub deadline_ns: u64,
    client_direction: u8,
    version: Version,
    /// `None` once they are of no use any more.
    keys: Option<InitialKeys>,
    /// Where the client sent its first packet to; its keys follow from it.
    original: ConnectionId,
    /// What the server put into its place by a Retry.
    retried: Option<ConnectionId>,
    client_id: ConnectionId,
    server_id: Option<ConnectionId>,
    /// Where the client sends to since, when it is neither of these.
    other_id: Option<ConnectionId>,
    client: Half,
    server: Half,
    pub talk: Conversation,
    hello_ns: u64,
    pid: Option<u32>,
    /// A packet was not captured whole.
    is_blind: bool,
    /// Packets that follow the ServerHello, which is yet to be seen: who sent them, what they are, their
    /// length, and when they came.
    ahead: Vec<(End, Kind, u64, Moment)>,
    /// Events lost in the kernel when it began.
    pub lost_before: u64,
    /// Its handshake is over as far as is known, and what is missing had time to come.
    pub is_lingering: bool,
    /// What came of it is told.
    pub is_done: bool,
}

impl Connection {
    /// The connection that an Initial packet opens; `None` where it is no client's first.
    pub fn open(
        datagram: &Datagram<'_>,
        packet: &Packet<'_>,
        buffer: &mut Vec<u8>,
    ) -> Option<Self> {
        let version = packet.version?;
        let keys = InitialKeys::derive(version, &packet.destination)?;
        keys.open(true, packet, 0, buffer)?;
        Some(Self {
            key: datagram.key,
            number: 0,
            deadline_ns: 0,
            client_direction: datagram.direction,
            version,
            keys: Some(keys),
            original: packet.destination,
            retried: None,
            client_id: packet.source,
            server_id: None,
            other_id: None,
            client: Half::default(),
            server: Half::default(),
            talk: Conversation::default(),
            hello_ns: datagram.time_ns,
            pid: None,
            is_blind: false,
            ahead: Vec::new(),
            lost_before: 0,
            is_lingering: false,
            is_done: false,
        })
    }

    /// The packet is one of this connection, by its connection IDs.
    pub fn owns(&self, direction: u8, packet: &Packet<'_>) -> bool {
        let is_from_client = direction == self.client_direction;
        match packet.kind {
            Kind::OneRtt => {
                let sent_to = |id: &Option<ConnectionId>| {
                    let id = id.as_ref().map(ConnectionId::as_bytes);
                    let rest = packet.bytes.get(1..).unwrap_or_default();
                    id.is_some_and(|id| rest.starts_with(id))
                };
                is_from_client && (sent_to(&self.server_id) || sent_to(&self.other_id))
            }
            _ if is_from_client => {
                let sent_to = Some(packet.destination);
                packet.source == self.client_id
                    && (packet.destination == self.original
                        || sent_to == self.retried
                        || sent_to == self.server_id
                        || sent_to == self.other_id)
            }
            _ => {
                packet.destination == self.client_id
                    && (!self.client_id.is_empty()
                        || self.server_id.is_none_or(|id| id == packet.source))
            }
        }
    }

    /// The packet is one that the client sent to a connection ID which nothing in clear text told of: its
    /// server gave it a new one, or a Retry was not seen. Its own ID, or what opens the packet, tells.
    pub fn may_own(&self, direction: u8, packet: &Packet<'_>, buffer: &mut Vec<u8>) -> bool {
        let is_from_client = direction == self.client_direction && packet.source == self.client_id;
        match packet.kind {
            Kind::Handshake | Kind::ZeroRtt => is_from_client,
            Kind::Initial if is_from_client && !self.is_done => {
                self.open_initial(End::Client, packet, buffer).is_some()
            }
            _ => false,
        }
    }

    /// The client's next after a Retry that was not seen, perhaps.
    fn may_be_retry(&self, packet: &Packet<'_>) -> bool {
        !self.client_id.is_empty()
            && self.talk.server.is_none()
            && self.retried.is_none()
            && packet.destination != self.original
    }

    fn sender(&self, datagram: &Datagram<'_>) -> End {
        match datagram.direction == self.client_direction {
            true => End::Client,
            false => End::Server,
        }
    }

    fn half(&mut self, from: End) -> &mut Half {
        match from {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        }
    }

    /// Notes the length of a datagram of this connection.
    pub fn count(&mut self, datagram: &Datagram<'_>) {
        let from = self.sender(datagram);
        self.half(from).bytes += u64::from(datagram.payload);
    }

    /// The thread that sends it is in the observed process; what its library decided on a ticket since
    /// the ClientHello came is about this connection.
    pub fn sent_by(&mut self, datagram: &Datagram<'_>, decisions: &mut Decisions) {
        self.pid.get_or_insert((datagram.pid_tgid >> 32) as u32);
        let on_offer = self.talk.sessions_on_offer();
        if self.role() == Role::Server
            && on_offer > 0
            && let Some(decided) =
                decisions.take(datagram.pid_tgid, self.hello_ns, datagram.time_ns, on_offer)
        {
            self.talk.decided = Some(decided);
        }
    }

    /// Takes a packet of this connection.
    pub fn packet(&mut self, datagram: &Datagram<'_>, packet: &Packet<'_>, buffer: &mut Vec<u8>) {
        if self.is_done {
            return;
        }
        let from = self.sender(datagram);
        if from == End::Client
            && packet.kind == Kind::Handshake
            && Some(packet.destination) != self.server_id
        {
            self.other_id = Some(packet.destination);
        }
        let at = self.moment(datagram.time_ns);
        match packet.kind {
            Kind::ZeroRtt if from == End::Client => self.talk.zero_rtt_packet(),
            Kind::Initial => {
                self.initial(from, datagram, packet, buffer);
                if self.talk.server.is_some() {
                    for (from, kind, length, at) in std::mem::take(&mut self.ahead) {
                        self.follow(from, kind, length, at);
                    }
                }
            }
            Kind::Handshake | Kind::OneRtt if self.talk.server.is_none() => {
                if self.ahead.len() < MAX_AHEAD {
                    self.ahead.push((from, packet.kind, packet.length, at));
                }
            }
            Kind::Retry if from == End::Server => self.retry(packet),
            // The client may begin anew, with another version; that is another connection.
            Kind::VersionNegotiation if from == End::Server && self.talk.server.is_none() => {
                self.talk.is_not_tls = true;
            }
            kind => self.follow(from, kind, packet.length, at),
        }
    }

    /// A packet behind the ServerHello.
    fn follow(&mut self, from: End, kind: Kind, length: u64, at: Moment) {
        match (from, kind) {
            (End::Client, Kind::Handshake) => self.talk.client_handshake_packet(length, at),
            (End::Client, Kind::OneRtt) => self.talk.client_one_rtt_packet(at),
            _ => {}
        }
    }

    fn retry(&mut self, packet: &Packet<'_>) {
        if self.talk.server.is_none()
            && self.retried.is_none()
            && let Some(version) = packet.version
        {
            self.retried = Some(packet.source);
            self.keys = InitialKeys::derive(version, &packet.source);
        }
    }

    fn initial(
        &mut self,
        from: End,
        datagram: &Datagram<'_>,
        packet: &Packet<'_>,
        buffer: &mut Vec<u8>,
    ) {
        if datagram.data.len() < datagram.payload as usize
            && ((packet.bytes.len() - packet.number_at) as u64) < packet.length
        {
            self.is_blind = true;
            return;
        }
        let Some(opened) = self.open_initial(from, packet, buffer) else {
            return;
        };
        self.half(from).largest = opened.packet.largest;
        if opened.is_retry {
            self.retried = Some(packet.destination);
        }
        if let (Some(keys), Some(version)) = (opened.keys, packet.version) {
            self.keys = Some(keys);
            self.version = version;
        }
        if from == End::Server {
            self.server_id.get_or_insert(packet.source);
        }
        let at = self.moment(datagram.time_ns);
        // What follows a damaged frame is of nobody's concern; the receiver closes the connection.
        let payload = &buffer[opened.packet.payload];
        let _ = frames(payload, |frame| match frame {
            Frame::Crypto { offset, data } => self.crypto(from, offset, data, at),
            Frame::Close { alert } => self.talk.quic_closed(from, alert),
        });
    }

    /// Opens an Initial packet with the keys of the connection, or those that it should have now: both
    /// ends may go on in another version (RFC 9368), and a Retry may have been missed.
    fn open_initial(
        &self,
        from: End,
        packet: &Packet<'_>,
        buffer: &mut Vec<u8>,
    ) -> Option<OpenedInitial> {
        let (version, current) = (packet.version?, self.keys.as_ref()?);
        let (is_client, largest) = match from {
            End::Client => (true, self.client.largest),
            End::Server => (false, self.server.largest),
        };
        let derive = |id: &ConnectionId| InitialKeys::derive(version, id);
        let next = match version == self.version {
            true => None,
            false => derive(&self.retried.unwrap_or(self.original)),
        };
        let mut open = |keys: &InitialKeys| keys.open(is_client, packet, largest, buffer);
        if let Some(next) = next
            && let Some(packet) = open(&next)
        {
            return Some(OpenedInitial {
                packet,
                keys: Some(next),
                is_retry: false,
            });
        }
        // aioquic's client names the next version before it uses its keys.
        if let Some(packet) = open(current) {
            return Some(OpenedInitial {
                packet,
                keys: None,
                is_retry: false,
            });
        }
        if !is_client || !self.may_be_retry(packet) {
            return None;
        }
        let keys = derive(&packet.destination)?;
        Some(OpenedInitial {
            packet: open(&keys)?,
            keys: Some(keys),
            is_retry: true,
        })
    }

    /// Bytes of the handshake's stream: a ClientHello, or a ServerHello, twice at most.
    fn crypto(&mut self, from: End, offset: u64, data: &[u8], at: Moment) {
        let Ok(offset) = u32::try_from(offset) else {
            return;
        };
        let Half {
            stream, message, ..
        } = match from {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        };
        let talk = &mut self.talk;
        stream.push(offset, data, data.len() as u32, AHEAD_BYTES, |chunk| {
            if let Chunk::Data(data) = chunk {
                message.extend_from_slice(data);
                messages(message, from, at, talk);
            }
        });
    }

    fn moment(&self, time_ns: u64) -> Moment {
        Moment {
            time_ns,
            client_bytes: self.client.bytes,
            server_bytes: self.server.bytes,
        }
    }

    fn role(&self) -> Role {
        match self.client_direction {
            INGRESS => Role::Server,
            _ => Role::Client,
        }
    }

    /// Bytes of a hello are missing.
    pub fn has_gap(&self) -> bool {
        let gap = |half: &Half| half.stream.has_gap() || !half.message.is_empty();
        !self.ahead.is_empty() || gap(&self.client) || gap(&self.server)
    }

    /// Something can be told of it.
    pub fn is_decided(&self) -> bool {
        self.talk.is_not_tls || self.talk.established().is_some() || self.talk.failure.is_some()
    }

    /// Decides what it came to. `lost` is the number of events lost in the kernel so far.
    pub fn conclude(&mut self, lost: u64) -> Verdict {
        if self.talk.is_not_tls {
            return Verdict::NotTls;
        }
        if self.talk.established().is_some() {
            return Verdict::Described;
        }
        if self.client.stream.overflowed() || self.server.stream.overflowed() {
            return Verdict::Evicted;
        }
        if self.is_blind {
            return Verdict::Truncated;
        }
        if self.has_gap() {
            return Verdict::RingLoss;
        }
        if self.talk.hello.is_none() {
            return Verdict::NotTls;
        }
        if self.talk.failure.is_none() {
            if lost > self.lost_before {
                return Verdict::RingLoss;
            }
            self.talk.failure = Some(Failure::Timeout);
        }
        Verdict::Described
    }

    /// The record. Only after [`Self::conclude`] said `Described`.
    pub fn describe(
        &mut self,
        fingerprinter: &Fingerprinter,
        weak_keys: Option<&mut WeakKeys>,
    ) -> Handshake {
        let setting = Setting {
            key: self.key,
            role: self.role(),
            transport: Transport::Quic,
            announced: None,
            pid: self.pid,
            hello_ns: self.hello_ns,
            established_ns: None,
            is_followed: false,
            cpu_ns: None,
            primitives_ns: None,
            rtt_ns: None,
            latest: self.moment(0),
        };
        describe(&mut self.talk, setting, fingerprinter, weak_keys)
    }

    /// Frees all but what tells its packets from those of others.
    pub fn close(&mut self) {
        self.is_done = true;
        self.keys = None;
        self.talk = Conversation::default();
        self.client = Half::default();
        self.server = Half::default();
        self.ahead = Vec::new();
    }
}

/// An Initial packet that was opened.
struct OpenedInitial {
    packet: Opened,
    /// The keys that did, where they are not those that the connection had.
    keys: Option<InitialKeys>,
    /// They follow from a Retry that was not seen.
    is_retry: bool,
}

/// Hands over the messages that are whole, and takes them off.
fn messages(gathered: &mut Vec<u8>, from: End, at: Moment, talk: &mut Conversation) {
    while let Some([kind, a, b, c]) = gathered.first_chunk::<MESSAGE_HEADER>().copied() {
        let length = u32::from_be_bytes([0, a, b, c]);
        if length > MAX_HELLO {
            talk.garbage();
            return gathered.clear();
        }
        let whole = MESSAGE_HEADER + length as usize;
        let Some(body) = gathered.get(MESSAGE_HEADER..whole) else {
            return;
        };
        talk.item(from, Item::MessageStart { kind, length }, at);
        talk.item(from, Item::Message { kind, length, body }, at);
        gathered.drain(..whole);
    }
}

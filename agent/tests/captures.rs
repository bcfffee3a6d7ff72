//! Capture files: every form gives the same records.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod core_support;

use std::io::Write as _;

use core_support::*;
use etherparse::PacketBuilder;
use flate2::Compression;
use flate2::write::GzEncoder;
use resumetry::core::fingerprint::Fingerprinter;
use resumetry::core::record::{Handshake, Outcome, Role};
use resumetry::pcap::file::{Damage, FileError};
use resumetry::pcap::{self, Contents};

const ETHERNET: u16 = 1;
const START_S: u32 = 1_700_000_000;
const PORTS: [u16; 2] = [50_000, 443];

/// An IP packet, and when it was captured, microseconds after the start.
type Packet = (u32, Vec<u8>);

/// Most bytes of payload in a packet.
const SEGMENT: usize = 1_000;

fn packet(from: End, sequence: [u32; 2], flags: &str, payload: &[u8]) -> Vec<u8> {
    let (client, server) = ([192, 0, 2, 7], [198, 51, 100, 1]);
    let (source, destination, own, other) = match from {
        Client => (client, server, 0, 1),
        Server => (server, client, 1, 0),
    };
    let mut tcp = PacketBuilder::ipv4(source, destination, 64).tcp(
        PORTS[own],
        PORTS[other],
        sequence[own],
        65_000,
    );
    for flag in flags.chars() {
        tcp = match flag {
            'S' => tcp.syn(),
            'F' => tcp.fin(),
            _ => tcp.ack(sequence[other]),
        };
    }
    let mut bytes = Vec::new();
    tcp.write(&mut bytes, payload).unwrap();
    bytes
}

/// A whole connection of recorded flights, a packet a millisecond.
fn connection(name: &str) -> Vec<Packet> {
    conversation(flights(name))
}

/// The same of what the ends are to say.
fn conversation(flights: Vec<(End, Vec<u8>)>) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut sequence = [7_000, u32::MAX - 100];
    let mut time = 0;
    let mut add = |from: End, sequence, flags: &str, payload: &[u8]| {
        time += 1_000;
        packets.push((time, packet(from, sequence, flags, payload)));
    };
    add(Client, sequence, "S", &[]);
    sequence[0] += 1;
    add(Server, sequence, "SA", &[]);
    sequence[1] = sequence[1].wrapping_add(1);
    add(Client, sequence, "A", &[]);
    for (from, bytes) in flights {
        for piece in bytes.chunks(SEGMENT) {
            add(from, sequence, "A", piece);
            let own = usize::from(from == Server);
            sequence[own] = sequence[own].wrapping_add(piece.len() as u32);
        }
    }
    add(Client, sequence, "AF", &[]);
    add(Server, sequence, "AF", &[]);
    packets
}

/// A pcap file of frames; its numbers in this byte order, its times in nanoseconds where asked for.
fn pcap_file(packets: &[Packet], link: u16, big_endian: bool, nanoseconds: bool) -> Vec<u8> {
    let number = |value: u32| match big_endian {
        true => value.to_be_bytes(),
        false => value.to_le_bytes(),
    };
    let magic = if nanoseconds {
        0xa1b2_3c4d
    } else {
        0xa1b2_c3d4
    };
    let version = match big_endian {
        true => [0, 2, 0, 4],
        false => [2, 0, 4, 0],
    };
    let mut file = Vec::new();
    file.extend(number(magic));
    file.extend(version);
    for value in [0, 0, 65_535, u32::from(link)] {
        file.extend(number(value));
    }
    for (time, frame) in packets {
        let fraction = if nanoseconds { time * 1_000 } else { *time };
        let length = frame.len() as u32;
        for value in [START_S, fraction, length, length] {
            file.extend(number(value));
        }
        file.extend(frame);
    }
    file
}

/// A pcapng file with two interfaces, the second in nanoseconds; packets alternate between them.
fn pcapng_file(packets: &[Packet], link: u16, big_endian: bool) -> Vec<u8> {
    let number = |value: u32| match big_endian {
        true => value.to_be_bytes(),
        false => value.to_le_bytes(),
    };
    let short = |value: u16| match big_endian {
        true => value.to_be_bytes(),
        false => value.to_le_bytes(),
    };
    let mut file = Vec::new();
    let mut block = |kind: u32, mut body: Vec<u8>| {
        body.resize(body.len().next_multiple_of(4), 0);
        let length = number(body.len() as u32 + 12);
        file.extend(number(kind));
        file.extend(length);
        file.extend(body);
        file.extend(length);
    };
    let mut section = number(0x1a2b_3c4d).to_vec();
    section.extend([short(1), short(0)].concat());
    section.extend([0xff; 8]);
    block(0x0a0d_0d0a, section);
    for resolution in [None, Some(9)] {
        let mut interface = [short(link), short(0)].concat();
        interface.extend(number(65_535));
        if let Some(resolution) = resolution {
            // if_tsresol.
            interface.extend([short(9), short(1)].concat());
            interface.extend([resolution, 0, 0, 0]);
            interface.extend([0; 4]);
        }
        block(1, interface);
    }
    for (index, (time, frame)) in packets.iter().enumerate() {
        let interface = index as u32 % 2;
        let micros = u64::from(START_S) * 1_000_000 + u64::from(*time);
        let units = if interface == 1 {
            micros * 1_000
        } else {
            micros
        };
        let length = frame.len() as u32;
        let mut body = Vec::new();
        for value in [
            interface,
            (units >> 32) as u32,
            units as u32,
            length,
            length,
        ] {
            body.extend(number(value));
        }
        body.extend(frame);
        block(6, body);
    }
    file
}

/// Packets with these bytes before each.
fn behind(packets: &[Packet], header: &[u8]) -> Vec<Packet> {
    packets
        .iter()
        .map(|(time, packet)| (*time, [header, packet].concat()))
        .collect()
}

fn ethernet(packets: &[Packet]) -> Vec<Packet> {
    behind(packets, &[&[2; 12][..], &[0x08, 0x00]].concat())
}

fn read(file: &[u8]) -> (Vec<Handshake>, Contents) {
    let mut records = Vec::new();
    let contents = pcap::read(file, Fingerprinter::new(b"test"), |record| {
        records.push(record);
    });
    (records, contents.unwrap())
}

fn one(file: &[u8]) -> Handshake {
    let (mut records, contents) = read(file);
    assert_eq!(records.len(), 1, "{contents:?}");
    assert_eq!(contents.damage, None);
    assert_balance(&contents.flows);
    records.remove(0)
}

fn plain(name: &str) -> Vec<u8> {
    pcap_file(&ethernet(&connection(name)), ETHERNET, false, false)
}

#[test]
fn records_are_those_of_a_live_host() {
    for name in ["tls13_full", "tls13_psk", "tls12_full", "tls12_ticket"] {
        let captured = one(&plain(name));
        let live = record(&recorded(name));
        assert_eq!(line(&captured), line(&live), "{name}");
        assert_eq!(captured.role, Role::Observer);
        assert_eq!(captured.ticket_bytes, live.ticket_bytes);
        assert_eq!(captured.client.port(), PORTS[0]);
        assert_eq!(captured.server.port(), PORTS[1]);
        // SYN, SYN/ACK and ACK came a millisecond after the other.
        assert_eq!(captured.established_to_client_hello_ns, Some(MILLISECOND));
        assert_eq!(
            captured.client_hello_ns,
            u64::from(START_S) * SECOND + 4 * MILLISECOND
        );
    }
}

#[test]
fn every_form_of_file_gives_the_same_record() {
    let packets = ethernet(&connection("tls12_ticket"));
    let expected = format!("{:?}", one(&plain("tls12_ticket")));
    let mut files = Vec::new();
    for big_endian in [false, true] {
        for nanoseconds in [false, true] {
            files.push(pcap_file(&packets, ETHERNET, big_endian, nanoseconds));
        }
        files.push(pcapng_file(&packets, ETHERNET, big_endian));
    }
    // Sections follow each other, and may be of another byte order.
    let (first, second) = packets.split_at(5);
    let sections = [
        pcapng_file(first, ETHERNET, false),
        pcapng_file(second, ETHERNET, true),
    ];
    files.push(sections.concat());
    for file in files {
        assert_eq!(format!("{:?}", one(&file)), expected);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&file).unwrap();
        assert_eq!(format!("{:?}", one(&packed.finish().unwrap())), expected);
    }
}

#[test]
fn every_link_layer_gives_the_same_record() {
    let packets = connection("tls13_psk");
    let expected = format!("{:?}", one(&plain("tls13_psk")));
    let ethernet = |rest: &[u8]| [&[2; 12][..], rest].concat();
    for (link, header) in [
        // One VLAN, one in another, MPLS with two labels, PPPoE.
        (1, ethernet(&[0x81, 0, 0, 5, 8, 0])),
        (1, ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0])),
        (1, ethernet(&[0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64])),
        (1, ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 50, 0, 0x21])),
        // BSD loopback in either order, raw IP, Linux cooked.
        (0, vec![2, 0, 0, 0]),
        (108, vec![0, 0, 0, 2]),
        (101, Vec::new()),
        (12, Vec::new()),
        (228, Vec::new()),
        // PPP with all it may leave out, and without.
        (9, vec![0xff, 3, 0, 0x21]),
        (50, vec![0x21]),
        (113, [&[0; 14][..], &[8, 0]].concat()),
        (276, [&[8, 0][..], &[0; 18]].concat()),
    ] {
        let file = pcap_file(&behind(&packets, &header), link, false, false);
        assert_eq!(format!("{:?}", one(&file)), expected, "{link} {header:?}");
    }
}

/// An IPv4 packet without options in pieces of at most 256 bytes of payload, the last one first.
fn pieces((time, packet): &Packet, number: u16) -> Vec<Packet> {
    const HEADER: usize = 20;
    const PIECE: usize = 256;
    let (header, payload) = packet.split_at(HEADER);
    let count = payload.len().div_ceil(PIECE);
    let mut pieces: Vec<Packet> = payload
        .chunks(PIECE)
        .enumerate()
        .map(|(index, piece)| {
            let mut header = header.to_vec();
            header[2..4].copy_from_slice(&((HEADER + piece.len()) as u16).to_be_bytes());
            header[4..6].copy_from_slice(&number.to_be_bytes());
            // More fragments, and the offset in units of eight bytes.
            let more = if index + 1 < count { 0x2000 } else { 0 };
            let place = more | (index * PIECE / 8) as u16;
            header[6..8].copy_from_slice(&place.to_be_bytes());
            (*time, [&header[..], piece].concat())
        })
        .collect();
    pieces.reverse();
    pieces
}

#[test]
fn packets_in_pieces_give_the_same_record() {
    let expected = format!("{:?}", one(&plain("tls13_psk")));
    let packets: Vec<Packet> = connection("tls13_psk")
        .iter()
        .zip(1..)
        .flat_map(|(packet, number)| pieces(packet, number))
        .collect();
    let file = pcap_file(&ethernet(&packets), ETHERNET, false, false);
    assert_eq!(format!("{:?}", one(&file)), expected);
    let (_, contents) = read(&file);
    assert!(
        contents.joined > 0 && contents.pieces > contents.joined,
        "{contents:?}"
    );
    // One piece too few is a packet too few.
    let (index, _) = packets
        .iter()
        .enumerate()
        .find(|(_, (_, packet))| packet[6] & 0x20 != 0)
        .unwrap();
    let mut fewer = packets.clone();
    fewer.remove(index);
    let (records, contents) = read(&pcap_file(&ethernet(&fewer), ETHERNET, false, false));
    assert_balance(&contents.flows);
    assert!(
        records
            .iter()
            .all(|record| record.outcome() != Outcome::Full)
    );
}

#[test]
fn tunnels_give_the_same_record() {
    let expected = format!("{:?}", one(&plain("tls12_ticket")));
    let outer = |build: &dyn Fn(&[u8]) -> Vec<u8>| -> Vec<Packet> {
        let inner = ethernet(&connection("tls12_ticket"));
        let packets = inner.iter().map(|(time, frame)| (*time, build(frame)));
        packets.collect()
    };
    let ip = || PacketBuilder::ipv4([203, 0, 113, 1], [203, 0, 113, 2], 64);
    let vxlan = outer(&|frame| {
        let mut bytes = Vec::new();
        let payload = [&[8, 0, 0, 0, 0, 0, 1, 0][..], frame].concat();
        ip().udp(40_000, 4_789).write(&mut bytes, &payload).unwrap();
        bytes
    });
    let gre = outer(&|frame| {
        let mut bytes = Vec::new();
        let payload = [&[0, 0, 8, 0][..], &frame[14..]].concat();
        ip().write(&mut bytes, etherparse::IpNumber::GRE, &payload)
            .unwrap();
        bytes
    });
    for packets in [vxlan, gre] {
        let file = pcap_file(&ethernet(&packets), ETHERNET, false, false);
        assert_eq!(format!("{:?}", one(&file)), expected);
    }
}

#[test]
fn handshakes_of_dtls_are_counted_and_left_alone() {
    let datagram = |message_sequence: u8| {
        // A record's header, and the start of a ClientHello in it.
        let mut payload = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60];
        payload.extend([1, 0, 0, 48, 0, message_sequence, 0, 0, 0, 0, 0, 48]);
        payload.resize(13 + 60, 0xfe);
        let mut packet = Vec::new();
        PacketBuilder::ipv4([203, 0, 113, 1], [203, 0, 113, 2], 64)
            .udp(5000, 5684)
            .write(&mut packet, &payload)
            .unwrap();
        packet
    };
    // The second one brings the cookie that the server asked for.
    let packets: Vec<Packet> = [0, 1]
        .map(|sequence| (1_000 * u32::from(sequence), datagram(sequence)))
        .to_vec();
    let (records, contents) = read(&pcap_file(&packets, 101, false, true));
    assert_eq!((records.len(), contents.dtls_hellos), (0, 1));
}

#[test]
fn each_handshake_of_a_connection_has_a_record() {
    let ends = ["tls12_full", "tls12_ticket", "tls13_retry"];
    let mut said = vec![(Server, b"220 ready\r\n".to_vec())];
    for name in ends {
        // In the open again, as after FTP's CCC.
        said.push((Client, b"AUTH TLS\r\n".to_vec()));
        said.push((Server, b"234 go on\r\n".to_vec()));
        said.extend(flights(name));
    }
    let packets = ethernet(&conversation(said));
    let twice: Vec<Packet> = packets
        .iter()
        .flat_map(|p| [p.clone(), p.clone()])
        .collect();
    for packets in [packets, twice] {
        let (records, contents) = read(&pcap_file(&packets, ETHERNET, false, false));
        assert_balance(&contents.flows);
        let lines: Vec<String> = records.iter().map(line).collect();
        let expected = ends.map(|name| line(&one(&plain(name))));
        assert_eq!(lines, expected);
    }
}

#[test]
fn order_and_repetition_of_packets_change_nothing() {
    let packets = ethernet(&connection("tls12_full"));
    let times: Vec<u32> = packets.iter().map(|(time, _)| *time).collect();
    let expected = line(&one(&plain("tls12_full")));
    for distance in 1..4 {
        let mut shuffled: Vec<Vec<u8>> = packets.iter().map(|(_, frame)| frame.clone()).collect();
        // The end stays the end.
        let last = shuffled.len() - 2;
        for place in (3..last - distance).step_by(distance + 1) {
            shuffled.swap(place, place + distance);
        }
        let mut file = Vec::new();
        for (time, frame) in times.iter().zip(shuffled) {
            file.push((*time, frame.clone()));
            file.push((*time, frame));
        }
        let record = one(&pcap_file(&file, ETHERNET, false, false));
        assert_eq!(line(&record), expected, "{distance}");
    }
}

#[test]
fn what_is_missing_is_never_a_verdict() {
    let whole = ethernet(&connection("tls12_ticket"));
    let expected = line(&one(&plain("tls12_ticket")));
    // Capture began after TCP had.
    let file = pcap_file(&whole[3..], ETHERNET, false, false);
    assert_eq!(line(&one(&file)), expected);
    for end in [Client, Server] {
        // Ports stand behind Ethernet's and IP's headers.
        let is_from =
            |frame: &[u8]| frame[34..36] == PORTS[usize::from(end == Server)].to_be_bytes();
        let side: Vec<_> = whole
            .iter()
            .filter(|(_, frame)| is_from(frame))
            .cloned()
            .collect();
        let (records, _) = read(&pcap_file(&side, ETHERNET, false, false));
        let verdicts: Vec<_> = records.iter().map(Handshake::outcome).collect();
        assert!(!verdicts.contains(&Outcome::Full), "{end:?}: {records:?}");
        assert!(
            !verdicts.contains(&Outcome::Resumed),
            "{end:?}: {records:?}"
        );
    }
    for missing in 3..whole.len() - 2 {
        let mut packets = whole.clone();
        packets.remove(missing);
        let (records, contents) = read(&pcap_file(&packets, ETHERNET, false, false));
        assert_balance(&contents.flows);
        for record in records {
            assert_ne!(record.outcome(), Outcome::Full, "without packet {missing}");
        }
    }
}

#[test]
fn damaged_files_are_read_as_far_as_they_go() {
    let file = [plain("tls13_full"), vec![0; 7]].concat();
    let (records, contents) = read(&file);
    assert_eq!(records.len(), 1);
    assert_eq!(contents.damage, Some(Damage::Truncated));
    for length in 24..file.len() {
        let (_, contents) = read(&file[..length]);
        assert_balance(&contents.flows);
    }
    for nothing in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x1f, 0x8b, 8, 0, 1, 2],
    ] {
        let error = pcap::read(nothing, Fingerprinter::new(b""), |_| ()).unwrap_err();
        assert!(
            matches!(error, FileError::NoCapture | FileError::Read(_)),
            "{error}"
        );
    }
    // Any byte may be wrong.
    for place in 24..file.len() {
        let mut wrong = file.clone();
        wrong[place] ^= 0x55;
        let (_, contents) = read(&wrong);
        assert_balance(&contents.flows);
    }
}

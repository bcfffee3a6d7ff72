//! The PROXY protocol header (HAProxy, proxy-protocol.txt, versions 1 and 2) that may stand
//! before a ClientHello.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// First bytes of version 1 and 2.
const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest version 1 header, CRLF included (proxy-protocol.txt, 2.1).
const MAX_VERSION_1: usize = 107;
/// Signature, version and command, family, length.
const FIXED_2: usize = 16;
/// Addresses and ports of IPv6; what follows are TLVs.
const ADDRESSES_2: usize = 36;

/// Not a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotProxy;

/// Whether a stream that starts with this byte may start with a PROXY header.
pub fn may_start_with(byte: u8) -> bool {
    byte == SIGNATURE_1[0] || byte == SIGNATURE_2[0]
}

/// Reads one header, in any portions.
#[derive(Debug, Default)]
pub struct ProxyHeader {
    /// The header so far, without the TLVs of version 2.
    bytes: Vec<u8>,
    /// Bytes of version 2 still to skip.
    skip: usize,
    done: bool,
}

impl ProxyHeader {
    pub fn restart(&mut self) {
        self.bytes.clear();
        self.skip = 0;
        self.done = false;
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the header's bytes off `data`; the rest of `data` is what follows it.
    pub fn data<'a>(&mut self, mut data: &'a [u8]) -> Result<&'a [u8], NotProxy> {
        while let ([byte, rest @ ..], false) = (data, self.done) {
            if self.skip > 0 {
                let skipped = self.skip.min(data.len());
                data = &data[skipped..];
                self.skip -= skipped;
                self.done = self.skip == 0;
                continue;
            }
            self.bytes.push(*byte);
            data = rest;
            self.check()?;
        }
        Ok(data)
    }

    /// Judges the bytes so far after each new one.
    fn check(&mut self) -> Result<(), NotProxy> {
        let bytes = &self.bytes;
        let matches = |signature: &[u8]| bytes.iter().zip(signature).all(|(a, b)| a == b);
        if matches(SIGNATURE_1) {
            self.done = bytes.ends_with(b"\r\n");
            let fits = bytes.len() < MAX_VERSION_1 || self.done;
            return fits.then_some(()).ok_or(NotProxy);
        }
        if !matches(SIGNATURE_2) {
            return Err(NotProxy);
        }
        if bytes.len() == SIGNATURE_2.len() + 1 && bytes[12] >> 4 != 2 {
            return Err(NotProxy);
        }
        if bytes.len() >= FIXED_2 {
            let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
            let kept = FIXED_2 + length.min(ADDRESSES_2);
            if bytes.len() == kept {
                self.skip = length.saturating_sub(ADDRESSES_2);
                self.done = self.skip == 0;
            }
        }
        Ok(())
    }

    /// The announced client; `None` for UNKNOWN, LOCAL, other families or damage.
    pub fn client(&self) -> Option<SocketAddr> {
        if self.bytes.starts_with(SIGNATURE_1) {
            self.client_1()
        } else {
            self.client_2()
        }
    }

    fn client_1(&self) -> Option<SocketAddr> {
        let text = std::str::from_utf8(&self.bytes).ok()?;
        let mut words = text.trim_end().split(' ').skip(1);
        let family = words.next()?;
        let address: IpAddr = words.next()?.parse().ok()?;
        let _destination = words.next()?;
        let port = words.next()?.parse().ok()?;
        matches!(family, "TCP4" | "TCP6").then(|| SocketAddr::new(address, port))
    }

    fn client_2(&self) -> Option<SocketAddr> {
        const PROXY: u8 = 1;
        let &[.., command, family, _, _] = self.bytes.first_chunk::<FIXED_2>()?;
        if command & 0x0f != PROXY {
            return None;
        }
        let addresses = &self.bytes[FIXED_2..];
        let port = |at: usize| {
            let bytes = addresses.get(at..at + 2)?.first_chunk()?;
            Some(u16::from_be_bytes(*bytes))
        };
        match family >> 4 {
            1 => {
                let address = addresses.first_chunk::<4>()?;
                Some(SocketAddr::new(Ipv4Addr::from(*address).into(), port(8)?))
            }
            2 => {
                let address = addresses.first_chunk::<16>()?;
                Some(SocketAddr::new(Ipv6Addr::from(*address).into(), port(32)?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    /// Feeds byte by byte and in one piece; both must agree.
    fn read(header: &[u8]) -> Result<Option<SocketAddr>, NotProxy> {
        let mut stream = header.to_vec();
        stream.push(0x16);
        let mut whole = ProxyHeader::default();
        let rest = whole.data(&stream)?;
        assert_eq!(rest, [0x16]);
        let mut single = ProxyHeader::default();
        for byte in header {
            assert!(!single.is_done());
            assert!(single.data(&[*byte])?.is_empty());
        }
        assert!(single.is_done());
        assert_eq!(single.client(), whole.client());
        Ok(whole.client())
    }

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE_2.to_vec();
        header.extend_from_slice(&[0x20 | command, family]);
        header.extend_from_slice(&(body.len() as u16).to_be_bytes());
        header.extend_from_slice(body);
        header
    }

    #[test]
    fn reads_version_1() {
        let client = read(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n").unwrap();
        assert_eq!(client, Some("192.0.2.1:56324".parse().unwrap()));
        let client = read(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 443\r\n").unwrap();
        assert_eq!(client, Some("[2001:db8::1]:1".parse().unwrap()));
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), Ok(None));
    }

    #[test]
    fn reads_version_2_with_and_without_tlvs() {
        let mut body = vec![192, 0, 2, 1, 198, 51, 100, 1, 0, 7, 1, 187];
        let expected = Some("192.0.2.1:7".parse().unwrap());
        assert_eq!(read(&version_2(1, 0x11, &body)), Ok(expected));
        body.extend_from_slice(&[0; 300]);
        assert_eq!(read(&version_2(1, 0x11, &body)), Ok(expected));
        assert_eq!(read(&version_2(0, 0x00, &[])), Ok(None));
        let mut body = Ipv6Addr::LOCALHOST.octets().to_vec();
        body.extend_from_slice(&[0; 16]);
        body.extend_from_slice(&[0, 9, 1, 187]);
        assert_eq!(
            read(&version_2(1, 0x21, &body)),
            Ok(Some("[::1]:9".parse().unwrap()))
        );
    }

    #[test]
    fn rejects_what_only_starts_like_one() {
        assert_eq!(read(b"POST / HTTP/1.1\r\n"), Err(NotProxy));
        assert_eq!(read(b"\r\n\r\nhello"), Err(NotProxy));
        assert_eq!(
            read(&[&b"PROXY "[..], &[b'x'; 200]].concat()),
            Err(NotProxy)
        );
    }
}

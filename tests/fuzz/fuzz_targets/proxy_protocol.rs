//! PROXY headers of both versions. The first byte says into which pieces the stream is cut, the rest is the stream.

#![no_main]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use libfuzzer_sys::fuzz_target;
use postern::net::proxy_protocol::{ProxiedAddresses, read};
use postern_fuzz::ready;
use tokio::io::{AsyncRead, ReadBuf};

struct Stream<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl AsyncRead for Stream<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let length = self.piece.min(self.rest.len()).min(buffer.remaining());
        let (now, later) = self.rest.split_at(length);
        buffer.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

/// What a stream says, and how much of it was read for that.
fn parse(stream: &[u8], piece: usize) -> (Result<ProxiedAddresses, ErrorKind>, usize) {
    let mut rest = Stream { rest: stream, piece };
    let told = ready(read(&mut rest)).map_err(|error| error.kind());
    (told, stream.len() - rest.rest.len())
}

fn version_1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!(
        "PROXY {family} {from} {to} {} {}\r\n",
        source.port(),
        destination.port()
    )
    .into()
}

fn version_2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut addresses = Vec::new();
    for address in [source, destination] {
        match address {
            SocketAddr::V4(v4) => addresses.extend(v4.ip().octets()),
            SocketAddr::V6(v6) => addresses.extend(v6.ip().octets()),
        }
    }
    addresses.extend(source.port().to_be_bytes());
    addresses.extend(destination.port().to_be_bytes());
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    header.push(family);
    header.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
    header.extend(addresses);
    header
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece, stream)) = input.split_first() else {
        return;
    };
    let (told, length) = parse(stream, usize::MAX);
    for piece in [1, usize::from(piece).max(1)] {
        assert_eq!(parse(stream, piece), (told, length), "in pieces of {piece}");
    }
    let Ok(told) = told else { return };
    let header = &stream[..length];
    // Whatever follows is the client's, and a header that is cut short is none.
    assert_eq!(parse(header, usize::MAX), (Ok(told), length));
    for short in [length - 1, usize::from(piece) % length] {
        assert_eq!(parse(&header[..short], usize::MAX).0, Err(ErrorKind::UnexpectedEof));
    }
    if header.starts_with(b"PROXY ") {
        assert!(header.ends_with(b"\r\n") && length <= 107);
    } else {
        assert_eq!(usize::from(header[14]) * 256 + usize::from(header[15]) + 16, length);
    }
    if let ProxiedAddresses::Client { source, destination } = told {
        assert_eq!(source.is_ipv4(), destination.is_ipv4());
        for header in [version_1(source, destination), version_2(source, destination)] {
            assert_eq!(parse(&header, usize::MAX), (Ok(told), header.len()));
        }
    }
});

//! The PROXY protocol, versions 1 and 2 (haproxy's `doc/proxy-protocol.txt`): a balancer that forwards bytes says before
//! them who the client is. Read from trusted peers alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{io, str};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Section 2.1: the longest line of version 1, its CRLF included.
const MAX_LINE: usize = 107;
/// The longest variable part of a version 2 header, in bytes. Addresses take 36; the rest are extensions, which are skipped.
const MAX_REST: usize = 4096;

/// What the balancer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxiedAddresses {
    /// The balancer speaks for itself (a health check), or of a client that has no address: the connection's own holds.
    Nothing,
    /// The connection that the balancer forwards, as the balancer sees it.
    Client {
        source: SocketAddr,
        destination: SocketAddr,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection does not begin with a PROXY header")]
pub struct Malformed;

/// Takes the header off the stream, and not a byte more.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<ProxiedAddresses> {
    let malformed = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
    // No header of either version is shorter.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start != *SIGNATURE {
        return parse_v1(&read_line(stream, &start).await?).map_err(malformed);
    }
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if length > MAX_REST {
        return Err(malformed(Malformed));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    parse_v2(fixed[0], fixed[1], &rest).map_err(malformed)
}

/// The rest of a version 1 line. Byte by byte: what follows it is the client's.
async fn read_line(stream: &mut (impl AsyncRead + Unpin), start: &[u8]) -> io::Result<Vec<u8>> {
    let mut line = start.to_vec();
    while line.starts_with(b"PROXY ") && !line.ends_with(b"\r\n") && line.len() < MAX_LINE {
        line.push(stream.read_u8().await?);
    }
    Ok(line)
}

/// Section 2.1.
fn parse_v1(line: &[u8]) -> Result<ProxiedAddresses, Malformed> {
    let line = line.strip_suffix(b"\r\n").ok_or(Malformed)?;
    let line = str::from_utf8(line).map_err(|_| Malformed)?;
    let mut words = line.strip_prefix("PROXY ").ok_or(Malformed)?.split(' ');
    let family = words.next().ok_or(Malformed)?;
    if family == "UNKNOWN" {
        return Ok(ProxiedAddresses::Nothing);
    }
    let words: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(Malformed);
    };
    let address = |text: &str| {
        let address: IpAddr = text.parse().map_err(|_| Malformed)?;
        match (family, address) {
            ("TCP4", IpAddr::V4(_)) | ("TCP6", IpAddr::V6(_)) => Ok(address),
            _ => Err(Malformed),
        }
    };
    let port = |text: &str| {
        let digits = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits).ok_or(Malformed)
    };
    Ok(ProxiedAddresses::Client {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    })
}

/// Section 2.2.
fn parse_v2(version_and_command: u8, family: u8, rest: &[u8]) -> Result<ProxiedAddresses, Malformed> {
    match version_and_command {
        0x20 => return Ok(ProxiedAddresses::Nothing),
        0x21 => {}
        _ => return Err(Malformed),
    }
    let ports = |at: usize| -> Result<(u16, u16), Malformed> {
        let ports = rest.get(at..at + 4).ok_or(Malformed)?;
        Ok((
            u16::from_be_bytes([ports[0], ports[1]]),
            u16::from_be_bytes([ports[2], ports[3]]),
        ))
    };
    let (source, destination, (source_port, destination_port)): (IpAddr, IpAddr, _) = match family {
        0x11 => {
            let address = |at: usize| rest.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            let address = |at| address(at).map(Ipv4Addr::from).ok_or(Malformed);
            (address(0)?.into(), address(4)?.into(), ports(8)?)
        }
        0x21 => {
            let address = |at: usize| rest.get(at..at + 16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            let address = |at| address(at).map(Ipv6Addr::from).ok_or(Malformed);
            (address(0)?.into(), address(16)?.into(), ports(32)?)
        }
        // AF_UNSPEC, a UNIX socket, UDP: nothing that could be told to an app.
        _ => return Ok(ProxiedAddresses::Nothing),
    };
    Ok(ProxiedAddresses::Client {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use proptest::prelude::*;

    fn client(source: &str, destination: &str) -> Result<ProxiedAddresses, Malformed> {
        Ok(ProxiedAddresses::Client {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        })
    }

    #[test]
    fn version_1_names_client_and_destination() {
        let v4 = parse_v1(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n");
        assert_eq!(v4, client("192.0.2.7:56324", "198.51.100.1:443"));
        let v6 = parse_v1(b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n");
        assert_eq!(v6, client("[2001:db8::7]:56324", "[2001:db8::1]:443"));
        for unknown in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"] {
            assert_eq!(parse_v1(unknown), Ok(ProxiedAddresses::Nothing));
        }
    }

    #[test]
    fn a_line_that_is_not_exactly_one_is_refused() {
        let bad = [
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 1\r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 56324 443\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n",
            "proxy TCP4 192.0.2.7 198.51.100.1 1 443\r\n",
            "GET / HTTP/1.1\r\n",
        ];
        for line in bad {
            assert_eq!(parse_v1(line.as_bytes()), Err(Malformed), "{line:?}");
        }
    }

    #[test]
    fn version_2_names_client_and_destination() {
        let v4 = [&[192, 0, 2, 7, 198, 51, 100, 1][..], &[0xdc, 4, 1, 187], &[4, 0, 1, 0]].concat();
        assert_eq!(parse_v2(0x21, 0x11, &v4), client("192.0.2.7:56324", "198.51.100.1:443"));
        let mut v6 = [0; 36];
        (v6[15], v6[31]) = (7, 1);
        v6[32..].copy_from_slice(&[0xdc, 4, 1, 187]);
        assert_eq!(parse_v2(0x21, 0x21, &v6), client("[::7]:56324", "[::1]:443"));
        assert_eq!(parse_v2(0x20, 0x00, &[]), Ok(ProxiedAddresses::Nothing), "LOCAL");
        assert_eq!(parse_v2(0x21, 0x00, &[]), Ok(ProxiedAddresses::Nothing), "AF_UNSPEC");
        assert_eq!(parse_v2(0x21, 0x11, &v4[..11]), Err(Malformed), "cut short");
        assert_eq!(parse_v2(0x11, 0x11, &v4), Err(Malformed), "version 1 in binary");
        assert_eq!(parse_v2(0x22, 0x11, &v4), Err(Malformed), "unknown command");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(head in any::<(u8, u8)>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_v2(head.0, head.1, &bytes);
            let _ = parse_v1(&bytes);
        }
    }

    #[tokio::test]
    async fn what_follows_the_header_stays_on_the_stream() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let v2 = [
            &SIGNATURE[..],
            &[0x21, 0x11, 0, 12],
            &[1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 10],
        ]
        .concat();
        for header in [b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n".to_vec(), v2] {
            let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            sender.write_all(&[&header[..], b"rest"].concat()).await.unwrap();
            let told = read(&mut stream).await.unwrap();
            assert_eq!(Ok(told), client("1.2.3.4:9", "5.6.7.8:10"));
            let mut rest = [0; 4];
            stream.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"rest");
        }
    }
}

//! Sockets that listen and sockets that dial, with the options that every one of them gets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpSocket;

/// Clients that wait in the kernel while a burst is accepted; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A peer that acknowledges nothing for this long is gone, bytes in flight or a closed window notwithstanding.
const USER_TIMEOUT: Duration = Duration::from_secs(120);

/// Binds `address`; on `[::]` for IPv4 too, and where there is no IPv6, on 0.0.0.0 instead.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    match bind_one(address) {
        Err(e) if is_no_ipv6(&e) && address.ip().is_unspecified() => {
            bind_one((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

fn bind_one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    set_options(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_no_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT: no such family; EADDRNOTAVAIL: the family is there, switched off.
    matches!(error.raw_os_error(), Some(97)) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// What both legs of a proxied connection carry: no Nagle delay on frames, and an end to peers that are gone.
pub fn set_options(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// A socket for one dial to an endpoint.
pub fn dialing_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    set_options(&SockRef::from(&socket))?;
    Ok(socket)
}

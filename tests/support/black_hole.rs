//! Addresses that answer nothing. Nothing sent to them leaves the machine.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

/// A listening socket whose queue is full: the kernel drops every further SYN, as a dead node does.
pub struct BlackHole {
    pub address: SocketAddr,
    listener: Socket,
    queued: Vec<TcpStream>,
}

impl BlackHole {
    pub async fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("opens a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        listener.bind(&any.into()).expect("binds");
        listener.listen(0).expect("listens");
        let address = listener.local_addr().expect("is bound");
        let address = address.as_socket().expect("an address");
        let mut queued = Vec::new();
        // A backlog of 0 still holds one or two, by kernel version.
        while let Ok(connected) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            queued.push(connected.expect("connects"));
            assert!(queued.len() < 16, "the kernel drops no SYN");
        }
        Self {
            address,
            listener,
            queued,
        }
    }
}

/// The limited broadcast address: connecting to it fails at once with ENETUNREACH and sends nothing.
pub fn unroutable() -> SocketAddr {
    SocketAddr::from(([255, 255, 255, 255], 80))
}

/// A loopback port that nobody listens on: bound and never listening, so that nobody else gets it either.
pub fn refusing() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("opens a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("binds");
    let address = socket.local_addr().expect("is bound");
    (address.as_socket().expect("an address"), socket)
}

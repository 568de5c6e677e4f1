//! The app behind the proxies: a fixed answer to every GET, an echo to every message, as cheap as can be.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::wire::{self, Connection};

const BACKLOG: u32 = 4096;

/// Serves on two ports, printed as one line. Bodies name the port that answered. Ends when standard input does.
pub fn run() -> anyhow::Result<()> {
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (first, second) = (listen()?, listen()?);
        println!("{} {}", first.local_addr()?, second.local_addr()?);
        tokio::try_join!(accept(first), accept(second)).map(|_| ())
    })
}

/// The 64 bytes that `address` answers with.
pub fn body(address: SocketAddr) -> String {
    format!("{:-<64}", format!("port {} ", address.port()))
}

fn listen() -> anyhow::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    socket.listen(BACKLOG).context("listen")
}

async fn accept(listener: TcpListener) -> anyhow::Result<()> {
    let body = body(listener.local_addr()?);
    let answer: Arc<[u8]> = format!(
        "HTTP/1.1 200 OK\r\nDate: Mon, 02 Nov 2026 09:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
    .into();
    loop {
        let (stream, _) = listener.accept().await?;
        let connection = Connection::new(stream)?;
        let answer = Arc::clone(&answer);
        // A peer that goes away in mid-exchange ends its own connection alone; the client counts what is missing.
        tokio::spawn(async move { serve(connection, &answer).await.ok() });
    }
}

async fn serve(mut connection: Connection, answer: &[u8]) -> io::Result<()> {
    while let Some(length) = connection.head().await? {
        let head = &connection.buffer[..length];
        if let Some(key) = wire::header(head, "sec-websocket-key") {
            let accept = derive_accept_key(key);
            connection.consume(length);
            let switch = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            connection.write(switch.as_bytes()).await?;
            return echo(connection).await;
        }
        connection.consume(length);
        connection.write(answer).await?;
    }
    Ok(())
}

/// Sends every frame back without its mask, and ends after a Close.
async fn echo(mut connection: Connection) -> io::Result<()> {
    loop {
        connection.fill(2).await?;
        let (first, length) = (connection.buffer[0], connection.buffer[1] & 0x7f);
        let header = match length {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        connection.fill(header + 4).await?;
        let length = match header {
            2 => usize::from(length),
            size => connection.buffer[2..size]
                .iter()
                .fold(0, |n, &b| n << 8 | usize::from(b)),
        };
        let payload = header + 4;
        connection.fill(payload + length).await?;

        let Connection { stream, buffer } = &mut connection;
        let key: [u8; 4] = [
            buffer[header],
            buffer[header + 1],
            buffer[header + 2],
            buffer[header + 3],
        ];
        if key != [0; 4] {
            buffer[payload..payload + length]
                .iter_mut()
                .zip(key.iter().cycle())
                .for_each(|(b, k)| *b ^= k);
        }
        // The answer's header is the same without mask and key: it fits right in front of the payload.
        buffer.copy_within(..header, 4);
        buffer[5] &= 0x7f;
        stream.write_all(&buffer[4..payload + length]).await?;
        if first & 0x0f == 8 {
            return stream.shutdown().await;
        }
        connection.consume(payload + length);
    }
}

//! A unit of work: the bytes that it sends and those that it expects. Nothing here measures.

use std::io::ErrorKind;

use anyhow::{Context, ensure};
use rustls::HandshakeKind;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dialer::Dialer;
use super::wire::{self, Connection};

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum Unit {
    /// A GET on a kept connection.
    Get,
    /// A binary message and its echo on an open socket.
    Echo { size: usize },
    /// A new socket: upgrade, one echo of 64 bytes, the closing handshake.
    Upgrade,
    /// A new TLS connection: handshake, one GET, the end; by a ticket of the connection before, or without.
    Handshake { resumed: bool },
}

/// Everything that is sent, or expected.
pub struct Bytes {
    get: Vec<u8>,
    upgrade: Vec<u8>,
    message: Vec<u8>,
    echoed: Vec<u8>,
    close: Vec<u8>,
}

impl Unit {
    /// Whether each one is a connection of its own.
    pub fn connects(self) -> bool {
        matches!(self, Self::Upgrade | Self::Handshake { .. })
    }
}

impl Bytes {
    pub fn new(unit: Unit) -> Self {
        let size = match unit {
            Unit::Echo { size } => size,
            Unit::Get | Unit::Upgrade | Unit::Handshake { .. } => 64,
        };
        Self {
            get: wire::get(wire::HOST),
            upgrade: wire::upgrade(),
            message: wire::message(size),
            echoed: wire::echoed(size),
            close: wire::close(),
        }
    }
}

/// One unit that is a connection of its own.
pub async fn visit(dialer: &Dialer, unit: Unit, bytes: &Bytes) -> anyhow::Result<()> {
    match unit {
        Unit::Handshake { resumed: false } => {
            take_leave(dialer.connect_expecting(HandshakeKind::Full).await?, bytes).await
        }
        Unit::Handshake { resumed: true } => {
            take_leave(dialer.connect_expecting(HandshakeKind::Resumed).await?, bytes).await
        }
        _ => {
            let mut connection = dialer.connect().await?;
            upgrade(&mut connection, bytes).await?;
            echo(&mut connection, bytes).await?;
            close(&mut connection, bytes).await
        }
    }
}

/// One GET, and the end from this side.
pub async fn take_leave(mut connection: Connection, bytes: &Bytes) -> anyhow::Result<()> {
    get(&mut connection, bytes).await?;
    connection.stream.shutdown().await?;
    match connection.stream.read(&mut [0]).await {
        Ok(0) => Ok(()),
        // Not every proxy says close_notify.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
        Ok(_) => anyhow::bail!("bytes after the answer"),
        Err(error) => Err(error.into()),
    }
}

/// One unit on a kept connection.
pub async fn exchange(connection: &mut Connection, unit: Unit, bytes: &Bytes) -> anyhow::Result<()> {
    match unit {
        Unit::Get => get(connection, bytes).await,
        _ => echo(connection, bytes).await,
    }
}

pub async fn upgrade(connection: &mut Connection, bytes: &Bytes) -> anyhow::Result<()> {
    connection.write(&bytes.upgrade).await?;
    let length = connection.head().await?.context("closed instead of a 101")?;
    expect_status(&connection.buffer[..length], "101")?;
    connection.consume(length);
    Ok(())
}

async fn get(connection: &mut Connection, bytes: &Bytes) -> anyhow::Result<()> {
    connection.write(&bytes.get).await?;
    let length = connection.head().await?.context("closed instead of an answer")?;
    let head = &connection.buffer[..length];
    expect_status(head, "200")?;
    let body = wire::header(head, "content-length").context("no Content-Length")?;
    let body: usize = std::str::from_utf8(body)?.parse()?;
    connection.fill(length + body).await?;
    connection.consume(length + body);
    Ok(())
}

async fn echo(connection: &mut Connection, bytes: &Bytes) -> anyhow::Result<()> {
    connection.write(&bytes.message).await?;
    connection.fill(bytes.echoed.len()).await?;
    ensure!(connection.buffer == bytes.echoed, "the echo differs from the message");
    connection.buffer.clear();
    Ok(())
}

/// Sends Close and reads the app's Close, then the end.
async fn close(connection: &mut Connection, bytes: &Bytes) -> anyhow::Result<()> {
    connection.write(&bytes.close).await?;
    connection.fill(4).await?;
    ensure!(
        connection.buffer == [0x88, 2, 0x03, 0xe8],
        "the answer to Close differs"
    );
    ensure!(connection.stream.read(&mut [0]).await? == 0, "bytes after Close");
    Ok(())
}

fn expect_status(head: &[u8], status: &str) -> anyhow::Result<()> {
    ensure!(
        head.get(9..12) == Some(status.as_bytes()),
        "expected {status}, got: {}",
        String::from_utf8_lossy(head)
    );
    Ok(())
}

//! What TLS costs: handshakes, relayed messages and idle sockets over it, with one certificate and one cipher suite for all.

use std::net::SocketAddr;

use anyhow::Context;

use super::certificate::Certificate;
use super::cpu;
use super::dialer::STREAMS;
use super::memory::{self, Row};
use super::proxy::Kind;
use super::unit::Unit;

const CPU: [cpu::Row; 5] = [
    (
        "full handshake, GET, end; 32 at a time",
        Unit::Handshake { resumed: false },
        32,
    ),
    (
        "resumed handshake, GET, end; 32 at a time",
        Unit::Handshake { resumed: true },
        32,
    ),
    ("GET, 64 connections", Unit::Get, 64),
    ("echo of 64 B, 64 sockets", Unit::Echo { size: 64 }, 64),
    ("echo of 16 KiB, 64 sockets", Unit::Echo { size: 16 << 10 }, 64),
];

pub fn measure(peers: &[Kind], app: SocketAddr, quick: bool) -> anyhow::Result<()> {
    println!(
        "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519, a certificate with an ECDSA P-256 key, signed by its authority\n"
    );
    let certificate = Certificate::new();
    cpu::measure(peers, app, Some(&certificate), &CPU, quick).context("CPU per unit")?;

    let connections = memory::at_most(if quick { 1000 } else { 4000 })?;
    let row = |name, transport, at_once| Row {
        name,
        unit: Unit::Echo { size: 64 },
        transport,
        connections,
        at_once,
        quiet: memory::QUIET,
    };
    let rows = [
        row("idle socket over TLS, 32 opened at a time", certificate.tls(), 32),
        row(
            "idle socket over TLS, all opened at once",
            certificate.tls(),
            connections,
        ),
        row(
            "idle socket over HTTP/2, 100 a connection",
            certificate.http2(),
            STREAMS,
        ),
        Row {
            unit: Unit::Get,
            quiet: memory::QUIET_KEEP_ALIVE,
            ..row("idle keep-alive client over TLS", certificate.tls(), 32)
        },
    ];
    memory::measure(peers, app, Some(&certificate), &rows).context("memory")
}

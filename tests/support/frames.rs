//! HTTP/2 frames by hand (RFC 9113 section 4.1), for what a client library would not send.

use super::wire::Wire;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block of literals that enter no table (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

/// A request's fields, and more.
pub fn get<'a>(host: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", host),
    ];
    block(&[&fields, more].concat())
}

fn string(block: &mut Vec<u8>, text: &str) {
    // An integer with a prefix of seven bits (RFC 7541 section 5.1).
    match text.len() {
        short @ 0..127 => block.push(short as u8),
        long => {
            block.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                block.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            block.push(rest as u8);
        }
    }
    block.extend(text.as_bytes());
}

impl Wire {
    /// A client's beginning, its settings with it.
    pub async fn begin_http2(&mut self) {
        self.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    }

    pub async fn frame(&mut self) -> Frame {
        self.try_frame().await.expect("a frame")
    }

    /// None at the end of the connection, however it ends.
    pub async fn try_frame(&mut self) -> Option<Frame> {
        let head = self.try_exactly(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: self.try_exactly(length as usize).await?,
        })
    }

    /// The next frame of that kind, others passed over.
    pub async fn frame_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().await;
            if frame.kind == kind {
                return frame;
            }
        }
    }
}

impl Frame {
    /// The error of an RST_STREAM or a GOAWAY.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

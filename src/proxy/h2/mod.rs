//! HTTP/2 toward clients, with the h2 crate: one task per connection, and one per stream while it is a request or a socket.
//! What a request is answered with is `exchange`'s, as for HTTP/1.1.

mod connection;
mod flood;
mod io;
pub mod place;
mod request;
mod send;
mod socket;

pub use connection::serve;

/// How a client begins that knows of HTTP/2 beforehand (RFC 9113 section 3.4), as far as no other protocol does: `PRI` is no
/// method of anyone's.
pub fn is_preface(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PRI * HTTP/2.0\r\n")
}

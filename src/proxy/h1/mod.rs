//! HTTP/1.1 toward clients, with hyper: one task per connection, which answers one request after the other. What a request is
//! answered with is `exchange`'s, as for HTTP/2.

mod connection;
mod io;

pub use connection::serve;

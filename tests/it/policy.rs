//! What stands before an app: each kind of rule, over every transport, for plain requests and WebSockets alike.

mod api_key;
mod basic_auth;
mod cors;
mod credentials;
mod edits;
mod firewall;
mod handshake;
mod logging;
mod order;
mod origin;
mod paths;
mod principal;
mod secrets;
mod shadow;

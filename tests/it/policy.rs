//! What stands before an app: each kind of rule, over every transport, for plain requests and WebSockets alike.

mod api_key;
mod basic_auth;
mod connection_limit;
mod cors;
mod cost;
mod credentials;
mod edits;
mod firewall;
mod forward_auth;
mod handshake;
mod jwt;
mod logging;
mod model;
mod openapi;
mod order;
mod origin;
mod paths;
mod principal;
mod rate_limit;
mod secrets;
mod shadow;
mod shared;
mod targets;

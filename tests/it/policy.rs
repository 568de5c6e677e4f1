//! What stands before an app: each kind of rule, over every transport, for plain requests and WebSockets alike.

mod connection_limit;
mod cors;
mod edits;
mod firewall;
mod forward_auth;
mod jwt;
mod logging;
mod model;
mod openapi;
mod order;
mod origin;
mod paths;
mod rate_limit;
mod shadow;
mod shared;

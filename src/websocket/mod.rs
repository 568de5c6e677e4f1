//! WebSockets: the handshake's rules, the tunnel that carries an open one, and what can be said to it from outside.

pub mod deployment_state;
pub mod handshake;
pub mod socket;
pub mod tunnel;

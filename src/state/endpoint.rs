//! What belongs to one address of one upstream while any snapshot, request or socket refers to it.

#[derive(Default)]
pub struct Endpoint {}

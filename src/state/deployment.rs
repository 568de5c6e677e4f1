//! What belongs to one Deployment object while it lives.

#[derive(Default)]
pub struct Deployment {}

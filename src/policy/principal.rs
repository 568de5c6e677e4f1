//! Who a request is from.

use http::HeaderValue;

#[derive(Debug)]
pub struct Principal {
    header: HeaderValue,
}

impl Principal {
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }
}

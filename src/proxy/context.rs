//! What is known of one request while it is served.

use http::HeaderValue;
use uuid::Uuid;

/// UUIDv7: sorts by time.
pub fn request_id() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let id: &str = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("-"))
}

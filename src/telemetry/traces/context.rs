//! Which trace a request belongs to: W3C Trace Context, as clients say it and apps are told.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The trace, its span and its flags (W3C Trace Context section 3.2).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add (section 3.3); it passes as it is.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A place in a trace: the span of whoever says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The same for all spans of a trace.
    pub trace: TraceId,
    /// Whose it is.
    pub span: SpanId,
    /// Whether the trace is recorded, by the word of who began it.
    pub sampled: bool,
}

/// Prints as 32 hexadecimal digits; never zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub u128);

/// Prints as 16 hexadecimal digits; never zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpanId(pub u64);

/// The length of version 00; later versions may append to it.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;

impl Context {
    /// None: there is none, or it cannot be read, and a new trace may begin (section 3.2.2 and 4.3).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        match (lines.next(), lines.next()) {
            (Some(line), None) => Self::parse(line.as_bytes()),
            _ => None,
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_at_checked(LENGTH)?;
        let version = hex(&known[..2])? as u8;
        let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let ends = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more[0] == b'-',
        };
        let trace = TraceId(hex(&known[3..35])?);
        let span = SpanId(hex(&known[36..52])? as u64);
        let flags = hex(&known[53..])? as u8;
        (dashes && ends && trace.0 != 0 && span.0 != 0).then_some(Self {
            trace,
            span,
            sampled: flags & SAMPLED != 0,
        })
    }

    /// What `traceparent` says.
    pub fn header(&self) -> HeaderValue {
        let Self { trace, span, sampled } = self;
        let text = format!("00-{trace}-{span}-{:02x}", u8::from(*sampled));
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }
}

/// Digits in lower case alone (section 3.2.2.1).
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(text: &str) -> Option<Context> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(text).unwrap());
        Context::of(&headers)
    }

    #[test]
    fn what_is_read_is_said_again() {
        assert_eq!(parse(EXAMPLE).unwrap().header(), EXAMPLE);
        let unsampled = EXAMPLE.replace("-01", "-00");
        assert_eq!(parse(&unsampled).unwrap().header(), unsampled.as_str());
        // Of flags that are not known only the known one is passed on.
        assert_eq!(parse(&EXAMPLE.replace("-01", "-ff")).unwrap().header(), EXAMPLE);
        // A later version is read as far as it is known.
        let later = EXAMPLE.replacen("00", "cc", 1) + "-what-the-future-brings";
        assert_eq!(parse(&later).unwrap().header(), EXAMPLE);
    }

    #[test]
    fn what_is_malformed_is_none() {
        for malformed in [
            "",
            "00",
            &EXAMPLE[1..],
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replacen("00", "ff", 1),
            &EXAMPLE.replace('-', "_"),
            &format!("{EXAMPLE}-more"),
            &format!("{}.", EXAMPLE.replacen("00", "01", 1)),
            &EXAMPLE.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &EXAMPLE.replace("b7ad6b7169203331", &"0".repeat(16)),
            &EXAMPLE.replace("b7ad", "x7ad"),
        ] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
        let mut twice = HeaderMap::new();
        twice.append(TRACEPARENT, HeaderValue::from_static(EXAMPLE));
        twice.append(TRACEPARENT, HeaderValue::from_static(EXAMPLE));
        assert_eq!(Context::of(&twice), None);
    }
}

//! How often a request has come through Postern already, told by `CDN-Loop` (RFC 8586): every pass adds an element that
//! no client, rule or other proxy takes away. All installations have one name, so that replicas, and loops over several
//! installations, are counted together.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::list::elements;

/// An element for each proxy on the way that counts.
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// Passes of one request. A chain of installations is shorter, and a loop has cost little by then.
const MAX_PASSES: usize = 8;
/// The pseudonym of RFC 8586 section 2.
const OWN: &str = "postern";

/// Whether the request has passed too often to be sent anywhere again.
pub fn is_loop(headers: &HeaderMap) -> bool {
    // Most requests have no such field, and pay for this one look.
    headers.contains_key(CDN_LOOP) && passes(headers) >= MAX_PASSES
}

/// Tells the next hop of all that the client said, line by line, and of this pass. What `to` says under the name is gone:
/// it can only come from a rule.
pub fn add_pass(client: &HeaderMap, to: &mut HeaderMap) {
    let mut lines = client.get_all(CDN_LOOP).into_iter();
    let Some(last) = lines.next_back() else {
        to.insert(CDN_LOOP, HeaderValue::from_static(OWN));
        return;
    };
    let mut extended = last.as_bytes().to_vec();
    extended.extend(b", ");
    extended.extend(OWN.as_bytes());
    // Never fails: made of header values.
    let extended = HeaderValue::try_from(extended).unwrap_or(HeaderValue::from_static(OWN));
    to.remove(CDN_LOOP);
    for line in lines {
        to.append(CDN_LOOP, line.clone());
    }
    to.append(CDN_LOOP, extended);
}

/// By bytes, since what is no text must not count as no pass; and at every comma, since in a quoted parameter that
/// somebody has left open our own elements would be hidden. Whoever writes our name refuses his own requests.
fn passes(headers: &HeaderMap) -> usize {
    elements(headers, CDN_LOOP).filter(|element| is_own(element)).count()
}

/// An identifier stands before its parameters, and a hostname may be in any case.
fn is_own(element: &[u8]) -> bool {
    let id = element.split(|byte| *byte == b';').next().unwrap_or_default();
    id.trim_ascii().eq_ignore_ascii_case(OWN.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[impl AsRef<[u8]>]) -> HeaderMap {
        let value = |line: &[u8]| HeaderValue::from_bytes(line).expect("a value");
        lines.iter().map(|line| (CDN_LOOP, value(line.as_ref()))).collect()
    }

    #[test]
    fn own_elements_count_on_every_line_and_in_every_form() {
        assert_eq!(passes(&HeaderMap::new()), 0);
        for (line, count) in [
            ("", 0),
            ("postern", 1),
            ("Postern;v=1 , other.example,postern ; a=\"b\"", 2),
            ("xpostern, postern.example, postern:80, post ern", 0),
            ("a;b=\", postern", 1),
            (",,postern,\t postern\t,", 2),
        ] {
            assert_eq!((line, passes(&headers(&[line]))), (line, count));
        }
        assert_eq!(passes(&headers(&["postern", "x", "postern, postern"])), 3);
        assert_eq!(passes(&headers(&[&b"\xff\xe9, postern"[..], b"postern;\xff"])), 2);
    }

    #[test]
    fn what_a_rule_says_is_replaced_and_what_the_client_says_is_kept() {
        let mut to = headers(&["of a rule"]);
        add_pass(&HeaderMap::new(), &mut to);
        assert_eq!(to, headers(&["postern"]));
        add_pass(&headers(&["a, b", "c;d=\"e"]), &mut to);
        assert_eq!(to, headers(&["a, b", "c;d=\"e, postern"]));
    }

    proptest! {
        #[test]
        fn every_pass_counts_whatever_the_client_sends(
            lines in vec(vec(prop_oneof![Just(b'\t'), 32u8..127, 128u8..=255, Just(b','), Just(b'"')], 0..40), 0..5),
            ours in vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut lines = lines;
            if !lines.is_empty() {
                for at in ours {
                    let line = at.get(&lines).clone();
                    lines.push([&line[..], b",postern"].concat());
                }
            }
            let mut request = headers(&lines);
            let before = passes(&request);
            for pass in 1..=MAX_PASSES {
                let mut next = HeaderMap::new();
                add_pass(&request, &mut next);
                prop_assert_eq!(passes(&next), before + pass);
                // Elements of others stay where they are.
                for (now, then) in next.get_all(CDN_LOOP).iter().zip(request.get_all(CDN_LOOP)) {
                    prop_assert!(now.as_bytes().starts_with(then.as_bytes()));
                }
                request = next;
            }
            prop_assert!(is_loop(&request));
        }
    }
}

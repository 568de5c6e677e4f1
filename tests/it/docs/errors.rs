//! Every error code, with the status and the header that go with it.

use std::collections::BTreeSet;

use postern::reason::Reason;
use strum::VariantArray;

use super::{assert_table, code, owners, page};

#[test]
fn error_codes_are_those_of_the_code() {
    let mut reasons = Reason::VARIANTS.to_vec();
    reasons.sort_by_key(|reason| (reason.status().as_u16(), reason.code()));
    let rows = reasons.into_iter().map(|reason| {
        [
            reason.status().as_u16().to_string(),
            code(reason.code()),
            reason.detail().to_owned(),
            retry_after(reason),
        ]
    });
    assert_table(
        "errors.md",
        "errors",
        ["status", "code", "detail in the response", "Retry-After"],
        rows,
    );
    // Each of their first halves is explained by hand.
    let text = page("errors.md");
    let explained = text
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once("`:"));
    let explained: BTreeSet<_> = explained.map(|(owner, _)| owner).collect();
    assert_eq!(explained, owners());
}

fn retry_after(reason: Reason) -> String {
    // Those two are said by the rule that refuses; its own tests hold that.
    match reason {
        Reason::RateLimited => return "time until the window allows the next request".to_owned(),
        Reason::TooManyConnections => return "1 to 5 s".to_owned(),
        _ => {}
    }
    let told: BTreeSet<_> = (0..1000).filter_map(|_| reason.retry_after()).collect();
    match (told.first(), told.last()) {
        (Some(first), Some(last)) if first == last => format!("{first} s"),
        (Some(first), Some(last)) => format!("{first} to {last} s"),
        _ => String::new(),
    }
}

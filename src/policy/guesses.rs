//! How often an address may show what turns out to be wrong: a wrong password costs a hash, a forged token some signatures.
//! Only what was wrong counts, so that an address with many users is not held against them.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;

use http::HeaderValue;
use http::header::RETRY_AFTER;

use super::refusal::Refusal;
use crate::limits::windows::{Quota, Windows};
use crate::net::client_network::client_network;
use crate::reason::Reason;

/// Wrong guesses at one rule, by address.
#[derive(Debug, Default)]
pub struct Guesses(Windows);

/// Wrong guesses of one address in `WINDOW` milliseconds.
pub const MAX_WRONG: u32 = 60;
const WINDOW: u64 = 60_000;
const QUOTA: Quota = Quota {
    limit: MAX_WRONG,
    window: WINDOW,
    cost: 1,
};

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Guesses {
    /// Refuses an address that was wrong too often. None: one that cannot be read, and shares with all such.
    pub fn admit(&self, client: Option<IpAddr>) -> Result<(), Refusal> {
        if self.0.has_left(key(client), &QUOTA) {
            return Ok(());
        }
        let mut refusal = Refusal::from(Reason::RateLimited);
        refusal.detail =
            Some("Too many wrong credentials have come from this address: try again in a minute.".to_owned());
        refusal.headers.insert(RETRY_AFTER, HeaderValue::from(WINDOW / 1000));
        Err(refusal)
    }

    /// One more that was wrong.
    pub fn note_wrong(&self, client: Option<IpAddr>) {
        self.0.take(key(client), &QUOTA);
    }
}

fn key(client: Option<IpAddr>) -> u128 {
    u128::from(HASHER.hash_one(client.map(client_network)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_was_wrong_too_often_waits_and_no_other_does() {
        let guesses = Guesses::default();
        let [bad, good] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().ok());
        for _ in 0..MAX_WRONG {
            assert!(guesses.admit(bad).is_ok());
            guesses.note_wrong(bad);
        }
        let refusal = guesses.admit(bad).expect_err("it was wrong too often");
        assert_eq!(
            (refusal.reason, &refusal.headers[RETRY_AFTER]),
            (Reason::RateLimited, &HeaderValue::from(60))
        );
        assert!(guesses.admit(good).is_ok() && guesses.admit(None).is_ok());
        tokio::time::advance(Duration::from_secs(121)).await;
        assert!(guesses.admit(bad).is_ok());
    }
}

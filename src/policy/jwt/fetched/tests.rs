use std::collections::BTreeSet;
use std::net::SocketAddr;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::live::state::State;

const LIMIT: Duration = Duration::from_secs(1);

/// A server of keys, and how often it was asked.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    asked: watch::Sender<usize>,
    /// The answer; empty: none ever comes.
    answer: Arc<Mutex<String>>,
}

impl Server {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            asked: watch::Sender::default(),
            answer: Arc::new(Mutex::new(answer)),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    serving.asked.send_modify(|asked| *asked += 1);
                    let answer = serving.answer.lock().clone();
                    if answer.is_empty() {
                        let _ = stream.read_u8().await;
                    }
                    stream.write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
        server
    }

    fn say(&self, answer: String) {
        *self.answer.lock() = answer;
    }

    fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    async fn was_asked(&self, count: usize) {
        self.asked.subscribe().wait_for(|asked| *asked >= count).await.unwrap();
    }

    fn keys(&self, state: &State) -> Arc<Jwks> {
        let url = format!("http://{}/keys", self.address).parse().unwrap();
        state.jwks(&"acme".into(), &url, &egress())
    }
}

fn egress() -> Arc<Egress> {
    let loopback = ["127.0.0.0/8".parse().unwrap()];
    Arc::new(Egress::new(BTreeSet::new(), loopback.into()))
}

fn set(kid: &str) -> String {
    let x = BASE64_URL_SAFE_NO_PAD.encode(Ed25519KeyPair::generate().unwrap().public_key().as_ref());
    format!(r#"{{"keys":[{{"kid":"{kid}","kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#)
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn failing() -> String {
    "HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()
}

/// Paused, the clock runs ahead to the next timer while a socket is awaited. So for what has to happen in between.
async fn in_real_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::resume();
    let result = what.await;
    tokio::time::pause();
    result
}

#[tokio::test]
async fn keys_are_fetched_before_anybody_asks_and_the_first_to_ask_waits_for_them() {
    let server = Server::start(ok(&set("a"))).await;
    let keys = server.keys(&State::default());
    assert!(keys.current(LIMIT).await.is_some());
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn rules_of_one_url_share_their_keys_and_the_last_takes_them_along() {
    let server = Server::start(ok(&set("a"))).await;
    let state = State::default();
    let first = server.keys(&state);
    let second = server.keys(&state);
    assert!(Arc::ptr_eq(&first, &second));
    first.current(LIMIT).await.unwrap();
    let wanted = Arc::downgrade(&first.wanted);
    drop((first, second));
    // The task holds the other reference, and ends.
    while wanted.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn what_was_never_started_has_no_keys_and_keeps_nobody_waiting() {
    let keys = Jwks::default();
    assert!(keys.current(Duration::from_secs(3600)).await.is_none());
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_at_once_by_all_together_and_not_again_within_the_gap() {
    let server = Server::start(ok(&set("a"))).await;
    let keys = server.keys(&State::default());
    let old = keys.current(LIMIT).await.unwrap();
    // Within the gap of the first fetch.
    assert!(keys.newer(&old, LIMIT).await.is_none());
    assert_eq!(server.asked(), 1);

    server.say(ok(&set("b")));
    tokio::time::pause();
    tokio::time::advance(GAP).await;
    tokio::time::resume();
    let asking: Vec<_> = (0..32)
        .map(|_| {
            let (keys, old) = (keys.clone(), old.clone());
            tokio::spawn(async move { keys.newer(&old, LIMIT).await })
        })
        .collect();
    for one in asking {
        let newer = one.await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&newer, &keys.current(LIMIT).await.unwrap()));
    }
    assert_eq!(server.asked(), 2);
    assert!(
        keys.newer(&old, LIMIT).await.is_some(),
        "who still has the old ones gets the new"
    );
    let new = keys.current(LIMIT).await.unwrap();
    assert!(keys.newer(&new, LIMIT).await.is_none());
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn who_waits_for_newer_keys_waits_no_longer_than_he_says() {
    let server = Server::start(ok(&set("a"))).await;
    let keys = server.keys(&State::default());
    let old = keys.current(LIMIT).await.unwrap();
    server.say(String::new());
    tokio::time::pause();
    tokio::time::advance(GAP).await;
    tokio::time::resume();
    assert!(keys.newer(&old, Duration::from_millis(20)).await.is_none());
    server.was_asked(2).await;
}

#[tokio::test]
async fn servers_of_one_namespace_that_hang_keep_no_other_waiting() {
    let (state, egress) = (State::default(), egress());
    let (silent, good) = (Server::start(String::new()).await, Server::start(ok(&set("a"))).await);
    let keys = |namespace: &str, server: &Server, path: usize| {
        let url = format!("http://{}/{path}", server.address).parse().unwrap();
        state.jwks(&namespace.into(), &url, &egress)
    };
    let hostile: Vec<_> = (0..1000)
        .map(|path| keys(&format!("hostile-{}", path % 10), &silent, path))
        .collect();
    silent.was_asked(10).await;
    assert!(keys("quiet", &good, 0).current(LIMIT).await.is_some());
    // The first of each share are on their way; whose rules are gone gives its place in line up.
    let waiting: Vec<_> = hostile.iter().map(|keys| Arc::downgrade(&keys.wanted)).collect();
    let begun = hostile.iter().filter(|keys| keys.progress.borrow().begun > 0).count();
    assert_eq!(begun, 40);
    drop(hostile);
    let left = || waiting.iter().filter(|wanted| wanted.strong_count() > 0).count();
    while left() > begun {
        tokio::task::yield_now().await;
    }
    assert!(silent.asked() <= begun);
}

#[tokio::test]
async fn while_the_url_fails_the_keys_stay_and_the_same_keys_stay_the_same_set() {
    let good = ok(&set("a"));
    let server = Server::start(good.clone()).await;
    let keys = server.keys(&State::default());
    let old = keys.current(LIMIT).await.unwrap();
    for (count, answer) in [(2, failing()), (3, ok("{}")), (4, ok(&"x".repeat(2 << 20))), (5, good)] {
        server.say(answer);
        tokio::time::pause();
        tokio::time::advance(FRESH.1).await;
        tokio::time::resume();
        server.was_asked(count).await;
        let ended = |progress: &Progress| progress.ended >= count as u64;
        keys.progress.subscribe().wait_for(ended).await.unwrap();
        assert!(Arc::ptr_eq(&old, &keys.current(LIMIT).await.unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_url_that_is_down_at_first_is_asked_again_ever_more_slowly_until_it_answers() {
    let server = in_real_time(Server::start(failing())).await;
    let keys = server.keys(&State::default());
    in_real_time(server.was_asked(1)).await;
    in_real_time(keys.progress.subscribe().wait_for(|progress| progress.ended >= 1))
        .await
        .unwrap();
    assert!(keys.current(LIMIT).await.is_none());
    server.say(ok(&set("a")));
    tokio::time::advance(RETRY.0).await;
    in_real_time(keys.progress.subscribe().wait_for(|progress| progress.ended >= 2))
        .await
        .unwrap();
    assert!(keys.current(LIMIT).await.is_some());
    let pauses: Vec<_> = (1..9).map(|failures| backoff(failures).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(backoff(u32::MAX), RETRY.1);
}

#[test]
fn a_set_is_fresh_for_as_long_as_it_says_within_bounds() {
    for (line, seconds) in [
        ("", 300),
        ("max-age=600", 600),
        ("public, Max-Age=600, must-revalidate", 600),
        ("max-age=\"600\"", 600),
        ("s-maxage=600", 300),
        ("max-age=0", 60),
        ("no-store", 300),
        ("max-age=86400", 3600),
        ("max-age=99999999999999999999", 300),
        ("max-age=x", 300),
    ] {
        let mut headers = HeaderMap::new();
        if !line.is_empty() {
            headers.insert(header::CACHE_CONTROL, line.parse().unwrap());
        }
        assert_eq!(fresh(&headers).as_secs(), seconds, "{line}");
    }
    let pause = Duration::from_secs(100);
    assert!((0..1000).all(|_| (Duration::from_secs(90)..=pause).contains(&jittered(pause))));
}

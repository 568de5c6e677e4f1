//! The promise between tenants: whatever ten namespaces write and whatever their clients send, an eleventh keeps its requests,
//! sockets, logins and changes. By default a short run, whose bounds are wide since debug builds and busy machines are slow: it finds
//! what stops others. With `POSTERN_TRIAL=300` (seconds) and a release as `POSTERN_BIN` the promise itself.

mod hostile;
mod quiet;

use std::time::Duration;

use crate::support::postern::Postern;
use quiet::{Figures, Quiet};

/// What is promised, or for a short run what is certain.
struct Promise {
    run: Duration,
    p99: Duration,
    worst: Duration,
    change: Duration,
    /// How much slower the attacks are than they could be.
    slower: u32,
}

impl Promise {
    fn asked_for() -> Self {
        let millis = Duration::from_millis;
        match std::env::var("POSTERN_TRIAL").map(|seconds| seconds.parse().expect("seconds")) {
            Ok(seconds) => Self {
                run: Duration::from_secs(seconds),
                p99: millis(10),
                worst: millis(50),
                change: millis(100),
                slower: 1,
            },
            Err(_) => Self {
                run: Duration::from_secs(10),
                p99: millis(5000),
                worst: millis(8000),
                change: millis(8000),
                slower: 5,
            },
        }
    }

    fn holds(&self, what: &str, before: &Figures, during: &Figures) {
        let worse = |figure: fn(&Figures) -> Duration| figure(during).saturating_sub(figure(before));
        let (p99, worst) = (worse(Figures::p99), worse(Figures::worst));
        assert!(p99 <= self.p99, "{what}: p99 {p99:?} longer\n{before}\n{during}");
        assert!(
            worst <= self.worst,
            "{what}: at worst {worst:?} longer\n{before}\n{during}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ten_namespaces_do_costs_an_eleventh_nothing() {
    let promise = Promise::asked_for();
    let quiet = Quiet::start().await;
    let hostile = hostile::Hostile::start().await;
    let sites: Vec<_> = quiet.sites().into_iter().chain(hostile.sites()).collect();
    let flags = ["--allow-egress", "127.0.0.0/8", "--access-log", "off"];
    let postern = Postern::start_with(&sites, &flags).await;
    let before = quiet.measure(&postern, promise.run / 5).await;
    let memory = postern.resident();
    let attacks = hostile.attack(&postern, promise.slower);
    let during = quiet.measure(&postern, promise.run).await;
    let (full, done) = (postern.resident(), attacks.end().await);
    hostile.stop();
    println!("{:>10} {:>9} {:>9} {:>9} {:>9}", "", "count", "median", "p99", "worst");
    for (what, before, during) in before.beside(&during) {
        println!("{what:>10}  before  {before}\n{:>10}  during  {during}", "");
    }
    println!("resident: {} MiB before, {} MiB at the end", memory >> 20, full >> 20);
    for (what, count) in &done {
        println!("{count:>9} × {what}");
        assert!(*count > 0, "nobody did: {what}");
    }
    for (what, before, during) in before.beside(&during) {
        if what == "changes" {
            let longer = during.p99().saturating_sub(before.p99());
            assert!(
                longer <= promise.change,
                "changes: {longer:?} longer\n{before}\n{during}"
            );
        } else {
            promise.holds(what, before, during);
        }
    }
    assert!(full < 1 << 30, "{} MiB", full >> 20);
    assert_eq!(postern.probe("/livez").await, 200);
}

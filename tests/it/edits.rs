//! Manifests that change while sockets are open: what takes effect, and that sockets stay unless their Deployment goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select_all};
use serde_json::json;

use crate::support::backend::Backend;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{End, Wire, get};
use crate::support::{eventually, ws};

const HOST: &str = "app.example.test";

/// Opens that many, some at a time.
async fn open(postern: &Postern, host: &'static str, count: usize) -> Vec<Wire> {
    let mut open = Vec::new();
    while open.len() < count {
        let some = (count - open.len()).min(50);
        let opening: Vec<_> = (0..some)
            .map(|_| tokio::spawn(ws::open(postern.http, host, "/")))
            .collect();
        for socket in opening {
            open.push(socket.await.expect("opens"));
        }
    }
    open
}

async fn assert_open(sockets: &mut [Wire]) {
    for socket in sockets.iter_mut() {
        socket.send("still here?").await;
    }
    for socket in sockets {
        assert_eq!(socket.exactly(11).await, b"still here?");
    }
}

#[tokio::test]
async fn created_changed_and_deleted_take_effect() {
    let (one, two) = (Backend::saying("one").await, Backend::saying("two").await);
    let postern = Postern::start(&[]).await;
    assert_eq!(get(postern.http, HOST, "/").await.status(), 404);
    let says = async |host: &str, text: &str| {
        let so = async || get(postern.http, host, "/").await.text() == text;
        eventually(&format!("{host} says {text}"), so).await;
    };
    postern.apply(&Site::new("app", HOST).to(one.address));
    says(HOST, "one").await;
    postern.apply(&Site::new("app", HOST).to(two.address));
    says(HOST, "two").await;
    postern.apply(&Site::new("app", "other.test").to(two.address));
    says("other.test", "two").await;
    postern.answers(HOST, 404).await;
    postern.apply(
        &Site::new("app", "other.test")
            .to(two.address)
            .spec(json!({"state": "Stopped"})),
    );
    postern.answers("other.test", 503).await;
    postern.remove("app");
    postern.answers("other.test", 404).await;
}

#[tokio::test]
async fn five_hundred_sockets_survive_two_hundred_edits() {
    let (old, new) = (Backend::echoing().await, Backend::saying("new").await);
    let site = Site::new("app", HOST).to(old.address);
    let others: Vec<_> = (0..10)
        .map(|i| Site::new(&format!("other-{i}"), &format!("other-{i}.test")))
        .collect();
    let beside = Site::new("beside", "beside.test").to(new.address);
    let postern = Postern::start(&[&[site.clone(), beside], &others[..]].concat()).await;
    let mut sockets = open(&postern, HOST, 500).await;

    // Everything about its own Deployment but deletion and Stopped, and others that come, change and go.
    let moved = Site::new("app", "moved.test").to(new.address);
    let related = [
        site.clone()
            .spec(json!({"timeouts": {"response": "1s", "idle": "1s", "total": "1s"}})),
        site.clone()
            .spec(json!({"deploymentId": "changed", "webSocket": {"handshakeTimeout": "1s"}})),
        site.clone().spec(json!({"balancing": {"strategy": "RoundRobin"}})),
        site.clone().spec(json!({"paths": [{"path": "/elsewhere"}]})),
        site.clone().spec(json!({"service": {"name": "beside", "port": 80}})),
        site.clone().spec(json!({"service": {"name": "missing", "port": 80}})),
        Site::new("app", HOST),
        Site::new("app", HOST).to(new.address),
        site.clone().endpoint(
            new.address,
            json!({"ready": false, "serving": true, "terminating": true}),
        ),
        moved.clone(),
    ];
    let mut version = postern.metric("postern_snapshot_version", &[]).await;
    for i in 0..100 {
        let other = &others[i % others.len()];
        for edit in 0..2 {
            match (edit, i / others.len() % 3) {
                (0, _) => postern.apply(&related[i % related.len()]),
                (_, 0) => postern.apply(&other.clone().to(new.address)),
                (_, 1) => postern.remove(&other.name),
                (_, _) => postern.apply(other),
            }
            // Each is served before the next comes: none is merely skipped.
            let served = async || postern.metric("postern_snapshot_version", &[]).await > version;
            eventually(&format!("edit {edit} of round {i} is served"), served).await;
            version = postern.metric("postern_snapshot_version", &[]).await;
        }
    }
    assert_eq!(
        get(postern.http, HOST, "/").await.status(),
        404,
        "the last edit moved the hostname"
    );
    assert_open(&mut sockets).await;
    assert_eq!(
        postern
            .metric("postern_websockets_open", &[("deployment", "app")])
            .await,
        500.0
    );
}

#[tokio::test]
async fn rollouts_fail_no_request() {
    let (old, new) = (Backend::saying("old").await, Backend::saying("new").await);
    let postern = Postern::start(&[Site::new("app", HOST).to(old.address)]).await;
    let address = postern.http;
    let stop = Arc::new(AtomicBool::new(false));
    // Half of the clients keep their connection, half open one per request.
    let clients = (0..4).map(|i| {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            let mut wire = Wire::connect(address).await;
            let mut answers = 0;
            while !stop.load(Ordering::Relaxed) {
                if i % 2 == 0 {
                    wire = Wire::connect(address).await;
                }
                wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
                let answer = wire.answer().await;
                assert_eq!(answer.status(), 200, "{answer:?}");
                answers += 1;
            }
            answers
        })
    });
    let clients: Vec<_> = clients.collect();
    // Each pod goes on serving while its replacement takes over, as Kubernetes has it.
    let terminating = json!({"ready": false, "serving": true, "terminating": true});
    for round in 0..30 {
        let (from, to, text) = if round % 2 == 0 {
            (&old, &new, "new")
        } else {
            (&new, &old, "old")
        };
        postern.apply(&Site::new("app", HOST).to(from.address).to(to.address));
        postern.apply(
            &Site::new("app", HOST)
                .endpoint(from.address, terminating.clone())
                .to(to.address),
        );
        postern.apply(&Site::new("app", HOST).to(to.address));
        let switched = async || {
            let answers = [
                get(address, HOST, "/").await.text(),
                get(address, HOST, "/").await.text(),
            ];
            answers == [text, text]
        };
        eventually("the new one serves", switched).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.expect("no request fails") > 0);
    }
}

#[tokio::test]
async fn half_written_manifest_keeps_what_it_said_before() {
    let backend = Backend::echoing().await;
    let postern = Postern::start(&[Site::new("app", HOST).to(backend.address)]).await;
    let mut sockets = open(&postern, HOST, 5).await;
    let other = Backend::saying("other").await;
    postern.write(
        "app",
        "apiVersion: postern.dev/v1alpha1\nkind: Deployment\nmetadata: {name: app, na",
    );
    // A later edit is served, so the broken one has been seen.
    postern.apply(&Site::new("other", "other.test").to(other.address));
    postern.answers("other.test", 200).await;
    sockets.extend(open(&postern, HOST, 1).await);
    assert_open(&mut sockets).await;
}

#[tokio::test]
async fn a_field_that_nobody_knows_keeps_what_was_served() {
    let (one, two) = (Backend::saying("one").await, Backend::saying("two").await);
    let site = Site::new("app", HOST).to(one.address);
    let postern = Postern::start(std::slice::from_ref(&site)).await;
    postern.apply(&site.spec(json!({"hostname": ["elsewhere.test"], "hostnames": null})));
    postern.tells("unknown fields: spec.hostname").await;
    // A later edit is served, so the broken one has been seen.
    postern.apply(&Site::new("other", "other.test").to(two.address));
    postern.answers("other.test", 200).await;
    assert_eq!(get(postern.http, HOST, "/").await.text(), "one");
}

/// Sockets of a Deployment that goes get a FIN each, spread over 30 s; the app gets one too.
async fn ends_sockets_spread_over_thirty_seconds(end: impl AsyncFn(&Postern)) {
    let (backend, mut apps) = Backend::sockets().await;
    let kept = Backend::echoing().await;
    let sites = [
        Site::new("app", HOST).to(backend.address),
        Site::new("kept", "kept.test").to(kept.address),
    ];
    let postern = Postern::start(&sites).await;
    let sockets = open(&postern, HOST, 40).await;
    let mut bystanders = open(&postern, "kept.test", 5).await;

    let start = Instant::now();
    end(&postern).await;
    let clients = sockets.into_iter().map(|mut socket| {
        tokio::spawn(async move {
            loop {
                // Longer than one wait of a test may be: the last one ends after 30 s.
                if !socket.quiet_for(Duration::from_secs(1)).await {
                    assert_eq!(socket.rest().await, (Vec::new(), End::Fin));
                    return start.elapsed();
                }
                assert!(start.elapsed() < Duration::from_secs(45), "still open");
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut apps_told = 0;
    while let Ok(mut app) = apps.try_recv() {
        apps_told += 1;
        tokio::spawn(async move { while app.wire.quiet_for(Duration::from_secs(1)).await {} });
    }
    assert_eq!(apps_told, 40);
    let mut times = Vec::new();
    for client in clients {
        times.push(client.await.expect("ends"));
    }
    times.sort();
    let (first, last) = (times[0], times[times.len() - 1]);
    assert!(last < Duration::from_secs(40), "the last one ended after {last:?}");
    // Spread evenly the half of them would go in 15 s; all at once, or all at the end, they would not.
    assert!(last - first > Duration::from_secs(15), "{first:?} to {last:?}");
    let early = times.iter().filter(|time| **time < Duration::from_secs(15)).count();
    assert!((5..=35).contains(&early), "{early} of 40 in the first half: {times:?}");
    let open = async || {
        postern
            .metric("postern_websockets_open", &[("deployment", "app")])
            .await
            == 0.0
    };
    eventually("none is open", open).await;
    assert_open(&mut bystanders).await;
}

#[tokio::test]
async fn deletion_ends_the_sockets_spread_over_thirty_seconds() {
    ends_sockets_spread_over_thirty_seconds(async |postern| {
        postern.remove("app");
        postern.answers(HOST, 404).await;
    })
    .await;
}

#[tokio::test]
async fn stopping_ends_the_sockets_spread_over_thirty_seconds() {
    ends_sockets_spread_over_thirty_seconds(async |postern| {
        postern.apply(&Site::new("app", HOST).spec(json!({"state": "Stopped"})));
        postern.answers(HOST, 503).await;
    })
    .await;
}

#[tokio::test]
async fn deployments_that_stop_together_end_their_sockets_each_in_its_own_time() {
    let (backend, _apps) = Backend::sockets().await;
    let hosts = ["one.test", "two.test", "three.test"];
    let manifest = |state: &str| -> String {
        let site = |host: &&str| Site::new(&host.replace('.', "-"), host).to(backend.address);
        let stopping = |site: Site| site.spec(json!({"state": state})).manifest();
        hosts.iter().map(|host| stopping(site(host))).collect()
    };
    let postern = Postern::start(&[]).await;
    postern.write("all", &manifest("Running"));
    let mut first_ends = Vec::new();
    for host in hosts {
        postern.answers(host, 200).await;
        let sockets = open(&postern, host, 2).await;
        let ends = sockets
            .into_iter()
            .map(|mut socket| Box::pin(async move { socket.rest().await }));
        first_ends.push(select_all(ends));
    }
    let start = Instant::now();
    postern.write("all", &manifest("Stopped"));
    // Of two sockets in 30 s the first ends at once; in a row with the others' it would be the turn of the last after 20 s.
    join_all(first_ends).await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn object_that_is_created_again_does_not_end_its_sockets() {
    // The file is another one, the object is the same: an editor that saves by deleting and creating cuts nobody.
    let backend = Backend::echoing().await;
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start(std::slice::from_ref(&site)).await;
    let mut sockets = open(&postern, HOST, 20).await;
    let text = site.manifest();
    postern.write("renamed", &text);
    postern.remove("app");
    let other = Backend::saying("other").await;
    postern.apply(&Site::new("other", "other.test").to(other.address));
    postern.answers("other.test", 200).await;
    sockets.extend(open(&postern, HOST, 1).await);
    assert_open(&mut sockets).await;
}

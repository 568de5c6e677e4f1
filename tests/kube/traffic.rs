//! Traffic through a real control plane: objects go to the apiserver, sockets and requests to Postern.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::support::apps::{self, App, Runtime};
use crate::support::backend::Backend;
use crate::support::postern::Postern;
use crate::support::wire::{End, Wire};
use crate::support::{eventually, eventually_within, ws};

/// In the test's network namespace every one of them can be bound.
pub fn pod_address(third: u8, last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 244, third, last], port))
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_reaches_a_pod_of_a_service_with_nothing_but_hostname_and_service() {
    let cluster = Cluster::shared("echo").await;
    let node = App::start_at([10, 244, 1, 1].into(), Runtime::Node, "sample.mjs").await;
    let python = App::start_at([10, 244, 1, 2].into(), Runtime::Python, "echo.py").await;
    for (name, app) in [("node", &node), ("python", &python)] {
        cluster.service(name).await;
        cluster.pod(name, name, app.address).await;
        let spec = json!({"hostnames": [format!("{name}.test")], "service": {"name": name, "port": "http"}});
        cluster.deployment(name, spec).await;
    }
    let postern = cluster.postern(&[]).await;
    postern.serves("node.test").await;
    postern.serves("python.test").await;

    let address = postern.http.to_string();
    apps::client(Runtime::Node, "client.mjs", [&address, "node.test", "/ws", "sample"]).await;
    apps::client(Runtime::Python, "client.py", [&address, "node.test", "/ws", "sample"]).await;
    apps::client(Runtime::Node, "client.mjs", [&address, "python.test", "/ws", "echo"]).await;
    apps::client(Runtime::Python, "client.py", [&address, "python.test", "/ws", "echo"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn created_changed_and_deleted_objects_take_effect() {
    let cluster = Cluster::shared("changes").await;
    let postern = cluster.postern(&[]).await;
    let one = app(pod_address(2, 1, 8080), "one").await;
    let two = app(pod_address(2, 2, 8080), "two").await;
    postern.answers("app.test", 404).await;

    let spec = |host: &str, service: &str| json!({"hostnames": [host], "service": {"name": service, "port": 80}});
    cluster.deployment("app", spec("app.test", "one")).await;
    postern.refuses("app.test", "config:backend_not_found").await;
    cluster.service("one").await;
    postern.refuses("app.test", "capacity:no_ready_endpoint").await;
    cluster.pod("one", "one", one.address).await;
    postern.says("app.test", "one").await;

    cluster.service("two").await;
    cluster.pod("two", "two", two.address).await;
    cluster.deployment("app", spec("app.test", "two")).await;
    postern.says("app.test", "two").await;
    cluster.deployment("app", spec("other.test", "two")).await;
    postern.says("other.test", "two").await;
    postern.answers("app.test", 404).await;

    cluster.pods().set_ready("two", false).await.expect("patches");
    postern.refuses("other.test", "capacity:no_ready_endpoint").await;
    cluster.pods().set_ready("two", true).await.expect("patches");
    postern.says("other.test", "two").await;
    cluster.pods().delete_now("two").await.expect("deletes");
    postern.refuses("other.test", "capacity:no_ready_endpoint").await;
    cluster
        .services()
        .delete("two", &Default::default())
        .await
        .expect("deletes");
    postern.refuses("other.test", "config:backend_not_found").await;
    cluster.delete_deployment("app").await;
    postern.answers("other.test", 404).await;
}

/// 500 sockets, 200 edits of what they go through and of what they do not.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_survive_edits_and_end_with_their_deployment() {
    let cluster = Cluster::shared("survive").await;
    let backend = app(pod_address(3, 1, 8080), "ok").await;
    for service in ["app", "other"] {
        cluster.service(service).await;
        cluster.pod(service, service, backend.address).await;
    }
    for name in ["kept", "stopped", "other"] {
        cluster
            .deployment(
                name,
                json!({"hostnames": [format!("{name}.test")], "service": {"name": "app", "port": 80}}),
            )
            .await;
    }
    let postern = cluster.postern(&[]).await;
    for name in ["kept", "stopped", "other"] {
        postern.serves(&format!("{name}.test")).await;
    }
    let mut kept = open_many(&postern, "kept.test", 250).await;
    let mut stopped = open_many(&postern, "stopped.test", 250).await;

    for edit in 0..200 {
        let (service, host) = (["app", "other"][edit % 2], format!("more-{edit}.test"));
        match edit % 5 {
            0 => {
                let spec = json!({"hostnames": [host], "service": {"name": service, "port": 80}});
                cluster.deployment("other", spec).await;
            }
            1 => {
                let strategy = ["RoundRobin", "Random"][edit % 2];
                let spec = json!({
                    "hostnames": ["kept.test", host],
                    "service": {"name": service, "port": "http"},
                    "timeouts": {"idle": format!("{}ms", 100 + edit)},
                    "balancing": {"strategy": strategy},
                });
                cluster.deployment("kept", spec).await;
            }
            2 => {
                // Its hostname, and so its ownership, comes and goes.
                let spec = json!({"hostnames": [host], "service": {"name": service, "port": 80}});
                cluster.deployment("stopped", spec).await;
            }
            3 => {
                cluster.pods().set_ready("app", edit % 2 == 0).await.expect("patches");
            }
            _ => {
                cluster
                    .deployment(
                        &format!("new-{edit}"),
                        json!({"hostnames": [host], "service": {"name": "app", "port": 80}}),
                    )
                    .await;
            }
        }
    }
    cluster.pods().set_ready("app", true).await.expect("patches");
    let last = json!({"hostnames": ["last.test"], "service": {"name": "app", "port": 80}});
    cluster.deployment("last", last).await;
    postern.serves("last.test").await;
    for socket in kept.iter_mut().chain(&mut stopped) {
        assert_eq!(socket.exchange(b"still here", 10).await, b"still here");
    }

    let start = Instant::now();
    let spec = json!({"hostnames": ["stopped.test"], "service": {"name": "app", "port": 80}, "state": "Stopped"});
    cluster.deployment("stopped", spec).await;
    cluster.delete_deployment("kept").await;
    let open = async || postern.metric("postern_websockets_open", &[]).await;
    eventually_within(Duration::from_secs(20), "a part has ended", async || {
        open().await < 400.0
    })
    .await;
    // Spread: half of the window is not over, and a good part is still there.
    assert!(start.elapsed() > Duration::from_secs(3) || open().await > 300.0);
    postern.refuses("stopped.test", "capacity:deployment_offline").await;
    eventually_within(Duration::from_secs(60), "all have ended", async || open().await == 0.0).await;
    let took = start.elapsed();
    assert!(took > Duration::from_secs(20), "all at once, after {took:?}");
    for mut socket in kept.into_iter().chain(stopped) {
        assert_eq!(socket.rest().await, (Vec::new(), End::Fin));
    }
}

/// A rollout as a Deployment of pods does it: a new pod, ready; the old one terminating, and gone. The app serves on for 2 s.
#[tokio::test(flavor = "multi_thread")]
async fn rollout_under_500_requests_per_second_fails_none() {
    let cluster = Cluster::shared("rollout").await;
    cluster.service("app").await;
    let mut running = Vec::new();
    for nth in 1..=3 {
        let pod = pod_address(4, nth, 8080);
        running.push((format!("app-{nth}"), app(pod, "ok").await));
        cluster.pod("app", &format!("app-{nth}"), pod).await;
    }
    cluster
        .deployment(
            "app",
            json!({"hostnames": ["app.test"], "service": {"name": "app", "port": 80}}),
        )
        .await;
    let postern = cluster.postern(&[]).await;
    postern.serves("app.test").await;

    let load = Load::start(&postern, "app.test", 500);
    for nth in 4..=9 {
        let pod = pod_address(4, nth, 8080);
        let backend = app(pod, "ok").await;
        cluster.pod("app", &format!("app-{nth}"), pod).await;
        let hit = async || backend.hits() > 0;
        eventually("the new pod takes requests", hit).await;
        let (name, old) = running.remove(0);
        cluster.pods().terminate(&name, 30).await.expect("terminates");
        tokio::time::sleep(Duration::from_secs(2)).await;
        // Closes its port and its connections, as a process that ends.
        drop(old);
        cluster.pods().delete_now(&name).await.expect("deletes");
        running.push((format!("app-{nth}"), backend));
    }
    let (answered, failed) = load.stop().await;
    assert_eq!(failed, Vec::<String>::new(), "of {answered}");
    assert!(answered > 2_000, "only {answered}");
}

/// Says `text` to a plain request, and sends back what comes over a socket.
pub async fn app(address: SocketAddr, text: &'static str) -> Backend {
    Backend::start_at(address, move |mut visit| async move {
        while let Some((head, _)) = visit.request().await {
            if head.get("upgrade").is_some() {
                visit.wire.send(ws::accepted(&head)).await;
                return visit.wire.echo().await;
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            visit.wire.send(answer).await;
        }
    })
    .await
}

/// Requests at a steady rate, over keep-alive connections.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<Vec<String>>,
}

impl Load {
    pub fn start(postern: &Postern, host: &'static str, per_second: u32) -> Self {
        const CLIENTS: u32 = 10;
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (stop, answered, to) = (stop.clone(), answered.clone(), postern.http);
            clients.spawn(async move {
                let mut failed = Vec::new();
                let mut ticks = tokio::time::interval(Duration::from_secs(1) * CLIENTS / per_second);
                let mut wire = Wire::connect(to).await;
                while !stop.load(SeqCst) {
                    ticks.tick().await;
                    wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
                    let answer = wire.answer().await;
                    match answer.status() {
                        200 => drop(answered.fetch_add(1, SeqCst)),
                        status => failed.push(format!("{status} {}", answer.text())),
                    }
                }
                failed
            });
        }
        Self {
            stop,
            answered,
            clients,
        }
    }

    /// How many were answered with 200, and what the others got.
    pub async fn stop(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, SeqCst);
        let mut failed = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            failed.extend(client.expect("no client panics"));
        }
        (self.answered.load(SeqCst), failed)
    }
}

async fn open_many(postern: &Postern, host: &str, count: usize) -> Vec<Wire> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let mut socket = ws::open(postern.http, host, "/").await;
        assert_eq!(socket.exchange(b"hello", 5).await, b"hello");
        sockets.push(socket);
    }
    sockets
}

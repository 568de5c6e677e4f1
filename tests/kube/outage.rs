//! The apiserver goes away, and comes back with another world.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::cluster::Cluster;
use crate::support::control_plane::ControlPlane;
use crate::support::ws;
use crate::traffic::{Load, app, pod_address};

/// A minute without an apiserver: requests and sockets go on; what changed meanwhile takes effect afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn traffic_is_unaffected_by_an_outage_and_what_was_deleted_meanwhile_is_gone_after_it() {
    let mut control_plane = ControlPlane::start().await.expect("a control plane");
    let cluster = Cluster::of(&control_plane, "outage").await;
    let backend = app(pod_address(5, 1, 8080), "ok").await;
    cluster.service("app").await;
    cluster.pod("app", "app", backend.address).await;
    for name in ["kept", "gone"] {
        let spec = json!({"hostnames": [format!("{name}.test")], "service": {"name": "app", "port": 80}});
        cluster.deployment(name, spec).await;
    }
    let postern = cluster.postern(&[]).await;
    postern.serves("kept.test").await;
    postern.serves("gone.test").await;
    let mut socket = ws::open(postern.http, "kept.test", "/").await;

    let load = Load::start(&postern, "kept.test", 100);
    let back = Instant::now() + Duration::from_secs(60);
    control_plane.stop_apiserver();
    sleep_until(back).await;
    assert_eq!(
        postern.probe("/readyz").await,
        200,
        "an outage is no reason to take traffic away"
    );
    assert_eq!(socket.exchange(b"still here", 10).await, b"still here");

    // Postern does not see the deletion: it is stopped in its tracks until the object is gone.
    postern.pause();
    control_plane.start_apiserver().await.expect("comes back");
    cluster.delete_deployment("gone").await;
    postern.resume();
    postern.answers("gone.test", 404).await;
    assert_eq!(socket.exchange(b"still here", 10).await, b"still here");
    let (answered, failed) = load.stop().await;
    assert_eq!(failed, Vec::<String>::new(), "of {answered}");
}

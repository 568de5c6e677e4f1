//! `connectionLimit`: no more sockets than the maximum are open at once; however one ends, or never comes to be, its place is
//! free again.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::backend::{Backend, Socket, next};
use crate::support::eventually;
use crate::support::front::{Front, Transport};
use crate::support::guarded::{Guarded, HOST, site};
use crate::support::site::Site;
use crate::support::wire::Wire;
use crate::support::ws;

over_each! {
    as_many_sockets_as_the_maximum_open_and_plain_requests_pass,
    keys_are_counted_apart,
    however_a_socket_ends_its_place_is_free,
    sockets_that_postern_ends_give_their_places_back,
    handshakes_that_fail_take_no_place,
    an_edit_closes_nothing_and_forgets_nothing,
    a_rule_that_was_away_counts_the_sockets_that_are_still_open,
    a_shadow_limit_counts_apart_and_refuses_nobody,
}

const FULL: (u16, &str) = (429, "client:too_many_connections");

fn most(max: u32) -> Value {
    json!([rule(max, json!({}))])
}

/// With more of the rule's fields.
fn rule(max: u32, more: Value) -> Value {
    let mut rule = json!({"name": "most", "connectionLimit": {"max": max, "by": [{"remoteIp": {}}]}});
    if let (Some(rule), Value::Object(more)) = (rule.as_object_mut(), more) {
        rule.extend(more);
    }
    rule
}

/// One more is refused, and the app does not hear of it; a plain request passes.
async fn is_full(guarded: &Guarded) {
    let hits = guarded.backend.hits();
    let Err(refused) = guarded.front.upgrade(HOST, "/", "").await else {
        panic!("a socket was opened")
    };
    let code = refused.head.get("x-postern-error").unwrap_or_default();
    assert_eq!((refused.status(), code), FULL);
    let wait: u32 = refused
        .head
        .get("retry-after")
        .expect("a time")
        .parse()
        .expect("seconds");
    assert!((1..=5).contains(&wait), "{wait}");
    assert_eq!(guarded.backend.hits(), hits);
    assert_eq!(guarded.get("/", "").await.status(), 200);
}

async fn open(guarded: &Guarded, count: usize) -> Vec<Wire> {
    join_all((0..count).map(|_| guarded.front.open(HOST, "/"))).await
}

async fn assert_open(sockets: &mut [Wire]) {
    for socket in sockets {
        socket.send("still here?").await;
        assert_eq!(socket.exactly(11).await, b"still here?");
    }
}

async fn as_many_sockets_as_the_maximum_open_and_plain_requests_pass(over: Transport) {
    let guarded = Guarded::start(over, most(5)).await;
    let upgrades = join_all((0..64).map(|_| guarded.front.upgrade(HOST, "/", ""))).await;
    let mut sockets: Vec<_> = upgrades.into_iter().filter_map(|opened| Some(opened.ok()?.1)).collect();
    assert_eq!(sockets.len(), 5);
    assert_eq!(guarded.backend.hits(), 5);
    is_full(&guarded).await;
    assert_open(&mut sockets).await;
}

async fn keys_are_counted_apart(over: Transport) {
    let by_tenant = json!({"max": 1, "by": [{"header": {"name": "X-Tenant"}}]});
    let guarded = Guarded::start(over, json!([{"name": "most", "connectionLimit": by_tenant}])).await;
    let mut sockets = Vec::new();
    for more in ["X-Tenant: a\r\n", "X-Tenant: b\r\n", ""] {
        sockets.push(guarded.front.upgrade(HOST, "/", more).await.expect("opens"));
        let again = guarded.front.upgrade(HOST, "/", more).await;
        assert_eq!(again.err().map(|refused| refused.status()), Some(FULL.0), "{more}");
    }
}

type Ending = fn(Wire, Socket);

async fn however_a_socket_ends_its_place_is_free(over: Transport) {
    let (backend, mut arriving) = Backend::sockets().await;
    let front = Front::start(over, &[site(most(1)).to(backend.address)]).await;
    let guarded = Guarded { front, backend };
    let endings: [(&str, Ending); 4] = [
        ("the client's end", |client, app| {
            drop(client);
            keep(app.wire);
        }),
        ("the client's reset", |client, app| {
            client.reset();
            keep(app.wire);
        }),
        ("the app's end", |client, app| {
            drop(app);
            keep(client);
        }),
        ("the app's reset", |client, app| {
            app.wire.reset();
            keep(client);
        }),
    ];
    let mut client = guarded.front.open(HOST, "/").await;
    for (how, end) in endings {
        is_full(&guarded).await;
        end(client, next(&mut arriving).await);
        client = guarded.opens(how).await;
    }
    is_full(&guarded).await;
}

/// Until it has ended, from which it then ends too.
fn keep(mut wire: Wire) {
    tokio::spawn(async move { wire.rest().await });
}

async fn sockets_that_postern_ends_give_their_places_back(over: Transport) {
    let guarded = Guarded::start_with(over, Site::new("app", HOST), &[]).await;
    guarded.edit("one", most(1)).await;
    // One, as Postern spreads the ends of several over half a minute.
    let mut socket = guarded.front.open(HOST, "/").await;
    is_full(&guarded).await;
    let postern = &guarded.front.postern;
    postern.remove("app");
    socket.rest().await;
    let site = Site::new("app", HOST).to(guarded.backend.address);
    postern.apply(&match over {
        Transport::Plain => site,
        Transport::Tls | Transport::Http2 => site.tls(&guarded.front.authority.server(&[HOST])),
    });
    eventually("the app is served again", async || {
        guarded.get("/", "").await.status() == 200
    })
    .await;
    let socket = guarded.opens("the Deployment was deleted").await;
    is_full(&guarded).await;
    assert_open(&mut [socket]).await;
}

async fn handshakes_that_fail_take_no_place(over: Transport) {
    let backend = Backend::start(|mut visit| async move {
        while let Some(request) = visit.head().await {
            let answer = match request.target() {
                "/" if request.has("upgrade") => {
                    visit.wire.send(ws::accepted(&request)).await;
                    return visit.wire.echo().await;
                }
                "/refused" => "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
                "/" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                "/mistaken" => "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                "/garbled" => "what?\r\n\r\n",
                "/cut" => return,
                // Says nothing.
                _ => {
                    visit.wire.rest().await;
                    return;
                }
            };
            visit.wire.send(answer).await;
        }
    })
    .await;
    let front = Front::start(over, &[site(most(1)).to(backend.address)]).await;
    let guarded = Guarded { front, backend };
    for (target, status) in [("/refused", 403), ("/mistaken", 502), ("/garbled", 502), ("/cut", 502)] {
        for _ in 0..3 {
            let answered = guarded.front.upgrade(HOST, target, "").await;
            assert_eq!(answered.err().map(|answer| answer.status()), Some(status), "{target}");
        }
    }
    // A client that gives up before the app has answered.
    let asked = async || guarded.backend.heads().iter().any(|head| head.target() == "/silent");
    tokio::select! {
        _ = guarded.front.upgrade(HOST, "/silent", "") => panic!("was answered"),
        () = eventually("the app is asked", asked) => {}
    }
    let _socket = guarded.opens("a client that gave up").await;
    is_full(&guarded).await;

    // An app that nobody reaches.
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let nowhere = gone.local_addr().expect("is bound");
    drop(gone);
    let front = Front::start(over, &[site(most(1)).to(nowhere)]).await;
    for _ in 0..3 {
        let refused = front.upgrade(HOST, "/", "").await;
        assert_eq!(refused.err().map(|answer| answer.status()), Some(503));
    }
}

async fn an_edit_closes_nothing_and_forgets_nothing(over: Transport) {
    let guarded = Guarded::start_with(over, Site::new("app", HOST), &[]).await;
    guarded.edit("one", most(3)).await;
    let mut sockets = open(&guarded, 3).await;
    guarded.edit("lower", most(1)).await;
    is_full(&guarded).await;
    assert_open(&mut sockets).await;
    guarded.edit("higher", most(4)).await;
    sockets.push(guarded.front.open(HOST, "/").await);
    is_full(&guarded).await;
    guarded.edit("lower again", most(2)).await;
    sockets.truncate(1);
    sockets.push(guarded.opens("three of four have closed").await);
    is_full(&guarded).await;
    assert_open(&mut sockets).await;
}

async fn a_rule_that_was_away_counts_the_sockets_that_are_still_open(over: Transport) {
    let guarded = Guarded::start_with(over, Site::new("app", HOST), &[]).await;
    guarded.edit("one", most(2)).await;
    let mut sockets = open(&guarded, 2).await;
    guarded.edit("away", json!([rule(2, json!({"enabled": false}))])).await;
    drop(guarded.front.open(HOST, "/").await);
    guarded.edit("back", most(2)).await;
    is_full(&guarded).await;
    sockets.truncate(1);
    sockets.push(guarded.opens("one of two has closed").await);
    is_full(&guarded).await;
    assert_open(&mut sockets).await;
}

async fn a_shadow_limit_counts_apart_and_refuses_nobody(over: Transport) {
    let guarded = Guarded::start_with(over, Site::new("app", HOST), &[]).await;
    guarded.edit("one", json!([rule(1, json!({"mode": "Shadow"}))])).await;
    let mut sockets = open(&guarded, 3).await;
    assert_eq!(guarded.decisions("most", "shadow", "refused").await, 2.0);
    guarded.edit("two", most(1)).await;
    sockets.push(guarded.front.open(HOST, "/").await);
    is_full(&guarded).await;
    guarded.edit("three", json!([rule(1, json!({"mode": "Shadow"}))])).await;
    drop(sockets);
    eventually("the shadow's place is free as well", async || {
        let passed = guarded.decisions("most", "shadow", "passed").await;
        let _socket = guarded.front.open(HOST, "/").await;
        guarded.decisions("most", "shadow", "passed").await > passed
    })
    .await;
}

//! An app with rules before it, met as plain requests and as WebSockets at once: what holds for one holds for the other.

use std::cell::Cell;

use http::Method;
use serde_json::{Value, json};

use super::backend::Backend;
use super::eventually;
use super::front::{Front, Transport};
use super::head::Head;
use super::site::Site;
use super::wire::{Answer, Wire};
use super::ws;

pub const HOST: &str = "app.example.test";

pub struct Guarded {
    pub front: Front,
    pub backend: Backend,
}

impl Guarded {
    /// One SentinelPolicy with these rules.
    pub async fn start(over: Transport, rules: Value) -> Self {
        Self::start_with(over, site(rules), &[]).await
    }

    /// `site` has no endpoint yet.
    pub async fn start_with(over: Transport, site: Site, flags: &[&str]) -> Self {
        let backend = backend().await;
        let front = Front::start_with(over, &[site.to(backend.address)], flags).await;
        Self { front, backend }
    }

    /// A plain request, and a handshake: both reach the app. Returns what it saw.
    pub async fn passes(&self, target: &str, more: &str) -> [Head; 2] {
        let hits = self.backend.hits();
        let answer = self.get(target, more).await;
        assert_eq!(answer.status(), 200, "{target} {more:?}: {answer:?}");
        if let Err(refused) = self.front.upgrade(HOST, target, more).await {
            panic!("{target} {more:?}: {refused:?}");
        }
        let heads = self.backend.heads();
        assert_eq!(heads.len(), hits + 2, "{target} {more:?}");
        [heads[hits].clone(), heads[hits + 1].clone()]
    }

    /// A plain request, and a handshake: both are refused alike, and the app sees neither.
    pub async fn refuses(&self, target: &str, more: &str, status: u16, code: &str) -> [Answer; 2] {
        let hits = self.backend.hits();
        let plain = self.get(target, more).await;
        let Err(upgrade) = self.front.upgrade(HOST, target, more).await else {
            panic!("{target} {more:?}: a socket was opened")
        };
        for answer in [&plain, &upgrade] {
            let told = answer.head.get("x-postern-error");
            assert_eq!(
                (answer.status(), told),
                (status, Some(code)),
                "{target} {more:?}: {answer:?}"
            );
            assert!(answer.head.has("x-request-id"));
        }
        assert_eq!(self.backend.hits(), hits, "{target} {more:?}: the app was reached");
        [plain, upgrade]
    }

    /// The policy as it stands in a file of its own, in place of the one that is there; in force on return. Its rules must let
    /// plain requests to /version pass.
    pub async fn edit(&self, version: &str, rules: Value) {
        let Value::Array(mut all) = rules else {
            panic!("rules are a list")
        };
        let marked = json!({"set": [{"name": "X-Version", "value": version}]});
        all.insert(0, json!({"name": "version", "responseHeaders": marked}));
        self.front
            .postern
            .write("guard", &policy("guard", all.into()).to_string());
        let so = async || self.get("/version", "").await.head.get("x-version") == Some(version);
        eventually(&format!("version {version} is in force"), so).await;
    }

    /// How often a rule of the policy has decided so, in that mode.
    pub async fn decisions(&self, rule: &str, mode: &str, decision: &str) -> f64 {
        let labels = [
            ("policy", "guard"),
            ("rule", rule),
            ("mode", mode),
            ("decision", decision),
        ];
        let postern = &self.front.postern;
        postern.metric("postern_policy_decisions_total", &labels).await
    }

    /// A socket, as soon as a limit on them lets one open.
    pub async fn opens(&self, since: &str) -> Wire {
        let opened = Cell::new(None);
        eventually(&format!("a place is free: {since}"), async || {
            match self.front.upgrade(HOST, "/", "").await {
                Ok((_, socket)) => opened.set(Some(socket)),
                Err(refused) => assert_eq!(refused.status(), 429, "{refused:?}"),
            }
            let socket = opened.take();
            let is_open = socket.is_some();
            opened.set(socket);
            is_open
        })
        .await;
        opened.take().expect("was opened")
    }

    pub async fn get(&self, target: &str, more: &str) -> Answer {
        self.front.ask(Method::GET, HOST, target, more, b"").await
    }
}

/// The app's site, with one SentinelPolicy of these rules.
pub fn site(rules: Value) -> Site {
    Site::new("app", HOST).with(policy("guard", rules))
}

/// A SentinelPolicy that stands before the app.
pub fn policy(name: &str, rules: Value) -> Value {
    policy_with(name, json!({"rules": rules}))
}

/// The same with more fields of its spec; null takes one away.
pub fn policy_with(name: &str, fields: Value) -> Value {
    let mut spec = json!({"targetRefs": [{"name": "app"}]});
    let (Some(spec_fields), Value::Object(fields)) = (spec.as_object_mut(), fields) else {
        panic!("a spec is an object")
    };
    spec_fields.extend(fields);
    spec_fields.retain(|_, value| !value.is_null());
    json!({
        "apiVersion": "postern.dev/v1alpha1",
        "kind": "SentinelPolicy",
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": spec,
    })
}

/// A labelled Secret with plain values.
pub fn secret(purpose: &str, name: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default", "labels": {"postern.dev/use": purpose, "app": "app"}},
        "stringData": data,
    })
}

/// Answers plain requests, with their bodies read, and opens every socket.
pub async fn backend() -> Backend {
    Backend::start(|mut visit| async move {
        while let Some(request) = visit.head().await {
            if request.has("upgrade") {
                visit.wire.send(ws::accepted(&request)).await;
                visit.wire.echo().await;
                return;
            }
            visit.wire.body(&request).await;
            visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await
}

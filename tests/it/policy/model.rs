//! The engine against the rules as they are written: `naive` reads the objects one after another, and what compile builds and
//! the engine runs must answer the same. And a policy that breaks lets nobody through whom it used to refuse.

mod naive;
mod world;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request as Message, Uri};
use postern::compile::{Input, Previous, compile};
use postern::config::Flags;
use postern::live::state::State;
use postern::matching::Head;
use postern::policy::engine::{Progress, Run};
use postern::policy::{Passed, Request, Services};
use postern::snapshot::{Action, Snapshot};
use postern::store::{Batch, Event, Store};
use postern::watch::files;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use naive::{Model, Passage, Texts, credential};
use world::{Ask, EDITED, HOST};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_decided_as_the_rules_are_written(
        policies in world::policies(),
        paths in select(vec!["Reject", "Pass"]),
        asks in vec(world::ask(), 1..8),
    ) {
        let mut engine = Engine::new(paths, &policies);
        let mut model = Model::new(&policies, paths);
        for ask in &asks {
            engine.answers_as(&mut model, ask);
        }
    }

    #[test]
    fn a_policy_that_breaks_lets_nobody_through_whom_it_refused(
        policies in world::policies(),
        paths in select(vec!["Reject", "Pass"]),
        asks in vec(world::ask(), 1..6),
        policy in any::<Index>(),
        rule in any::<Index>(),
        fault in select(vec![Fault::Regex, Fault::Reference, Fault::Kind, Fault::Field]),
    ) {
        let mut edited = policies.clone();
        let closes = fault.into_rule(policy.get_mut(&mut edited), rule);

        // The last good version serves on, with what it has counted. In the shadow the rest of a policy goes into force.
        let mut engine = Engine::new(paths, &policies);
        let mut model = Model::new(&policies, paths);
        let refused: Vec<_> = asks.iter().map(|ask| engine.answers_as(&mut model, ask)).collect();
        engine.apply(&edited);
        for (ask, refused) in asks.iter().zip(refused) {
            prop_assert!(engine.answers_as(&mut model, ask) || !refused, "{:?} is let through now", ask);
        }

        // Who has not seen the last good version refuses whatever the policy stands before.
        let mut restarted = Engine::new(paths, &edited);
        let mut model = Model::new(&policies, paths);
        let concerned = policy.get(&policies)["spec"]["targetSelector"]["matchLabels"]["tier"] != "none";
        for ask in &asks {
            if closes && concerned {
                prop_assert_eq!(restarted.decide(ask).map(drop), Err("config:policy_invalid"));
            } else {
                restarted.answers_as(&mut model, ask);
            }
        }
    }
}

/// What can be wrong with a rule.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Regex,
    Reference,
    /// Of a newer Postern.
    Kind,
    /// Of a newer Postern.
    Field,
}

impl Fault {
    /// Returns whether this closes what the policy stands before, for who knows no good version.
    fn into_rule(self, policy: &mut Value, rule: Index) -> bool {
        let spec = policy["spec"].as_object_mut().unwrap();
        let shadow = spec.get("mode").is_some_and(|mode| mode == "Shadow");
        let rules = spec["rules"].as_array_mut().unwrap();
        let rule = rule.get_mut(rules).as_object_mut().unwrap();
        rule.insert("enabled".into(), true.into());
        let rule_mode = rule.get("mode").and_then(Value::as_str);
        let rule_in_shadow = rule_mode.map_or(shadow, |mode| mode == "Shadow");
        let mut put = |field: &str, value: Value| {
            rule.retain(|name, _| ["name", "mode", "enabled", "match"].contains(&&**name));
            rule.insert(field.into(), value);
        };
        match self {
            Self::Regex => {
                rule.insert("match".into(), json!([{"path": {"regex": "("}}]));
            }
            Self::Reference => put("openapi", json!({"documentRef": {"name": "missing"}})),
            Self::Kind => put("teleport", json!({})),
            Self::Field => put("firewall", json!({"action": "Deny", "until": "noon"})),
        }
        match self {
            Self::Regex | Self::Reference => !rule_in_shadow,
            // Nothing is known of the rules, but which of them say that they are enforced.
            Self::Kind | Self::Field => {
                let enforced = |rule: &Value| rule["mode"] == "Enforce" && rule["enabled"] != false;
                !shadow || rules.iter().any(enforced)
            }
        }
    }
}

/// What serves, and what it is compiled from.
struct Engine {
    store: Store,
    previous: Previous,
    snapshot: Snapshot,
    state: State,
    services: Services,
}

impl Engine {
    fn new(ambiguous_paths: &str, policies: &[Value]) -> Self {
        let mut engine = Self {
            store: Store::default(),
            previous: Previous::default(),
            snapshot: Snapshot::default(),
            state: State::default(),
            services: Services::default(),
        };
        engine.apply(&[&world::site(ambiguous_paths), policies].concat());
        engine
    }

    fn apply(&mut self, objects: &[Value]) {
        let events = objects.iter().flat_map(|object| files::parse(&object.to_string()));
        self.store.apply(Batch {
            events: events.map(|object| Event::Apply(object.unwrap())).collect(),
            seen: Instant::now(),
        });
        let changes = self.store.take_changes();
        let input = Input {
            store: &self.store,
            changes: &changes,
            listener: &Arc::default(),
        };
        let routing = Flags::default().settings().unwrap().routing;
        let compiled = compile(&input, &routing, std::mem::take(&mut self.previous));
        for policy in &compiled.fresh.policies {
            self.state.pair_rules(policy, &self.services.egress);
        }
        self.previous = compiled.previous;
        self.snapshot = compiled.snapshot;
    }

    /// Returns whether the request is refused.
    fn answers_as(&mut self, model: &mut Model, ask: &Ask) -> bool {
        match (self.decide(ask), model.decide(ask)) {
            (Err(found), Err(wanted)) => {
                assert_eq!(found, wanted, "{ask:?}");
                true
            }
            (Ok((passed, message)), Ok(wanted)) => {
                assert_passage(&passed, &message, &wanted, ask);
                false
            }
            (Ok(_), Err(wanted)) => panic!("passes, and is to be refused by {wanted}: {ask:?}"),
            (Err(found), Ok(_)) => panic!("is refused by {found}, and is to pass: {ask:?}"),
        }
    }

    /// What the app gets, or the code of the refusal.
    fn decide(&self, ask: &Ask) -> Result<(Passed, Message<()>), &'static str> {
        let head = Head {
            method: &Method::GET,
            path: "/",
            query: None,
            headers: &HeaderMap::new(),
        };
        let route = self.snapshot.hosts.find(HOST).unwrap().find(&head).unwrap();
        if let Action::Refuse(reason) = &route.action
            && reason.code() == "config:policy_invalid"
        {
            return Err(reason.code());
        }
        let uri: Uri = ask.target.parse().unwrap();
        let headers: HeaderMap = ask
            .headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let request = Request {
            method: &Method::from_bytes(ask.method.as_bytes()).unwrap(),
            headers: &headers,
            authority: &HeaderValue::from_static(ask.authority),
            host: HOST,
            uri: &uri,
            client: Some(ask.client),
            trusted: false,
            https: ask.https,
            web_socket: ask.web_socket,
            certificate: None,
            readings: OnceLock::new(),
        };
        let policies = route.policies.as_deref().unwrap_or_default();
        let paths = route.deployment.ambiguous_paths;
        let mut passed = Passed::default();
        let begun = Run::begin(policies, &request, paths, &self.services, &mut passed).now_or_never();
        let begun = begun.expect("nothing here is waited for");
        let mut run = begun.map_err(|it| it.reason.code())?;
        let progress = run.advance().now_or_never().expect("nothing here is waited for");
        assert!(matches!(progress.map_err(|it| it.reason.code())?, Progress::Passed));
        let mut message = Message::new(());
        *message.uri_mut() = uri;
        *message.headers_mut() = headers;
        passed.complete(&mut message);
        Ok((passed, message))
    }
}

fn assert_passage(passed: &Passed, message: &Message<()>, wanted: &Passage, ask: &Ask) {
    let subject = passed.principal.as_ref().map(|principal| principal.subject());
    assert_eq!(subject, wanted.principal.as_deref(), "{ask:?}");
    assert_eq!(subject.is_some(), message.headers().contains_key("x-postern-principal"));
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    for name in EDITED {
        let found: Vec<_> = message.headers().get_all(name).iter().map(text).collect();
        let wanted = wanted.headers.iter().filter(|(wanted, _)| wanted == name);
        let wanted: Vec<_> = wanted.map(|(_, value)| value.clone()).collect();
        assert_eq!(found, wanted, "{name} of {ask:?}");
    }
    let headers = message.headers().iter();
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
    let texts = Texts {
        query: message.uri().query(),
        headers: &headers,
    };
    for source in &wanted.hidden {
        assert_eq!(
            credential(source, &texts),
            Ok(None),
            "{source:?} is left in {message:?} of {ask:?}"
        );
    }
}

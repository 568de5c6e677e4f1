use std::time::Instant;

use serde_json::json;

use super::*;
use crate::object::ObjectKey;
use crate::store::{Batch, Event, Object, Policy, Targets};

struct World {
    store: Store,
    turns: Turns,
}

fn id(kind: Kind, namespace: &str, name: &str) -> ObjectId {
    ObjectId::new(kind, ObjectKey::new(namespace, name))
}

fn policy(namespace: &str, name: &str, regex: &str) -> Object {
    let spec = json!({
        "targetRefs": [{"name": "app"}],
        "rules": [{"name": "r", "match": [{"path": {"regex": regex}}], "firewall": {"action": "Deny"}}],
    });
    Object::SentinelPolicy(Policy {
        key: ObjectKey::new(namespace, name),
        uid: name.into(),
        generation: 1,
        created: 1,
        targets: Ok(Arc::new(Targets::Named(BTreeSet::new()))),
        mode: None,
        has_enforced_rule: false,
        priority: 0,
        spec: Ok(Arc::new(serde_json::from_value(spec).expect("a spec"))),
        status: None,
    })
}

impl World {
    fn new() -> Self {
        Self {
            store: Store::default(),
            turns: Turns::default(),
        }
    }

    fn apply(&mut self, objects: impl IntoIterator<Item = Object>) {
        self.happens(objects.into_iter().map(Event::Apply).collect());
    }

    fn happens(&mut self, events: Vec<Event>) {
        let seen = Instant::now();
        self.store.apply(Batch { events, seen });
        let changes = self.store.take_changes();
        self.turns.add(changes, &self.store);
    }

    fn changes(&mut self, ids: impl IntoIterator<Item = ObjectId>) {
        let mut changes = Changes::default();
        changes.extend(ids);
        self.turns.add(changes, &self.store);
    }

    fn prepare(&mut self) {
        for (id, slow) in self.turns.take_wanted() {
            self.turns.done(&id, slow.prepare());
        }
    }

    fn next(&mut self) -> Vec<ObjectId> {
        self.prepare();
        self.turns.next().map_or(Vec::new(), |changes| changes.all().collect())
    }
}

#[test]
fn what_is_light_goes_at_once_and_what_is_heavy_one_by_one() {
    let mut world = World::new();
    world.apply((0..3).map(|nth| policy("hostile", &format!("p{nth}"), "/a+")));
    let service = id(Kind::Service, "quiet", "app");
    world.changes([service.clone()]);
    assert_eq!(world.next(), std::slice::from_ref(&service));
    // Then one that is heavy, however much more is light.
    world.changes([service.clone()]);
    assert_eq!(world.next(), [id(Kind::SentinelPolicy, "hostile", "p0")]);
    assert_eq!(world.next(), [service]);
    assert_eq!(world.next(), [id(Kind::SentinelPolicy, "hostile", "p1")]);
    assert_eq!(world.next(), [id(Kind::SentinelPolicy, "hostile", "p2")]);
    assert!(!world.turns.has_next() && world.turns.next().is_none());
}

#[test]
fn a_namespace_that_has_taken_little_does_not_wait_for_those_that_have_taken_much() {
    let mut world = World::new();
    for hostile in ["a", "b", "c"] {
        world.apply((0..5).map(|nth| policy(hostile, &format!("p{nth}"), "/a+")));
    }
    for _ in 0..3 {
        world.next();
        world.turns.took(Duration::from_millis(100));
    }
    world.apply([policy("quiet", "p", "/b+")]);
    assert_eq!(world.next(), [id(Kind::SentinelPolicy, "quiet", "p")]);
}

#[test]
fn routes_wait_for_the_policies_that_were_written_before_them_and_for_no_others() {
    let mut world = World::new();
    let route = id(Kind::Deployment, "shop", "app");
    world.apply([policy("shop", "p0", "/a+"), policy("shop", "p1", "/a+")]);
    world.changes([route.clone()]);
    // Later edits keep the place that they have; another policy comes after the routes.
    world.apply([policy("shop", "p0", "/b+"), policy("shop", "p2", "/a+")]);
    let other = id(Kind::Deployment, "other", "app");
    world.changes([other.clone()]);
    let p = |name| id(Kind::SentinelPolicy, "shop", name);
    assert_eq!(world.next(), [other]);
    assert_eq!(world.next(), [p("p0")]);
    assert_eq!(world.next(), [route, p("p1")]);
    assert_eq!(world.next(), [p("p2")]);
}

#[test]
fn what_is_gone_does_not_wait() {
    let mut world = World::new();
    world.apply((0..3).map(|nth| policy("shop", &format!("p{nth}"), "/a+")));
    let gone = id(Kind::SentinelPolicy, "shop", "p1");
    world.happens(vec![Event::Delete(gone.clone())]);
    assert_eq!(world.next(), [gone]);
    let left: Vec<_> = std::iter::from_fn(|| Some(world.next()).filter(|next| !next.is_empty())).collect();
    assert_eq!(left.len(), 2);
}

#[test]
fn a_compile_of_everything_takes_all() {
    let mut world = World::new();
    world.apply((0..3).map(|nth| policy("shop", &format!("p{nth}"), "/a+")));
    world.changes([id(Kind::Deployment, "shop", "app"), id(Kind::Service, "shop", "app")]);
    assert_eq!(world.turns.all().all().count(), 5);
    assert!(!world.turns.has_next());
}

#[test]
fn what_is_not_prepared_yet_holds_up_nothing_but_its_own_namespace() {
    let mut world = World::new();
    world.apply([policy("slow", "p", "/a+"), policy("quick", "p", "/b+")]);
    let (slow, quick) = (
        id(Kind::SentinelPolicy, "slow", "p"),
        id(Kind::SentinelPolicy, "quick", "p"),
    );
    let mut wanted = world.turns.take_wanted();
    assert!(!world.turns.has_next() && world.turns.next().is_none());
    let of = wanted.iter().position(|(id, _)| *id == quick).expect("it is wanted");
    let (id, prepared) = wanted.remove(of);
    world.turns.done(&id, prepared.prepare());
    assert_eq!(world.next(), [quick]);
    // An edit meanwhile is prepared as well before it is compiled.
    world.apply([policy("slow", "p", "/c+")]);
    assert!(world.turns.take_wanted().is_empty());
    world.turns.done(&slow, Prepared::default());
    assert!(!world.turns.has_next());
    assert_eq!(world.next(), [slow]);
}

#[test]
fn what_changes_faster_than_it_can_be_prepared_is_compiled_all_the_same() {
    let mut world = World::new();
    let changing = id(Kind::SentinelPolicy, "busy", "p");
    for round in 0.. {
        world.apply([policy("busy", "p", &format!("/a{round}"))]);
        if world.turns.has_next() {
            assert_eq!(world.next(), [changing]);
            break;
        }
        assert!(round < 20, "never");
        let begun = world.turns.take_wanted();
        world.apply([policy("busy", "p", &format!("/b{round}"))]);
        for (id, slow) in begun {
            world.turns.done(&id, slow.prepare());
        }
    }
}

use super::*;
use crate::api::deployment::DeploymentStatus;
use crate::object::Data;

fn batch(events: impl IntoIterator<Item = Event>) -> Batch {
    Batch {
        events: events.into_iter().collect(),
        seen: Instant::now(),
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("acme", name)
}

fn deployment(name: &str) -> Deployment {
    Deployment {
        key: key(name),
        uid: name.into(),
        generation: 1,
        created: 1,
        labels: Labels::default(),
        spec: Err(Undecoded {
            error: "broken".into(),
            claims: None,
        }),
        unknown: Box::default(),
        status: None,
    }
}

fn service(name: &str, port: u16) -> Service {
    Service {
        key: key(name),
        external_name: false,
        selectorless: false,
        ports: vec![ServicePort {
            name: None,
            port,
            protocol: "TCP".into(),
            app_protocol: None,
        }],
    }
}

fn slice(name: &str, service: &str) -> EndpointSlice {
    EndpointSlice {
        key: key(name),
        service: service.into(),
        by_controller: true,
        ports: Vec::new(),
        endpoints: Vec::new(),
    }
}

fn apply(store: &mut Store, objects: impl IntoIterator<Item = Object>) -> Changes {
    store.apply(batch(objects.into_iter().map(Event::Apply)));
    store.take_changes()
}

fn names<'a>(keys: impl IntoIterator<Item = &'a ObjectKey>) -> Vec<&'a str> {
    keys.into_iter().map(|key| &*key.name).collect()
}

#[test]
fn an_equal_object_is_no_change() {
    let mut store = Store::default();
    let objects = || {
        [
            Object::Deployment(deployment("a")),
            Object::Service(service("b", 80)),
            Object::EndpointSlice(slice("b-1", "b")),
        ]
    };
    let first = apply(&mut store, objects());
    assert_eq!(
        (names(first.of(Kind::Deployment)), names(first.of(Kind::Service))),
        (vec!["a"], vec!["b"])
    );
    let again = apply(&mut store, objects());
    assert_eq!(again, Changes::default());
}

#[test]
fn a_status_alone_is_observed_and_stored_but_no_change_for_compile() {
    let mut store = Store::default();
    apply(&mut store, [Object::Deployment(deployment("a"))]);
    let status = Arc::new(DeploymentStatus::default());
    let written = Deployment {
        status: Some(status.clone()),
        ..deployment("a")
    };
    let changes = apply(&mut store, [Object::Deployment(written)]);
    assert!(changes.is_empty());
    assert_eq!(names(changes.observed.iter().map(|id| &id.key)), ["a"]);
    assert_eq!(store.deployment(&key("a")).unwrap().status, Some(status));
}

#[test]
fn a_new_generation_or_uid_is_a_change() {
    let mut store = Store::default();
    apply(&mut store, [Object::Deployment(deployment("a"))]);
    let edited = Deployment {
        generation: 2,
        ..deployment("a")
    };
    assert_eq!(
        names(apply(&mut store, [Object::Deployment(edited.clone())]).of(Kind::Deployment)),
        ["a"]
    );
    let recreated = Deployment {
        uid: "other".into(),
        ..edited
    };
    assert_eq!(
        names(apply(&mut store, [Object::Deployment(recreated)]).of(Kind::Deployment)),
        ["a"]
    );
}

#[test]
fn a_slice_whose_label_changes_moves_and_both_services_changed() {
    let mut store = Store::default();
    apply(&mut store, [Object::EndpointSlice(slice("s", "old"))]);
    let changes = apply(&mut store, [Object::EndpointSlice(slice("s", "new"))]);
    assert_eq!(names(changes.of(Kind::Service)), ["new", "old"]);
    assert_eq!(store.slices(&key("old")).count(), 0);
    assert_eq!(store.slices(&key("new")).count(), 1);
    store.apply(batch([Event::Delete(ObjectId::new(Kind::EndpointSlice, key("s")))]));
    assert_eq!(names(store.take_changes().of(Kind::Service)), ["new"]);
    assert_eq!(store.count(Kind::EndpointSlice), 0);
}

#[test]
fn a_list_drops_what_vanished_and_only_of_its_kind() {
    let mut store = Store::default();
    apply(
        &mut store,
        [
            Object::Service(service("stays", 80)),
            Object::Service(service("goes", 80)),
            Object::EndpointSlice(slice("goes-1", "goes")),
        ],
    );
    store.apply(batch([Event::Listed(Kind::Service, BTreeSet::from([key("stays")]))]));
    assert_eq!(names(store.take_changes().of(Kind::Service)), ["goes"]);
    assert!(store.service(&key("goes")).is_none());
    assert!(store.service(&key("stays")).is_some());
    assert_eq!(store.slices(&key("goes")).count(), 1);
}

#[test]
fn the_store_is_complete_once_every_kind_was_listed() {
    let mut store = Store::default();
    for &kind in Kind::VARIANTS {
        assert!(!store.is_complete());
        store.apply(batch([Event::Listed(kind, BTreeSet::new())]));
    }
    assert!(store.is_complete());
}

#[test]
fn deleting_what_is_not_there_is_no_change() {
    let mut store = Store::default();
    store.apply(batch(
        Kind::VARIANTS
            .iter()
            .map(|kind| Event::Delete(ObjectId::new(*kind, key("nothing")))),
    ));
    assert_eq!(store.take_changes(), Changes::default());
}

#[test]
fn a_secret_or_config_map_that_says_something_else_is_a_change_of_its_own_kind() {
    let mut store = Store::default();
    let secret = |bytes: &[u8]| {
        Object::Secret(Secret {
            key: key("s"),
            uid: "s".into(),
            labels: Labels::default(),
            tls: true,
            purpose: None,
            data: Data::from_iter([("tls.crt", bytes)]),
        })
    };
    let map = |bytes: &[u8]| {
        Object::ConfigMap(ConfigMap {
            key: key("s"),
            uid: "s".into(),
            purpose: "ca".into(),
            data: Data::from_iter([("ca.crt", bytes)]),
        })
    };
    apply(&mut store, [secret(b"1"), map(b"1")]);
    assert_eq!(apply(&mut store, [secret(b"1"), map(b"1")]), Changes::default());
    let changes = apply(&mut store, [secret(b"2"), map(b"1")]);
    assert_eq!(
        (names(changes.of(Kind::Secret)), changes.of(Kind::ConfigMap).len()),
        (vec!["s"], 0)
    );
    let changes = apply(&mut store, [secret(b"2"), map(b"2")]);
    assert_eq!(
        (changes.of(Kind::Secret).len(), names(changes.of(Kind::ConfigMap))),
        (0, vec!["s"])
    );
    store.apply(batch([Event::Listed(Kind::Secret, BTreeSet::new())]));
    assert_eq!(names(store.take_changes().of(Kind::Secret)), ["s"]);
    assert!(store.config_map(&key("s")).is_some());
}

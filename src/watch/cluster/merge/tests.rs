use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event as Seen;

use super::*;

fn service(namespace: &str, name: &str) -> core::Service {
    let metadata = ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        ..ObjectMeta::default()
    };
    core::Service {
        metadata,
        ..core::Service::default()
    }
}

/// Objects named "alien" do not concern us, those named "broken" cannot be understood.
fn merge(scopes: usize) -> Merge<impl Fn(core::Service) -> Result<Option<Object>, String>> {
    let trim = |object: core::Service| match object.metadata.name.as_deref() {
        Some("alien") => Ok(None),
        Some("broken") => Err("no sense".to_owned()),
        _ => Ok(trim::service(object).map(Object::Service)),
    };
    Merge::new(scopes, Kind::Service, trim, Counters::default())
}

/// Events as text: "+n/a" applied, "-n/a" deleted, "=n/a,n/b" listed.
fn feed(
    merge: &mut Merge<impl Fn(core::Service) -> Result<Option<Object>, String>>,
    seen: impl IntoIterator<Item = (usize, Seen<core::Service>)>,
) -> String {
    let mut events = Vec::new();
    for (scope, event) in seen {
        merge.take(scope, event, &mut events);
    }
    let text = |event: Event| match event {
        Event::Apply(Object::Service(service)) => format!("+{}", service.key),
        Event::Delete(id) => format!("-{}", id.key),
        Event::Listed(_, keys) => format!(
            "={}",
            keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        ),
        other => panic!("unexpected {other:?}"),
    };
    events.into_iter().map(text).collect::<Vec<_>>().join(" ")
}

fn list(scope: usize, objects: &[(&str, &str)]) -> Vec<(usize, Seen<core::Service>)> {
    let applies = objects
        .iter()
        .map(|(namespace, name)| Seen::InitApply(service(namespace, name)));
    let events = std::iter::once(Seen::Init).chain(applies).chain([Seen::InitDone]);
    events.map(|event| (scope, event)).collect()
}

#[test]
fn a_list_is_told_when_it_is_complete() {
    let mut merge = merge(1);
    let mut seen = list(0, &[("n", "a"), ("n", "b"), ("n", "alien")]);
    let done = seen.pop();
    assert_eq!(feed(&mut merge, seen), "");
    assert_eq!(feed(&mut merge, done), "+n/a +n/b =n/a,n/b");
}

#[test]
fn a_list_that_breaks_off_leaves_no_trace() {
    let mut merge = merge(1);
    let mut broken = list(0, &[("n", "a"), ("n", "b")]);
    broken.truncate(2);
    assert_eq!(feed(&mut merge, broken), "");
    assert_eq!(feed(&mut merge, list(0, &[("n", "c")])), "+n/c =n/c");
}

#[test]
fn lists_of_several_namespaces_are_told_as_one() {
    let mut merge = merge(2);
    assert_eq!(feed(&mut merge, list(0, &[("n", "a")])), "+n/a");
    assert_eq!(feed(&mut merge, list(1, &[("m", "b")])), "+m/b =m/b,n/a");
    assert_eq!(
        feed(
            &mut merge,
            [
                (1, Seen::Apply(service("m", "c"))),
                (1, Seen::Delete(service("m", "b")))
            ]
        ),
        "+m/c -m/b"
    );
    assert_eq!(feed(&mut merge, list(0, &[])), "=m/c");
}

#[test]
fn what_no_longer_concerns_us_is_deleted() {
    let mut merge = merge(1);
    feed(&mut merge, list(0, &[("n", "a")]));
    // A slice that loses its label, for one.
    merge.scopes[0].keys.insert(ObjectKey::new("n", "alien"));
    assert_eq!(feed(&mut merge, [(0, Seen::Apply(service("n", "alien")))]), "-n/alien");
    assert_eq!(feed(&mut merge, [(0, Seen::Apply(service("n", "alien")))]), "");
    assert_eq!(feed(&mut merge, [(0, Seen::Delete(service("n", "alien")))]), "");
}

#[test]
fn what_cannot_be_understood_keeps_its_last_version() {
    let mut merge = merge(1);
    assert_eq!(feed(&mut merge, [(0, Seen::Apply(service("n", "broken")))]), "");
    assert_eq!(
        feed(&mut merge, list(0, &[("n", "broken"), ("n", "a")])),
        "+n/a =n/a,n/broken"
    );
    assert_eq!(merge.counters.undecodable.get(), 2);
    assert_eq!(
        feed(&mut merge, [(0, Seen::Delete(service("n", "broken")))]),
        "-n/broken"
    );
}

#[test]
fn an_object_that_was_made_anew_in_another_scope_is_not_gone() {
    let mut merge = merge(2);
    feed(&mut merge, list(0, &[("n", "a")]));
    feed(&mut merge, list(1, &[]));
    // Two watches: the new one's creation may be seen before the old one's deletion.
    let seen = [
        (1, Seen::Apply(service("n", "a"))),
        (0, Seen::Delete(service("n", "a"))),
    ];
    assert_eq!(feed(&mut merge, seen), "+n/a");
    assert_eq!(feed(&mut merge, [(1, Seen::Delete(service("n", "a")))]), "-n/a");
}

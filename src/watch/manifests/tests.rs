use super::*;
use crate::object::ObjectKey;

const LATER: Duration = Duration::from_secs(1);

fn deployment(name: &str, host: &str) -> String {
    format!(
        "apiVersion: postern.dev/v1alpha1\nkind: Deployment\nmetadata: {{name: {name}}}\n\
         spec: {{hostnames: [{host}], service: {{name: s, port: 80}}}}\n"
    )
}

fn file(documents: &[String]) -> String {
    documents.join("---\n")
}

/// What a receiver of all events would hold, as "name=host" (or "name!" if broken).
#[derive(Default)]
struct Receiver {
    objects: BTreeMap<ObjectKey, String>,
    events: usize,
}

impl Receiver {
    fn take(&mut self, events: Vec<Event>) {
        self.events = events.len();
        for event in events {
            match event {
                Event::Apply(Object::Deployment(object)) => {
                    let text = match &object.spec {
                        Ok(spec) => format!("={}", spec.hostnames.join("+")),
                        Err(_) => "!".to_owned(),
                    };
                    self.objects.insert(object.key, text);
                }
                Event::Delete(id) if id.kind == Kind::Deployment => {
                    assert!(self.objects.remove(&id.key).is_some());
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn holds(&self) -> String {
        let objects = self.objects.iter().map(|(key, text)| format!("{}{text}", key.name));
        objects.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn an_edit_tells_only_what_changed() {
    let (mut manifests, mut receiver) = (Manifests::default(), Receiver::default());
    let now = Instant::now();
    manifests.load(
        Path::new("/a.yaml"),
        &file(&[deployment("a", "a.x"), deployment("b", "b.x")]),
    );
    receiver.take(manifests.changes(now));
    assert_eq!(receiver.holds(), "a=a.x b=b.x");

    manifests.load(
        Path::new("/a.yaml"),
        &file(&[deployment("a", "a.x"), deployment("b", "b.y")]),
    );
    receiver.take(manifests.changes(now));
    assert_eq!((receiver.holds().as_str(), receiver.events), ("a=a.x b=b.y", 1));

    // Other text, same meaning.
    manifests.load(
        Path::new("/a.yaml"),
        &file(&[format!("# changed\n{}", deployment("b", "b.y")), deployment("a", "a.x")]),
    );
    receiver.take(manifests.changes(now + LATER));
    assert_eq!((receiver.holds().as_str(), receiver.events), ("a=a.x b=b.y", 0));
}

#[test]
fn deletions_wait_and_a_move_between_files_deletes_nothing() {
    let (mut manifests, mut receiver) = (Manifests::default(), Receiver::default());
    let now = Instant::now();
    manifests.load(Path::new("/a.yaml"), &deployment("a", "a.x"));
    receiver.take(manifests.changes(now));
    manifests.load(Path::new("/a.yaml"), "");
    receiver.take(manifests.changes(now));
    assert_eq!(
        (receiver.holds().as_str(), manifests.due()),
        ("a=a.x", Some(now + GRACE))
    );
    manifests.load(Path::new("/b.yaml"), &deployment("a", "a.x"));
    receiver.take(manifests.changes(now + LATER));
    assert_eq!(
        (receiver.holds().as_str(), receiver.events, manifests.due()),
        ("a=a.x", 0, None)
    );

    manifests.remove(Path::new("/b.yaml"));
    receiver.take(manifests.changes(now + LATER));
    receiver.take(manifests.changes(now + LATER + GRACE));
    assert_eq!((receiver.holds().as_str(), manifests.due()), ("", None));
}

#[test]
fn a_broken_file_keeps_what_it_said_and_takes_what_is_new() {
    let (mut manifests, mut receiver) = (Manifests::default(), Receiver::default());
    let path = Path::new("/a.yaml");
    let now = Instant::now();
    let mut at = now;
    let mut load = |manifests: &mut Manifests, receiver: &mut Receiver, text: &str| {
        manifests.load(path, text);
        receiver.take(manifests.changes(at));
        at += LATER;
        receiver.take(manifests.changes(at));
        receiver.holds()
    };
    let (manifests, receiver) = (&mut manifests, &mut receiver);
    let good = file(&[deployment("a", "a.x"), deployment("b", "b.x"), deployment("c", "c.x")]);
    assert_eq!(load(manifests, receiver, &good), "a=a.x b=b.x c=c.x");
    // Half of it: b is cut off in the middle, c is missing.
    let half = &good[..good.find("[b.x").unwrap() + 2];
    assert_eq!(load(manifests, receiver, half), "a=a.x b=b.x c=c.x");
    // Still broken, with a new object and a changed one.
    let edited = format!("{}---\n{}---\n{half}", deployment("d", "d.x"), deployment("c", "c.y"));
    assert_eq!(load(manifests, receiver, &edited), "a=a.x b=b.x c=c.y d=d.x");
    // An unknown field is as bad as broken text, for a known object; a new one is told with what is known.
    let unknown = |text: String| text.replace("hostnames", "hostname");
    let edited = file(&[
        deployment("a", "a.z"),
        unknown(deployment("b", "b.z")),
        unknown(deployment("e", "e.x")),
    ]);
    assert_eq!(load(manifests, receiver, &edited), "a=a.z b=b.x c=c.y d=d.x e=");
    // Mended: what it does not say is gone.
    let mended = file(&[deployment("a", "a.z"), deployment("e", "e.x")]);
    assert_eq!(load(manifests, receiver, &mended), "a=a.z e=e.x");
}

#[test]
fn a_document_that_was_kept_in_part_is_read_again_when_it_comes_back() {
    let (mut manifests, mut receiver) = (Manifests::default(), Receiver::default());
    let mut now = Instant::now();
    let item = |name: &str| {
        format!(
            "- {}",
            deployment(name, &format!("{name}.x")).trim_end().replace('\n', "\n  ")
        )
    };
    let both = format!("apiVersion: v1\nkind: List\nitems:\n{}\n{}\n", item("a"), item("b"));
    let broken = file(&[deployment("a", "a.y"), "a: [\n".to_owned()]);
    for (text, expected) in [(&both, "a=a.x b=b.x"), (&broken, "a=a.y b=b.x"), (&both, "a=a.x b=b.x")] {
        manifests.load(Path::new("/a.yaml"), text);
        receiver.take(manifests.changes(now));
        now += LATER;
        receiver.take(manifests.changes(now));
        assert_eq!(receiver.holds(), expected);
    }
}

#[test]
fn the_first_file_by_path_owns_an_object() {
    let (mut manifests, mut receiver) = (Manifests::default(), Receiver::default());
    let now = Instant::now();
    manifests.load(Path::new("/b.yaml"), &deployment("a", "b.x"));
    receiver.take(manifests.changes(now));
    manifests.load(
        Path::new("/a.yaml"),
        &file(&[deployment("a", "a.x"), deployment("a", "second.x")]),
    );
    receiver.take(manifests.changes(now));
    assert_eq!(receiver.holds(), "a=a.x");
    manifests.remove(Path::new("/a.yaml"));
    receiver.take(manifests.changes(now));
    assert_eq!(receiver.holds(), "a=b.x");
}

mod property {
    use super::*;
    use proptest::prelude::*;

    /// A document: one object (by number) with a host, a List of several, or broken text if there is none.
    type Content = Vec<(u8, u8)>;

    fn content(least: usize) -> impl Strategy<Value = Vec<Content>> {
        prop::collection::vec(prop::collection::vec((0..4u8, 0..3u8), least..3), 0..4)
    }

    fn text(documents: &[Content]) -> String {
        let object = |(name, host): &(u8, u8)| {
            format!(
                "{{apiVersion: postern.dev/v1alpha1, kind: Deployment, metadata: {{name: d{name}}}, \
                 spec: {{hostnames: [h{host}.x], service: {{name: s, port: 80}}}}}}"
            )
        };
        let documents = documents.iter().map(|objects| match objects.as_slice() {
            [] => "a: [\n".to_owned(),
            objects => {
                let items: Vec<_> = objects.iter().map(object).collect();
                format!("apiVersion: v1\nkind: List\nitems: [{}]\n", items.join(", "))
            }
        });
        file(&documents.collect::<Vec<_>>())
    }

    proptest! {
        /// Whatever the history, once all files are whole again the receiver holds what they say.
        #[test]
        fn after_any_history_whole_files_are_told_as_they_are(
            history in prop::collection::vec((0..3u8, prop::option::of(content(0))), 0..12),
            last in prop::collection::vec(content(1), 3),
        ) {
            let (mut manifests, mut receiver) = (Manifests::default(), Receiver::default());
            let mut now = Instant::now();
            let path = |file: u8| format!("/{file}.yaml");
            for (file, content) in history {
                match content {
                    Some(content) => manifests.load(Path::new(&path(file)), &text(&content)),
                    None => manifests.remove(Path::new(&path(file))),
                }
                receiver.take(manifests.changes(now));
                now += Duration::from_millis(100);
            }
            let mut expected = BTreeMap::new();
            for (file, content) in (0..).zip(last) {
                for (name, host) in content.iter().flatten() {
                    expected.entry(format!("d{name}")).or_insert(format!("=h{host}.x"));
                }
                manifests.load(Path::new(&path(file)), &text(&content));
            }
            receiver.take(manifests.changes(now));
            receiver.take(manifests.changes(now + LATER));
            let held = receiver.objects.iter().map(|(key, text)| (key.name.to_string(), text.clone()));
            prop_assert_eq!(held.collect::<BTreeMap<_, _>>(), expected);
        }
    }
}

use std::fs;
use std::time::Duration;

use strum::VariantArray;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::object::ObjectKey;
use crate::store::{Event, Kind, Object};

fn service(name: &str, port: u16) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n")
}

/// The receiving end: Services by name and port, and how many deletions were seen.
struct Source {
    folder: TempDir,
    receiver: Receiver<Batch>,
    services: BTreeMap<String, u16>,
    deleted: usize,
    listed: usize,
    _task: JoinHandle<()>,
}

impl Source {
    async fn watch(folder: TempDir) -> Self {
        let (sender, receiver) = channel(16);
        let source = Folder::open(folder.path(), false).await.unwrap();
        let task = tokio::spawn(async move { source.watch(&sender).await });
        Self {
            folder,
            receiver,
            services: BTreeMap::new(),
            deleted: 0,
            listed: 0,
            _task: task,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn batch(&mut self) {
        let batch = tokio::time::timeout(Duration::from_secs(30), self.receiver.recv()).await;
        for event in batch.expect("no batch in 30 s").expect("the source ended").events {
            match event {
                Event::Apply(Object::Service(service)) => {
                    self.services
                        .insert(service.key.name.to_string(), service.ports[0].port);
                }
                Event::Delete(id) if id.kind == Kind::Service => {
                    self.services.remove(&*id.key.name);
                    self.deleted += 1;
                }
                Event::Listed(kind, keys) => {
                    let expected = if kind == Kind::Service { self.services.len() } else { 0 };
                    assert_eq!(keys.len(), expected);
                    assert!(keys.iter().all(|key| *key == ObjectKey::new("default", &key.name)));
                    self.listed += 1;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    async fn until(&mut self, expected: &[(&str, u16)]) {
        let expected: BTreeMap<String, u16> = expected.iter().map(|(name, port)| (name.to_string(), *port)).collect();
        while self.services != expected {
            self.batch().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_listed_and_what_changes_follows() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("a.yaml"), service("a", 1)).unwrap();
    fs::write(folder.path().join("sub/b.yml"), service("b", 1)).unwrap();
    fs::write(folder.path().join(".c.yaml"), service("c", 1)).unwrap();
    fs::write(folder.path().join("README.md"), "no manifest").unwrap();
    let mut source = Source::watch(folder).await;
    source.batch().await;
    assert_eq!(source.listed, Kind::VARIANTS.len());
    source.until(&[("a", 1), ("b", 1)]).await;

    fs::write(source.path("a.yaml"), service("a", 2)).unwrap();
    source.until(&[("a", 2), ("b", 1)]).await;

    // A folder that is new, with a file that may be older than the watch on it.
    fs::create_dir(source.path("new")).unwrap();
    fs::write(
        source.path("new/d.json"),
        r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "d"}, "spec": {"ports": [{"port": 9}]}}"#,
    )
    .unwrap();
    source.until(&[("a", 2), ("b", 1), ("d", 9)]).await;
    assert_eq!(source.deleted, 0);

    fs::remove_file(source.path("a.yaml")).unwrap();
    source.until(&[("b", 1), ("d", 9)]).await;
    fs::remove_dir_all(source.path("new")).unwrap();
    source.until(&[("b", 1)]).await;
    assert_eq!((source.deleted, source.listed), (2, Kind::VARIANTS.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn editors_that_save_by_renaming_delete_nothing() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), service("a", 1)).unwrap();
    let mut source = Source::watch(folder).await;
    source.until(&[("a", 1)]).await;
    for port in 2..20 {
        // vim: away with the old one, write a new one.
        fs::rename(source.path("a.yaml"), source.path("a.yaml~")).unwrap();
        tokio::task::yield_now().await;
        fs::write(source.path("a.yaml"), service("a", port)).unwrap();
        source.until(&[("a", port)]).await;
        // Others: write a new one beside it and move it over.
        fs::write(source.path(".a.yaml.tmp"), service("a", port + 100)).unwrap();
        fs::rename(source.path(".a.yaml.tmp"), source.path("a.yaml")).unwrap();
        source.until(&[("a", port + 100)]).await;
    }
    fs::rename(source.path("a.yaml"), source.path("b.yaml")).unwrap();
    fs::write(source.path("b.yaml"), service("a", 3)).unwrap();
    source.until(&[("a", 3)]).await;
    assert_eq!(source.deleted, 0);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_config_map_is_followed_from_version_to_version() {
    use std::os::unix::fs::symlink;

    let folder = TempDir::new().unwrap();
    let root = folder.path().to_owned();
    let publish = |version: &str, files: &[(&str, u16)]| {
        let data = root.join(version);
        fs::create_dir(&data).unwrap();
        for (name, port) in files {
            fs::write(data.join(format!("{name}.yaml")), service(name, *port)).unwrap();
        }
        symlink(version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    publish("..1", &[("a", 1), ("b", 1)]);
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    symlink("..data/b.yaml", root.join("b.yaml")).unwrap();
    let mut source = Source::watch(folder).await;
    source.until(&[("a", 1), ("b", 1)]).await;
    publish("..2", &[("a", 2), ("b", 1), ("c", 1)]);
    symlink("..data/c.yaml", root.join("c.yaml")).unwrap();
    fs::remove_dir_all(root.join("..1")).unwrap();
    source.until(&[("a", 2), ("b", 1), ("c", 1)]).await;
    assert_eq!(source.deleted, 0);
    publish("..3", &[("a", 3)]);
    source.until(&[("a", 3)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_event_costs_nothing_but_a_look_at_everything() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), service("a", 1)).unwrap();
    let (sender, receiver) = channel(16);
    let mut watched = Folder::open(folder.path(), false).await.unwrap();
    // Nobody tells of changes any more, but that something was lost.
    watched._watcher = notify::recommended_watcher(|_| {}).unwrap();
    let (tell, events) = channel(16);
    watched.events = events;
    let overflowed = watched.overflowed.clone();
    let task = tokio::spawn(async move { watched.watch(&sender).await });
    let mut source = Source {
        folder,
        receiver,
        services: BTreeMap::new(),
        deleted: 0,
        listed: 0,
        _task: task,
    };
    source.until(&[("a", 1)]).await;
    fs::write(source.path("a.yaml"), service("a", 2)).unwrap();
    overflowed.store(true, Ordering::Relaxed);
    tell.send(notify::Event::new(EventKind::Other)).await.unwrap();
    source.until(&[("a", 2)]).await;
}

#[tokio::test]
async fn what_is_no_folder_is_refused() {
    assert!(matches!(
        Folder::open(Path::new("/nonexistent"), true).await,
        Err(FolderError::NotAFolder(_))
    ));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_at_the_start_is_told_with_file_and_line_and_a_lenient_start_goes_without_it() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
    write("good.yaml", service("a", 1).as_bytes());
    let object = |kind: &str, spec: &str| {
        format!("apiVersion: postern.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
    };
    write("cut-off.yaml", format!("{}---\na: [\n", service("b", 1)).as_bytes());
    write("typo.yaml", object("Deployment", "{hostname: [a.x]}").as_bytes());
    write(
        "policy.yaml",
        object("SentinelPolicy", "{targetRefs: [{name: x}], rules: 1}").as_bytes(),
    );
    write("bytes.yaml", b"\xff\xfe");
    std::os::unix::fs::symlink("nowhere", folder.path().join("link.yaml")).unwrap();
    let Err(refused @ FolderError::Unusable(_)) = Folder::open(folder.path(), false).await else {
        panic!("it starts");
    };
    let told = refused.to_string();
    for part in [
        "cut-off.yaml:",
        "typo.yaml:1: Deployment default/x: unknown fields: spec.hostname",
        "policy.yaml:1: SentinelPolicy default/x: spec.rules",
        "bytes.yaml: cannot be read",
        "link.yaml: cannot be read",
        "--lenient",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("good.yaml"), "{told}");

    let source = Folder::open(folder.path(), true).await.unwrap();
    let (sender, mut receiver) = channel(1);
    let _task = tokio::spawn(async move { source.watch(&sender).await });
    let batch = receiver.recv().await.unwrap();
    let is_service = |event: &&Event| matches!(event, Event::Apply(Object::Service(_)));
    assert_eq!(batch.events.iter().filter(is_service).count(), 2);
}

/// To open a file makes an event: opening all of them because of too many events would never end.
#[test]
fn another_look_everywhere_opens_only_what_looks_different() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.yaml");
    fs::write(&path, service("a", 1)).unwrap();
    let mut reader = Folder::unread(folder.path()).unwrap().reader;
    let mut look = || {
        reader.look(Look::Everywhere).unwrap();
        reader.manifests.changes(Instant::now()).len()
    };
    assert_eq!((look(), look()), (1, 0));

    let modified = path.metadata().unwrap().modified().unwrap();
    fs::write(&path, service("a", 2)).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    assert_eq!(look(), 0, "it was opened though it looks the same");
    fs::write(&path, service("a", 10)).unwrap();
    assert_eq!(look(), 1);

    let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
    assert!(!concerns(&notify::Event::new(opened)));
}

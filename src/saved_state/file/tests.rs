use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::sync::Arc;

use proptest::prelude::{any, prop_assert};
use tempfile::TempDir;

use super::*;
use crate::object::{Data, ObjectKey};
use crate::store::{Batch, Event, Secret, Store};

fn secret() -> Secret {
    Secret {
        key: ObjectKey::new("acme", "app-tls"),
        uid: "u".into(),
        labels: Default::default(),
        tls: true,
        purpose: None,
        // No text in any encoding.
        data: Data::from_iter([("tls.key", (0..=255).collect::<Vec<u8>>())]),
    }
}

fn state() -> SavedState<Shared> {
    SavedState {
        saved_at: 1_700_000_000,
        objects: vec![Shared::Secret(Arc::new(secret()))],
        stand_ins: Vec::new(),
    }
}

fn bytes() -> Vec<u8> {
    file("/nowhere").encode(&state(), Vec::new()).unwrap()
}

fn file(folder: impl AsRef<Path>) -> StateFile {
    StateFile::new(folder.as_ref(), Fingerprint([1; 32]))
}

/// A file with these bytes, and what is thought of it.
fn read(bytes: &[u8]) -> Result<Option<SavedState<Object>>, Unusable> {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(NAME), bytes).unwrap();
    file(folder.path()).read()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn what_was_written_is_read_again_keys_included() {
    let folder = TempDir::new().unwrap();
    let file = file(folder.path().join("made/when/needed"));
    assert!(file.read().unwrap().is_none());
    file.write(&state()).unwrap();
    file.write(&state()).unwrap();
    let state = file.read().unwrap().unwrap();
    assert_eq!(state.saved_at, 1_700_000_000);
    assert_eq!(state.objects, [Object::Secret(secret())]);
    let names: Vec<_> = fs::read_dir(&file.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [NAME], "nothing else is left");
}

#[test]
fn nobody_else_may_read_it_whatever_was_there_before() {
    let folder = TempDir::new().unwrap();
    let file = file(folder.path().join("state"));
    file.write(&state()).unwrap();
    assert_eq!((mode(&file.folder), mode(&file.path())), (0o700, 0o600));

    // Others may write into the folder, and have.
    fs::set_permissions(&file.folder, PermissionsExt::from_mode(0o777)).unwrap();
    fs::set_permissions(file.path(), PermissionsExt::from_mode(0o666)).unwrap();
    let theirs = folder.path().join("theirs");
    fs::write(&theirs, "untouched").unwrap();
    symlink(&theirs, file.folder.join(NEW)).unwrap();
    file.write(&state()).unwrap();
    assert_eq!(mode(&file.path()), 0o600);
    assert_eq!(fs::read_to_string(theirs).unwrap(), "untouched");
}

/// As root, which tests run as in the gate: anybody else cannot give files away.
#[test]
fn a_file_of_another_user_is_not_read() {
    let folder = TempDir::new().unwrap();
    let file = file(folder.path());
    file.write(&state()).unwrap();
    if geteuid().is_root() {
        chown(file.path(), Some(12345), None).unwrap();
        assert!(matches!(file.read(), Err(Unusable::Owner(12345))));
    }
}

#[test]
fn what_is_foreign_is_not_read() {
    let text = String::from_utf8(bytes()).unwrap();
    let resummed = |from: &str, to: &str| {
        let summed = text[..text.len() - CHECKSUM].replacen(from, to, 1);
        assert!(!text.starts_with(&summed));
        format!("{summed}{}\n", Hex(digest(&SHA256, summed.as_bytes()).as_ref()))
    };
    assert!(read(text.as_bytes()).is_ok());
    let told = |text: String| read(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(told(resummed(VERSION, "0.0.1 ")), Unusable::Version.to_string());
    assert_eq!(told(resummed("0101", "0102")), Unusable::Installation.to_string());
    assert_eq!(told(resummed("0101", "01010")), Unusable::Installation.to_string());
    assert_eq!(told(resummed("\"uid\"", "\"vid\"")), Unusable::Content.to_string());
    assert_eq!(told("something else".to_owned()), Unusable::NoState.to_string());
    assert_eq!(told(String::new()), Unusable::NoState.to_string());
    assert_eq!(told(MAGIC.to_owned()), Unusable::Damaged.to_string());

    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join(NAME)).unwrap();
    assert!(matches!(file(folder.path()).read(), Err(Unusable::NoFile)));
}

#[test]
fn every_damaged_byte_and_every_missing_end_is_noticed() {
    let whole = bytes();
    assert!(file("/nowhere").decode(&whole).is_ok());
    for at in 0..whole.len() {
        assert!(file("/nowhere").decode(&whole[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            assert!(file("/nowhere").decode(&damaged).is_err(), "bit {bit} of byte {at}");
        }
    }
}

proptest::proptest! {
    /// Whatever is there in its place.
    #[test]
    fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..300), at in 0..1000_usize) {
        prop_assert!(file("/nowhere").decode(&noise).is_err());
        let mut changed = bytes();
        let place = at % changed.len();
        let before = changed.clone();
        changed.splice(place..place, noise);
        prop_assert!(changed == before || file("/nowhere").decode(&changed).is_err());
    }
}

#[test]
fn more_than_a_reader_takes_is_not_written() {
    struct Nowhere;
    impl Write for Nowhere {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut to = Summed::new(Nowhere);
    to.room = 10;
    assert!(to.write_all(&[0; 10]).is_ok());
    assert_eq!(to.write(&[0]).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let folder = TempDir::new().unwrap();
    let file = file(folder.path());
    file.write(&state()).unwrap();
    // A folder of this name cannot be removed as a file.
    fs::create_dir(folder.path().join(NEW)).unwrap();
    assert!(file.write(&state()).is_err());
    assert!(file.read().unwrap().is_some());
}

#[test]
fn the_objects_of_a_store_are_the_same_after_it() {
    let mut store = Store::default();
    store.apply(Batch {
        events: vec![Event::Apply(Object::Secret(secret()))],
        seen: std::time::Instant::now(),
    });
    let state = SavedState {
        saved_at: 0,
        objects: store.objects().collect(),
        stand_ins: Vec::new(),
    };
    let written = file("/nowhere").encode(&state, Vec::new()).unwrap();
    let read = file("/nowhere").decode(&written).unwrap();
    assert_eq!(read.objects, [Object::Secret(secret())]);
}

use std::fs;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::tls::Fingerprint;

const SOON: Duration = Duration::from_secs(20);

fn state(saved_at: i64) -> State {
    SavedState {
        saved_at,
        objects: Vec::new(),
        stand_ins: Vec::new(),
    }
}

#[tokio::test]
async fn states_are_taken_one_at_a_time_and_the_last_is_written_before_the_end() {
    let folder = TempDir::new().unwrap();
    let file = StateFile::new(folder.path(), Fingerprint([1; 32]));
    let counters = Counters::default();
    let (saver, end) = Saver::start(file.clone(), counters.clone()).unwrap();
    timeout(SOON, saver.free()).await.unwrap();
    saver.save(state(1));
    assert!(timeout(PAUSE / 2, saver.free()).await.is_err(), "the next has to wait");
    timeout(SOON, saver.free()).await.unwrap();
    assert_eq!(file.read().unwrap().unwrap().saved_at, 1);
    saver.save(state(2));
    // At the end nobody asks whether it is free.
    saver.save(state(3));
    drop(saver);
    timeout(SOON, end).await.unwrap().unwrap();
    assert_eq!(file.read().unwrap().unwrap().saved_at, 3);
    assert_eq!((counters.saved.get(), counters.failed.get()), (3, 0));
}

#[tokio::test]
async fn a_failure_is_counted_and_the_next_state_is_tried_again() {
    let folder = TempDir::new().unwrap();
    let blocked = folder.path().join("folder");
    fs::write(&blocked, "a file").unwrap();
    let file = StateFile::new(&blocked, Fingerprint([1; 32]));
    let counters = Counters::default();
    let (saver, end) = Saver::start(file.clone(), counters.clone()).unwrap();
    timeout(SOON, saver.free()).await.unwrap();
    saver.save(state(1));
    timeout(SOON, saver.free()).await.unwrap();
    assert_eq!((counters.saved.get(), counters.failed.get()), (0, 1));
    fs::remove_file(&blocked).unwrap();
    saver.save(state(2));
    drop(saver);
    timeout(SOON, end).await.unwrap().unwrap();
    assert_eq!((counters.saved.get(), counters.failed.get()), (1, 1));
    assert_eq!(file.read().unwrap().unwrap().saved_at, 2);
}

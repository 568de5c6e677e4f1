//! Lines on their way to a writer that may be slow, or stand still: bounded, and never waited for by who has one to write.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::{error, info};

/// In bytes. A line that has no room is dropped.
const CAPACITY: usize = 1 << 20;
/// With this many bytes the writer begins at once.
const PLENTY: usize = CAPACITY / 8;
/// Otherwise lines gather for so long: waking a thread for each would cost more than the line does.
const GATHER: Duration = Duration::from_millis(50);

/// Lines between those who are served and the thread that writes.
#[derive(Debug)]
pub struct Queue {
    lines: Mutex<Lines>,
    /// That there is something to write.
    filled: Condvar,
    /// That all is written.
    written: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// The writer sleeps until it is told.
    asleep: bool,
    writing: bool,
    /// Somebody waits for the end of it.
    hurry: bool,
}

impl Queue {
    /// `dropped` counts lines that had no room.
    pub fn new(dropped: Arc<AtomicU64>) -> Self {
        Self {
            lines: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            dropped,
        }
    }

    /// Never waits; a line that has no room is dropped.
    pub fn push(&self, line: &[u8]) {
        let mut lines = self.lock();
        if lines.bytes.len() + line.len() > CAPACITY {
            drop(lines);
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        lines.bytes.extend_from_slice(line);
        let plenty = lines.bytes.len() >= PLENTY && lines.bytes.len() - line.len() < PLENTY;
        if std::mem::take(&mut lines.asleep) || plenty {
            drop(lines);
            self.filled.notify_one();
        }
    }

    /// Waits until all lines so far are written, but no longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut lines = self.lock();
        lines.hurry = true;
        self.filled.notify_one();
        while lines.writing || !lines.bytes.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.written.wait_for(&mut lines, left);
        }
        lines.hurry = false;
    }

    /// For ever.
    pub fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        let mut broken = false;
        loop {
            self.take(&mut batch);
            match out.write_all(&batch).and_then(|()| out.flush()) {
                Ok(()) if broken => info!("the access log can be written again"),
                Ok(()) => {}
                Err(error) => {
                    let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                    self.dropped.fetch_add(lines as u64, Relaxed);
                    if !broken {
                        error!(%error, "cannot write the access log");
                    }
                    broken = true;
                    batch.clear();
                    continue;
                }
            }
            broken = false;
            batch.clear();
        }
    }

    /// All that is there, once there is something and it had a while to become more.
    fn take(&self, batch: &mut Vec<u8>) {
        let mut lines = self.lock();
        lines.writing = false;
        if lines.bytes.is_empty() {
            self.written.notify_all();
        }
        while lines.bytes.is_empty() {
            lines.asleep = true;
            self.filled.wait(&mut lines);
        }
        lines.asleep = false;
        let end = Instant::now() + GATHER;
        while lines.bytes.len() < PLENTY && !lines.hurry {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.filled.wait_for(&mut lines, left);
        }
        lines.writing = true;
        std::mem::swap(&mut lines.bytes, batch);
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::{io, thread};

    use super::*;

    /// Takes a batch whenever the test does.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue() -> (Arc<Queue>, Receiver<Vec<u8>>) {
        let (sender, receiver) = sync_channel(0);
        let queue = Arc::new(Queue::new(Arc::default()));
        let writer = queue.clone();
        thread::spawn(move || writer.write_to(Slow(sender)));
        (queue, receiver)
    }

    #[test]
    fn every_line_is_written_whole_and_in_order() {
        let (queue, written) = queue();
        let lines: Vec<_> = (0..5000).map(|nth| format!("line {nth}\n")).collect();
        lines.iter().for_each(|line| queue.push(line.as_bytes()));
        let wanted = lines.concat();
        let mut found = Vec::new();
        while found.len() < wanted.len() {
            found.extend(written.recv().unwrap());
        }
        assert_eq!(String::from_utf8(found).unwrap(), wanted);
        assert_eq!(queue.dropped.load(Relaxed), 0);
    }

    #[test]
    fn a_writer_that_stands_still_costs_lines_and_nobody_waits() {
        let (queue, written) = queue();
        let line = [b'x'; 1024];
        for _ in 0..3 * CAPACITY / line.len() {
            queue.push(&line);
        }
        // One batch is with the writer at most, one more is here.
        let dropped = queue.dropped.load(Relaxed) as usize;
        assert!(dropped >= CAPACITY / line.len(), "{dropped}");
        written.recv().unwrap();
    }

    #[test]
    fn a_writer_that_is_gone_costs_lines_alone() {
        let (queue, written) = queue();
        drop(written);
        queue.push(b"one\n");
        queue.push(b"two\n");
        queue.flush(Duration::from_secs(20));
        assert_eq!(queue.dropped.load(Relaxed), 2);
    }

    #[test]
    fn flush_waits_for_the_last_line() {
        let (queue, written) = queue();
        queue.push(b"last\n");
        let flushed = thread::spawn({
            let queue = queue.clone();
            move || queue.flush(Duration::from_secs(20))
        });
        assert_eq!(written.recv().unwrap(), b"last\n");
        flushed.join().unwrap();
    }
}

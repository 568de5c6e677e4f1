//! How much a client may send that carries nothing: pings, settings, priorities, resets, empty frames. Each is cheap for it
//! to send and costs Postern an answer or a look; what carries something earns what it needs of them. A reset throws away
//! work instead, whatever came before it, so that answers alone earn resets.

use std::time::Instant;

/// In bytes: what a client may be ahead.
const CAPACITY: u64 = 1 << 20;
const PER_SECOND: u64 = 64 * 1024;
/// Resets of which no answer is the reason, at once. As many may follow as answers begin: who looks at an answer and wants
/// no more of it has let the app do what it asked for.
const RESETS: u64 = 512;
const RESETS_PER_SECOND: u64 = 32;
/// A reset's share in `Flood::resets`, so that a millisecond earns a part of one.
const RESET: u64 = 1000;
/// An answer's bytes earn this part of themselves: for window updates more than enough, for pings less than they cost.
const EARNED_OF_SENT: u64 = 8;
const PREFACE: usize = 24;
const HEAD: usize = 9;

/// RFC 9113 section 6.
mod kind {

    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const CONTINUATION: u8 = 9;
}

const END_STREAM: u8 = 1;

/// Reads along, frame by frame.
#[derive(Debug)]
pub struct Flood {
    /// Bytes of a frame's payload, or of the preface, still to skip.
    skip: usize,
    head: [u8; HEAD],
    filled: usize,
    /// Whether a whole head of a frame has come.
    pub begun: bool,
    left: u64,
    /// In thousandths.
    resets: u64,
    /// Answers that have earned their resets.
    credited: u64,
    refilled: Instant,
}

/// Nobody needs that many frames for that little.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMuch;

impl Flood {
    /// With all of `CAPACITY` and `RESETS`, before the client's preface.
    pub fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            filled: 0,
            begun: false,
            left: CAPACITY,
            resets: RESETS * RESET,
            credited: 0,
            refilled: now,
        }
    }

    /// Takes note of what the client sent, in pieces of any size, by the time that so many answers had begun. Fails once it
    /// has sent too many frames for too little.
    pub fn read(&mut self, mut bytes: &[u8], answers: u64) -> Result<(), TooMuch> {
        loop {
            let skipped = self.skip.min(bytes.len());
            bytes = &bytes[skipped..];
            self.skip -= skipped;
            if bytes.is_empty() {
                return Ok(());
            }
            let (head, rest) = bytes.split_at(bytes.len().min(HEAD - self.filled));
            self.head[self.filled..self.filled + head.len()].copy_from_slice(head);
            self.filled += head.len();
            bytes = rest;
            if self.filled == HEAD {
                self.filled = 0;
                self.begun = true;
                self.frame(answers)?;
            }
        }
    }

    /// Bytes of whatever kind have gone to the client.
    pub fn wrote(&mut self, bytes: usize) {
        self.earn(bytes as u64 / EARNED_OF_SENT);
    }

    fn frame(&mut self, answers: u64) -> Result<(), TooMuch> {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        // h2 refuses a frame that is longer than it has allowed, and reads no further.
        self.skip = length as usize;
        let whole = u64::from(length) + HEAD as u64;
        match kind {
            kind::DATA if length > 0 => self.earn(u64::from(length)),
            kind::DATA if flags & END_STREAM != 0 => {}
            // Bounded by the streams that may be open, and by h2.
            kind::HEADERS | kind::CONTINUATION => {}
            kind::RST_STREAM => return self.reset(answers),
            _ => return self.spend(whole),
        }
        Ok(())
    }

    fn earn(&mut self, bytes: u64) {
        self.left = (self.left + bytes).min(CAPACITY);
    }

    fn spend(&mut self, bytes: u64) -> Result<(), TooMuch> {
        if self.left < bytes {
            // The clock is asked only by who has spent all that was there.
            self.refill(Instant::now());
        }
        self.left = self.left.checked_sub(bytes).ok_or(TooMuch)?;
        Ok(())
    }

    /// RFC 9113 section 10.5: the limit on streams does not hold who takes each back at once.
    fn reset(&mut self, answers: u64) -> Result<(), TooMuch> {
        self.earn_resets(answers.saturating_sub(self.credited).saturating_mul(RESET));
        self.credited = answers;
        if self.resets < RESET {
            self.refill(Instant::now());
        }
        self.resets = self.resets.checked_sub(RESET).ok_or(TooMuch)?;
        Ok(())
    }

    fn earn_resets(&mut self, thousandths: u64) {
        self.resets = self.resets.saturating_add(thousandths).min(RESETS * RESET);
    }

    fn refill(&mut self, now: Instant) {
        let millis = now.saturating_duration_since(self.refilled).as_millis() as u64;
        self.refilled = now;
        self.earn(millis.saturating_mul(PER_SECOND) / 1000);
        self.earn_resets(millis.saturating_mul(RESETS_PER_SECOND * RESET) / 1000);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MANY: usize = 200_000;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = (length as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD + length, 0);
        frame
    }

    fn begun() -> Flood {
        let mut flood = Flood::new(Instant::now());
        assert_eq!(flood.read(&[b'x'; PREFACE], 0), Ok(()));
        flood
    }

    /// How many of these in a row are let through, up to a bound.
    fn let_through(flood: &mut Flood, frame: &[u8]) -> usize {
        (0..MANY).take_while(|_| flood.read(frame, 0).is_ok()).count()
    }

    #[test]
    fn frames_that_carry_nothing_run_out() {
        assert!((61_000..63_000).contains(&let_through(&mut begun(), &frame(PING, 0, 8))));
        assert!(let_through(&mut begun(), &frame(kind::DATA, 0, 0)) < MANY);
    }

    #[test]
    fn resets_run_out_whatever_comes_with_them() {
        let reset = frame(kind::RST_STREAM, 0, 4);
        let opened = [frame(kind::HEADERS, 0, 20), frame(kind::DATA, 0, 16 * 1024)].concat();
        let closed = [frame(kind::DATA, 0, 0), frame(WINDOW_UPDATE, 0, 4)].concat();
        for with in [Vec::new(), opened, closed] {
            let mut flood = begun();
            flood.wrote(1 << 30);
            assert!((512..600).contains(&let_through(&mut flood, &[&with[..], &reset].concat())));
        }
    }

    #[test]
    fn each_answer_earns_a_reset_and_none_for_later() {
        let reset = frame(kind::RST_STREAM, 0, 4);
        let mut flood = begun();
        assert!((1..=10_000).all(|answers| flood.read(&reset, answers).is_ok()));
        // Those that were answered and never reset leave no more than a burst.
        let (mut flood, reset) = (begun(), &reset);
        let resets = (0..MANY).take_while(|_| flood.read(reset, 1_000_000).is_ok());
        assert!((512..600).contains(&resets.count()));
    }

    #[test]
    fn frames_that_carry_something_never_do() {
        assert_eq!(let_through(&mut begun(), &frame(kind::DATA, 0, 1)), MANY);
        assert_eq!(let_through(&mut begun(), &frame(kind::DATA, END_STREAM, 0)), MANY);
        assert_eq!(let_through(&mut begun(), &frame(kind::HEADERS, 0, 20)), MANY);
    }

    #[test]
    fn what_goes_to_the_client_earns_its_window_updates_but_not_its_pings() {
        let mut flood = begun();
        for _ in 0..1_000_000 {
            flood.wrote(16 * 1024);
            assert_eq!(flood.read(&frame(WINDOW_UPDATE, 0, 4), 0), Ok(()));
        }
        let answered = |flood: &mut Flood| {
            flood.wrote(17);
            flood.read(&frame(PING, 0, 8), 0).is_ok()
        };
        assert!((0..200_000).any(|_| !answered(&mut flood)));
    }

    #[test]
    fn time_refills_it_to_its_capacity_and_no_further() {
        let mut flood = begun();
        let_through(&mut flood, &frame(PING, 0, 8));
        flood.refill(flood.refilled + Duration::from_secs(1));
        assert!((PER_SECOND..PER_SECOND + 17).contains(&flood.left));
        flood.refill(flood.refilled + Duration::from_secs(3600));
        assert_eq!(flood.left, CAPACITY);
        flood.resets = 0;
        (0..1000).for_each(|_| flood.refill(flood.refilled + Duration::from_millis(1)));
        assert_eq!(flood.resets, RESETS_PER_SECOND * RESET);
        flood.refill(flood.refilled + Duration::from_secs(3600));
        assert_eq!(flood.resets, RESETS * RESET);
    }

    proptest::proptest! {
        #[test]
        fn frames_are_read_alike_however_they_are_cut(
            frames in proptest::collection::vec((0u8..12, 0u8..2, 0usize..300), 0..40),
            cuts in proptest::collection::vec(1usize..200, 1..20),
        ) {
            let mut bytes = vec![0; PREFACE];
            bytes.extend(frames.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)));
            let now = Instant::now();
            let (mut whole, mut cut) = (Flood::new(now), Flood::new(now));
            proptest::prop_assert_eq!(whole.read(&bytes, 0), Ok(()));
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (part, later) = rest.split_at(rest.len().min(*cuts.next().unwrap_or(&1)));
                proptest::prop_assert_eq!(cut.read(part, 0), Ok(()));
                rest = later;
            }
            proptest::prop_assert_eq!(
                (whole.left, whole.resets, whole.skip, whole.filled),
                (cut.left, cut.resets, cut.skip, cut.filled)
            );
            proptest::prop_assert_eq!((whole.skip, whole.filled), (0, 0));
        }
    }
}

//! The readings of a path against those of simple apps, each of which takes some of the known steps and leaves the others.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern::policy::path::{Readings, is_plain};

/// Every escape that is one, once; and bytes that are no UTF-8 as the replacement character.
fn decode(path: &str) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut decoded, mut at) = (path.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        match (bytes[at], hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap());
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// RFC 3986 section 5.2.4, as it stands there.
fn remove_dot_segments(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if input.starts_with("/./") || input.starts_with("/../") {
            if input.starts_with("/../") {
                output.truncate(output.rfind('/').unwrap_or(0));
            }
            input = input[input[1..].find('/').unwrap() + 1..].to_owned();
        } else if input == "/." || input == "/.." {
            if input == "/.." {
                output.truncate(output.rfind('/').unwrap_or(0));
            }
            input = "/".to_owned();
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output.push_str(&input[..end]);
            input = input[end..].to_owned();
        }
    }
    output
}

fn drop_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap());
    segments.collect::<Vec<_>>().join("/")
}

fn merge_slashes(path: &str) -> String {
    let mut merged = path.to_owned();
    while merged.contains("//") {
        merged = merged.replace("//", "/");
    }
    merged
}

fuzz_target!(|input: &[u8]| {
    let Ok(path) = std::str::from_utf8(input) else { return };
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return;
    }
    let readings = Readings::of(path);
    let segments = readings.usual().split('/');
    assert!(segments.clone().all(|segment| segment != "." && segment != ".."));
    assert!(readings.any(|reading| reading == readings.usual()));
    assert!(readings.any(|reading| reading == readings.merged()));
    assert!(!readings.all(|reading| reading != readings.usual()));
    if is_plain(path) {
        assert!(readings.all(|reading| reading == path) && !readings.is_ambiguous());
    }
    // Who knows of parameters or merges slashes resolves dot segments as well.
    for steps in (0_u8..16).map(|steps| steps | 16).chain([0]) {
        let step = |bit: u8| steps & (1 << bit) != 0;
        let mut reading = path.to_owned();
        for (taken, apply) in [
            (step(0), drop_parameters as fn(&str) -> String),
            (true, decode),
            (step(1), |path| path.replace('\\', "/")),
            (step(2), drop_parameters),
            (step(3), merge_slashes),
            (step(4), remove_dot_segments),
        ] {
            if taken {
                reading = apply(&reading);
            }
        }
        let found = readings.any(|own| own == reading);
        assert!(
            found || readings.is_ambiguous(),
            "{path:?} as {reading:?} by {steps:05b}: {readings:?}"
        );
    }
});

//! The Dockerfile, as far as it can be tried without pulling what it builds on: what it copies is enough to build the binary,
//! and what it says of the binary is what the binary does. tests/cluster runs that binary as its last stage has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use postern::config::Flags;

const CARGO_TOML: &str = include_str!("../../Cargo.toml");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The arguments of each instruction of this name, continued lines joined.
fn instructions(name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("Dockerfile"))
        .unwrap()
        .replace("\\\n", " ");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(name));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

#[test]
fn what_is_copied_suffices_to_build_the_binary() {
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    // Always the same folder: a new one would be compiled into files of its own.
    let context = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    let _ = fs::remove_dir_all(&context);
    fs::create_dir(&context).unwrap();
    let mut copied = 0;
    for arguments in instructions("COPY") {
        // What an earlier stage has built.
        if arguments[0].starts_with("--from=") {
            continue;
        }
        let (to, sources) = arguments.split_last().unwrap();
        for source in sources {
            let kept = ignored.lines().any(|line| line.strip_prefix('!') == Some(source));
            assert!(kept, "{source} is ignored");
            let to = if to.ends_with('/') {
                Path::new(to).join(source)
            } else {
                PathBuf::from(to)
            };
            copy(&root().join(source), &context.join(to));
            copied += 1;
        }
    }
    assert!(copied > 2, "{copied}");
    let run = instructions("RUN").concat();
    let build = run
        .iter()
        .skip_while(|word| *word != "cargo")
        .take_while(|word| *word != "&&");
    let build: Vec<_> = build.map(String::as_str).collect();
    assert_eq!(
        build,
        ["cargo", "build", "--profile", "dist", "--locked", "--bin", "postern"]
    );
    assert!(run.iter().any(|word| word == "target/dist/postern"), "{run:?}");
    // What the lints have compiled is taken as it is; of the binary, that it would build.
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--locked", "--bin", "postern"])
        .current_dir(&context)
        .env(
            "CARGO_TARGET_DIR",
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap(),
        )
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_said_of_the_binary_is_so() {
    let minor = CARGO_TOML
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap();
    let bases = instructions("FROM");
    assert!(
        bases[0][0].starts_with(&format!("rust:{}.", minor.trim_matches('"'))),
        "{bases:?}"
    );
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = "));
    assert!(
        bases[0][0].starts_with(&format!("rust:{}-", channel.unwrap().trim_matches('"'))),
        "{bases:?} and {toolchain}"
    );
    // The same C library in both.
    assert!(
        bases[0][0].ends_with("-bookworm") && bases[1][0].contains("-debian12:"),
        "{bases:?}"
    );
    let defaults = Flags::default();
    let ports = [defaults.http_address, defaults.https_address, defaults.admin_address]
        .map(|address| address.port().to_string());
    assert_eq!(instructions("EXPOSE").concat(), ports);
    assert_eq!(instructions("USER").concat(), ["65532:65532"]);
    assert_eq!(instructions("ENTRYPOINT").concat(), ["[\"/postern\"]"]);
}

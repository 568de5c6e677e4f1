//! The floors of the source: a part names lower floors alone, the data plane reaches no type of the API by any detour, and
//! inside a part files do not import each other in rings. Imports are resolved: through re-exports, groups and aliases.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use imports::{Source, Uses};

/// From the ground up. A part is a folder or a file of src.
const FLOORS: [&[&str]; 12] = [
    &[
        "api",
        "condition",
        "fields",
        "hostname",
        "net",
        "object",
        "reason",
        "text",
    ],
    &["body", "matching", "runtime", "store", "tls"],
    &["egress", "limits", "saved_state", "upstream", "watch"],
    &["policy", "telemetry", "websocket"],
    &["snapshot"],
    &["config", "live"],
    &["compile", "proxy"],
    &["metrics", "status"],
    &["acme", "admin"],
    &["publish"],
    &["app"],
    &["cli"],
];

/// What serves traffic, and may reach none of what configures it.
const DATA_PLANE: [&str; 15] = [
    "body",
    "egress",
    "fields",
    "limits",
    "live",
    "matching",
    "net",
    "policy",
    "proxy",
    "runtime",
    "snapshot",
    "telemetry",
    "tls",
    "upstream",
    "websocket",
];
const CONTROL_PLANE: [&str; 9] = [
    "api",
    "compile",
    "config",
    "kube",
    "k8s_openapi",
    "saved_state",
    "status",
    "store",
    "watch",
];

/// Crates, and the parts that may name them.
const CRATES: [(&[&str], &[&str], &str); 2] = [
    (
        &["kube", "k8s_openapi"],
        &["acme", "api", "app", "cli", "compile", "status", "watch"],
        "only these hold a client or a type of the apiserver",
    ),
    (
        &["anyhow"],
        &["app", "cli"],
        "parts have errors of their own; anyhow is for app, cli and main",
    ),
];

/// What a pure function has no use for.
const IMPURE: [&str; 7] = [
    "Instant",
    "SystemTime",
    "kube",
    "std::env",
    "std::fs",
    "std::thread",
    "tokio",
];

/// Rings of more than two files, each with the idea that its files share.
const RINGS: [(&[&str], &str); 1] = [(
    &["upstream/endpoint.rs", "upstream/h1/pool.rs", "upstream/h2/shared.rs"],
    "an endpoint owns its connections, of which each is driven by a task that points back at it",
)];

/// Folders that could be crates: the parts of ours that they may name. From outside they are named by their mod.rs alone.
const DOORS: [(&str, &[&str], &str); 1] = [(
    "policy/openapi",
    &["fields"],
    "the validator is large, and has an interface of its own",
)];

fn tree() -> BTreeMap<PathBuf, String> {
    imports::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn a_part_names_lower_floors_alone() {
    assert_eq!(upward(&Source::new(tree())), BTreeSet::new());
}

#[test]
fn every_part_stands_on_one_floor() {
    let listed: Vec<_> = FLOORS.iter().flat_map(|floor| floor.iter().copied()).collect();
    let parts: BTreeSet<_> = Source::new(tree()).parts();
    assert_eq!(listed.len(), parts.len(), "a part is listed twice, or not at all");
    assert_eq!(listed.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), parts);
}

#[test]
fn the_data_plane_reaches_nothing_that_configures_it() {
    assert_eq!(detours(&Source::new(tree())), BTreeSet::new());
}

/// compile sees Intents: only the readers of a kind know its type.
#[test]
fn kinds_are_known_to_their_readers() {
    let source = Source::new(tree());
    let strangers: BTreeSet<_> = source
        .edges()
        .into_iter()
        .filter(|(from, to)| is_stranger(from, to))
        .collect();
    assert_eq!(strangers, BTreeSet::new());
    let mut files = tree();
    let text = files.get_mut(Path::new("compile/route.rs")).unwrap();
    text.push_str("\nuse crate::api::deployment::DeploymentSpec;\n");
    let edges = Source::new(files).edges();
    assert!(edges.iter().any(|(from, to)| is_stranger(from, to)));
}

fn is_stranger(from: &Path, to: &Path) -> bool {
    let reader = match to.starts_with("api/policy") {
        true => "compile/policy",
        false => "compile/source",
    };
    from.starts_with("compile") && to.starts_with("api") && !from.starts_with(reader)
}

#[test]
fn crates_are_named_where_they_belong() {
    let source = Source::new(tree());
    let mut violations = BTreeSet::new();
    for (names, parts, because) in CRATES {
        for (file, uses) in source.files() {
            let part = imports::part(file);
            if parts.contains(&part.as_str()) || part == "main" {
                continue;
            }
            violations.extend(
                names
                    .iter()
                    .filter(|name| uses.names(name))
                    .map(|name| format!("{} names {name}: {because}", file.display())),
            );
        }
    }
    for (file, uses) in source.files().filter(|(file, _)| imports::part(file) == "compile") {
        violations.extend(
            IMPURE
                .iter()
                .filter(|name| uses.names(name))
                .map(|name| format!("{} names {name}: compile is pure", file.display())),
        );
    }
    assert_eq!(violations, BTreeSet::new());
}

#[test]
fn inside_a_part_no_three_files_import_each_other_in_a_ring() {
    let rings = Source::new(tree()).rings();
    let known: BTreeSet<Vec<String>> = RINGS
        .iter()
        .map(|(files, _why)| files.iter().map(|file| (*file).to_owned()).collect())
        .collect();
    let found: BTreeSet<_> = rings.into_iter().filter(|ring| ring.len() > 2).collect();
    assert_eq!(found, known);
}

#[test]
fn what_could_be_a_crate_has_one_door() {
    assert_eq!(past_doors(&Source::new(tree())), BTreeSet::new());
}

#[test]
fn the_picture_in_architecture_md_is_this_table() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let (_, rest) = page
        .split_once("<!-- floors -->\n")
        .expect("the marker <!-- floors -->");
    let (picture, _) = rest
        .split_once("<!-- /floors -->")
        .expect("the marker <!-- /floors -->");
    assert_eq!(picture, drawn());
}

fn drawn() -> String {
    let mut picture = "```text\n".to_owned();
    for (index, floor) in FLOORS.iter().enumerate().rev() {
        writeln!(picture, "{:>2}  {}", index + 1, floor.join("  ")).unwrap();
    }
    picture + "```\n"
}

#[test]
fn planted_imports_are_found() {
    let planted = |file: &str, line: &str| {
        let mut files = tree();
        let text = files.get_mut(Path::new(file)).unwrap();
        *text = format!("{line}\n{text}");
        Source::new(files)
    };
    // Upwards, sideways, in a group, relative, through an alias, and without a `use`.
    for (file, line) in [
        ("net/stream.rs", "use crate::proxy::client::Client;"),
        ("policy/engine.rs", "use crate::{snapshot::Snapshot};"),
        ("policy/engine.rs", "use super::super::websocket::tunnel::Tunnel;"),
        ("upstream/dial.rs", "use crate::egress as way; type T = way::Egress;"),
        ("live/mod.rs", "fn planted() { crate::compile::compile(); }"),
    ] {
        assert_eq!(upward(&planted(file, line)).len(), 1, "{file}: {line}");
    }
    // Past a door: inwards by a deep path, relative, and through an alias; outwards to a part, and to a neighbour.
    for (file, line) in [
        ("compile/mod.rs", "use crate::policy::openapi::document::Document;"),
        ("policy/effort.rs", "use super::openapi::{violation::Violation, Parts};"),
        ("policy/effort.rs", "fn planted() { openapi::json::read(); }"),
        ("policy/openapi/schema.rs", "use crate::text::cut;"),
        ("policy/openapi/mod.rs", "use super::matcher::Matcher;"),
    ] {
        assert_eq!(past_doors(&planted(file, line)).len(), 1, "{file}: {line}");
    }
    // A detour: compile re-exports a type of the API, and a part that may name compile hands it to the data plane.
    let mut files = tree();
    let text = files.get_mut(Path::new("net/mod.rs")).unwrap();
    text.push_str("\npub use crate::api::duration::Duration;\n");
    let text = files.get_mut(Path::new("proxy/client.rs")).unwrap();
    text.push_str("\nuse crate::net::Duration;\n");
    let found = detours(&Source::new(files));
    assert!(
        found.iter().any(|line| line.starts_with("proxy reaches api")),
        "{found:?}"
    );
    // Three files in a ring, one of whose steps is a re-export.
    let file = |text: &str| text.to_owned();
    let ring = Source::new(BTreeMap::from([
        (PathBuf::from("lib.rs"), file("pub mod a;")),
        (
            PathBuf::from("a/mod.rs"),
            file("pub mod x; pub mod y; pub mod z; pub use z::Z;"),
        ),
        (PathBuf::from("a/x.rs"), file("use super::y::Y; pub struct X;")),
        (PathBuf::from("a/y.rs"), file("use super::Z; pub struct Y;")),
        (PathBuf::from("a/z.rs"), file("use crate::a::x::X; pub struct Z;")),
    ]));
    assert_eq!(
        ring.rings(),
        [["a/x.rs", "a/y.rs", "a/z.rs"].map(str::to_owned).to_vec()]
    );
}

#[test]
fn comments_and_strings_name_nothing() {
    let uses = Uses::of("// kube\nlet url = \"http://kube\"; /* anyhow */ let kubelet = 1;");
    assert!(!uses.names("kube") && !uses.names("anyhow"));
    assert!(Uses::of("use kube :: Client;").names("kube"));
    assert!(Uses::of("use std::{fs, io};").names("std::fs"));
}

fn floor(part: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&part))
}

/// Every import of a part on the same floor or a higher one.
fn upward(source: &Source) -> BTreeSet<String> {
    let edges = source.edges();
    let edges = edges
        .iter()
        .filter(|(from, to)| imports::part(from) != imports::part(to));
    edges
        .filter(|(from, to)| floor(&imports::part(from)) <= floor(&imports::part(to)))
        .map(|(from, to)| format!("{} names {}", from.display(), to.display()))
        .collect()
}

/// Every import past a door, inwards or outwards.
fn past_doors(source: &Source) -> BTreeSet<String> {
    let mut past = BTreeSet::new();
    for (folder, parts, because) in DOORS {
        let door = Path::new(folder).join("mod.rs");
        for (from, to) in source.named() {
            let allowed = match (from.starts_with(folder), to.starts_with(folder)) {
                (true, false) => parts.contains(&imports::part(&to).as_str()),
                (false, true) => to == door,
                _ => true,
            };
            if !allowed {
                past.insert(format!("{} names {}: {because}", from.display(), to.display()));
            }
        }
    }
    past
}

/// What of the control plane the data plane's parts reach over any number of imports.
fn detours(source: &Source) -> BTreeSet<String> {
    let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in source.edges() {
        direct
            .entry(imports::part(&from))
            .or_default()
            .insert(imports::part(&to));
    }
    let mut found = BTreeSet::new();
    for part in DATA_PLANE {
        let mut reached = BTreeSet::new();
        let mut next = vec![part.to_owned()];
        while let Some(part) = next.pop() {
            if reached.insert(part.clone()) {
                next.extend(direct.get(&part).into_iter().flatten().cloned());
            }
        }
        let forbidden = CONTROL_PLANE.iter().filter(|name| reached.contains(**name));
        found.extend(forbidden.map(|name| format!("{part} reaches {name}")));
    }
    found
}

//! Manifests from disk through the same store and compile as in a cluster, once. Watching a folder is `watch`'s.

#![allow(rustdoc::invalid_html_tags, reason = "--help prints these comments as they are")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use crate::compile::source::SOURCES;
use crate::compile::{self, Input, Previous};
use crate::config::{self, Routing};
use crate::live::state::State;
use crate::object::ObjectId;
use crate::snapshot::Snapshot;
use crate::store::{Batch, Event, Store};
use crate::watch::files;

/// The settings that decide what is served; the same as those of `run`.
#[derive(clap::Args, Debug)]
pub struct Flags {
    /// Settings file of the Postern that would serve the manifests: hostnameGrants, apexDomain, ...
    #[arg(long, env = "POSTERN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Serve only the Deployments with this className
    #[arg(long, env = "POSTERN_CLASS", value_name = "NAME", default_value_t = config::Flags::default().class)]
    class: String,

    /// Assign each Deployment the hostname <name>-<namespace>.DOMAIN [default: none]
    #[arg(long, env = "POSTERN_APEX_DOMAIN", value_name = "DOMAIN")]
    apex_domain: Option<String>,
}

/// What the manifests say and what comes of it.
pub struct World {
    /// What Postern would serve.
    pub snapshot: Snapshot,
    /// What came of it, object by object: one of another class has no report.
    pub compiled: Previous,
    /// Those that ask for routes, sorted by kind and key.
    pub objects: Vec<ObjectId>,
    /// Documents that are no object, and objects that stand twice.
    pub problems: Vec<String>,
}

impl Flags {
    /// The settings that compile reads. Fails if the settings file cannot be read, or if a flag or key means nothing.
    pub fn routing(&self) -> anyhow::Result<Routing> {
        let flags = config::Flags {
            class: self.class.clone(),
            apex_domain: self.apex_domain.clone(),
            ..config::Flags::default()
        };
        let settings = config::load(&config::Args {
            config: self.config.clone(),
            flags,
        })?;
        let mut routing = settings.routing;
        // Files may name the loopback addresses of this machine, as `run --manifests` lets them.
        routing.endpoints.refuse_local = false;
        // Whether there is a store is not told by manifests.
        routing.shared_store = true;
        Ok(routing)
    }
}

impl World {
    /// Compiles files, and the manifests in folders at any depth. Fails if a file or folder cannot be read; what is
    /// wrong in one is among the problems.
    pub fn compile(paths: &[PathBuf], routing: &Routing) -> anyhow::Result<Self> {
        let mut problems = Vec::new();
        let mut objects = Vec::new();
        let mut origins: BTreeMap<_, String> = BTreeMap::new();
        for file in manifests(paths)? {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
            for parsed in files::parse(&text) {
                match parsed {
                    Err(undecodable) => problems.push(format!("{name}: {undecodable}")),
                    Ok(object) => match origins.get(&object.id()) {
                        Some(first) => {
                            let id = object.id();
                            problems.push(format!("{name}: {id} is already defined in {first}, which is used"));
                        }
                        None => {
                            origins.insert(object.id(), name.clone());
                            objects.push(Event::Apply(object));
                        }
                    },
                }
            }
        }
        let mut store = Store::default();
        store.apply(Batch {
            events: objects,
            seen: Instant::now(),
        });
        let changes = store.take_changes();
        let input = Input {
            store: &store,
            changes: &changes,
            listener: &Arc::default(),
        };
        let compiled = compile::compile(&input, routing, Previous::default());
        // `why` asks some rules for their decision.
        for policy in &compiled.fresh.policies {
            State::default().pair_rules_offline(policy);
        }
        problems.extend(compiled.default_problems.into_iter().flatten());
        let objects = SOURCES.iter().flat_map(|source| {
            let keys = store.keys(source.kind).into_iter();
            keys.map(|key| ObjectId::new(source.kind, key))
        });
        Ok(Self {
            snapshot: compiled.snapshot,
            compiled: compiled.previous,
            objects: objects.collect(),
            problems,
        })
    }
}

/// Files as they are named; of folders all manifests at any depth, sorted, hidden ones passed over.
fn manifests(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            collect(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let unreadable = || format!("cannot read the folder {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(unreadable)?;
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>().with_context(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let manifest = path
            .extension()
            .is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known));
        // By the entry's own type: a link to a folder could lead round in a circle.
        if hidden {
            continue;
        } else if entry.file_type().with_context(unreadable)?.is_dir() {
            collect(&path, files)?;
        } else if manifest {
            files.push(path);
        }
    }
    Ok(())
}

//! Where objects come from, once it has turned out to be usable, and what was saved of it.

use std::path::Path;

use anyhow::Context;
use kube::Client;
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::config::{Settings, Source};
use crate::saved_state::{SavedState, StateFile};
use crate::store::Object;
use crate::tls::Fingerprint;
use crate::watch::cluster::{self, Apiserver};
use crate::watch::folder::Folder;

pub enum Opened {
    Folder(Box<Folder>),
    Cluster { client: Client, state: Option<Saved> },
}

/// Where the state is saved, and what was saved there before.
pub struct Saved {
    pub file: StateFile,
    pub saved: Option<SavedState<Object>>,
}

impl Opened {
    pub async fn of(settings: &Settings) -> anyhow::Result<Self> {
        match &settings.source {
            Source::Manifests { folder, lenient } => Ok(Self::Folder(Folder::open(folder, *lenient).await?.into())),
            Source::Cluster { kubeconfig, state_dir } => {
                let Apiserver { client, identity } = cluster::connect(kubeconfig.as_deref()).await?;
                let state = match state_dir {
                    Some(folder) => Some(Saved::of(folder, identity, settings).await?),
                    None => None,
                };
                Ok(Self::Cluster { client, state })
            }
        }
    }

    /// None: no state is saved, or it was taken.
    pub fn take_state(&mut self) -> Option<Saved> {
        match self {
            Self::Cluster { state, .. } => state.take(),
            Self::Folder(_) => None,
        }
    }
}

impl Saved {
    /// A file that is no good is told of and passed over: without it, Postern waits for the apiserver.
    async fn of(folder: &Path, apiserver: Fingerprint, settings: &Settings) -> anyhow::Result<Self> {
        let file = StateFile::new(folder, installation(apiserver, settings));
        let reader = file.clone();
        let read = spawn_blocking(move || reader.read()).await;
        let saved = read.context("the reader of the saved state has failed")?;
        let saved = saved.unwrap_or_else(|why| {
            warn!(file = %file.path().display(), %why, "the saved state is ignored");
            None
        });
        Ok(Self { file, saved })
    }
}

/// Whom the state is of, and what of it is watched.
fn installation(apiserver: Fingerprint, settings: &Settings) -> Fingerprint {
    let mut namespaces = settings.watch_namespaces.clone();
    namespaces.sort();
    namespaces.dedup();
    let own = [&apiserver.0[..], settings.routing.class.as_bytes()];
    Fingerprint::of(own.into_iter().chain(namespaces.iter().map(String::as_bytes)))
}

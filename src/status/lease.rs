//! Who leads: one coordination.k8s.io/v1 Lease per class, held by renewing it. The rules are those of Kubernetes' own
//! components: a lease counts as abandoned when it has not changed for its duration, as seen by one's own clock from
//! when one saw it, never by anybody's timestamps; and a leader that cannot renew resigns before others may take over.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// One who would lead.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    /// The lease as it was seen last, and since when it has been so.
    seen: Option<(Lease, Instant)>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer in time")]
    Timeout,
}

/// A name for the holder that nobody else has, not even an earlier run of the same pod.
#[allow(clippy::disallowed_methods, reason = "who we are is no setting")]
pub fn identity() -> String {
    #[expect(clippy::disallowed_methods, reason = "who we are is the pod's to say, not a setting")]
    let pod = ["POD_NAME", "HOSTNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    format!(
        "{}_{}",
        pod.as_deref().unwrap_or("postern"),
        uuid::Uuid::now_v7().simple()
    )
}

impl Candidate {
    /// `identity` names this process among the candidates.
    pub fn new(client: Client, namespace: &str, class: &str, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: format!("postern-{class}"),
            identity,
            seen: None,
        }
    }

    /// Runs for office until stopped, and says in `leading` who won. When it returns the lease is free for others.
    pub async fn campaign(mut self, leading: watch::Sender<bool>, stop: CancellationToken) {
        // Since when, at the earliest, the lease is ours: the moment before it was asked for.
        let mut renewed: Option<Instant> = None;
        while !stop.is_cancelled() {
            let asked = Instant::now();
            let deadline = renewed.map_or(asked + RENEW_DEADLINE, |renewed| renewed + RENEW_DEADLINE);
            let held = tokio::select! {
                held = timeout_at(deadline.min(asked + CALL), self.attempt()) => held.unwrap_or(Err(Failure::Timeout)),
                () = stop.cancelled() => break,
            };
            match held {
                Ok(true) => {
                    renewed = Some(asked);
                    if tell(&leading, true) {
                        info!(lease = self.name, identity = self.identity, "leading");
                    }
                }
                Ok(false) => renewed = None,
                Err(error) => warn!(lease = self.name, %error, "cannot acquire or renew the lease: trying again"),
            }
            let now = Instant::now();
            let resign = renewed.map(|renewed| renewed + RENEW_DEADLINE);
            if resign.is_none_or(|resign| now >= resign) {
                renewed = None;
                if tell(&leading, false) {
                    warn!(lease = self.name, "no longer leading");
                }
            }
            let next = now + RETRY;
            tokio::select! {
                () = sleep_until(resign.filter(|resign| *resign > now).map_or(next, |resign| resign.min(next))) => {}
                () = stop.cancelled() => {}
            }
        }
        tell(&leading, false);
        match timeout(CALL, self.release()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => info!(lease = self.name, "lease released"),
            Ok(Err(error)) => warn!(lease = self.name, %error, "cannot release the lease: it will expire"),
            Err(_) => warn!(lease = self.name, "cannot release the lease in time: it will expire"),
        }
    }

    /// Takes the lease if it is free or abandoned, renews it if it is ours; whether it is ours now.
    async fn attempt(&mut self) -> Result<bool, Failure> {
        let Some(found) = self.leases.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(&LeaseSpec::default())),
            };
            let created = self.leases.create(&PostParams::default(), &lease).await?;
            self.see(created);
            return Ok(true);
        };
        let since = self.see(found.clone());
        let spec = found.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let duration = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(0));
        if !holder.is_empty() && holder != self.identity && Instant::now() < since + duration {
            return Ok(false);
        }
        // The resourceVersion that was read goes along: if somebody else was faster, this fails.
        let lease = Lease {
            spec: Some(self.spec(&spec)),
            ..found
        };
        let replaced = self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        self.see(replaced);
        Ok(true)
    }

    /// Whether there was anything to release. The attempt that was broken off may have taken effect, so we look.
    async fn release(&self) -> Result<bool, kube::Error> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            return Ok(false);
        };
        let spec = lease.spec.unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(false);
        }
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            ..spec
        };
        let lease = Lease {
            spec: Some(spec),
            ..lease
        };
        self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        Ok(true)
    }

    /// Since when the lease has been as it is.
    fn see(&mut self, lease: Lease) -> Instant {
        match &self.seen {
            Some((seen, since)) if seen.metadata.resource_version == lease.metadata.resource_version => *since,
            _ => {
                let now = Instant::now();
                self.seen = Some((lease, now));
                now
            }
        }
    }

    /// The lease as ours, after what it was before.
    fn spec(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let kept = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LEASE.as_secs() as i32),
            acquire_time: if kept { before.acquire_time.clone() } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(if kept || before.holder_identity.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        }
    }
}

/// Whether this is news: receivers are woken by news only.
fn tell(leading: &watch::Sender<bool>, now: bool) -> bool {
    leading.send_if_modified(|leads| std::mem::replace(leads, now) != now)
}

const LEASE: Duration = Duration::from_secs(15);
/// Less than LEASE by more than a write takes that was on its way when the deadline passed.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;

//! Whether traffic should come here: what /readyz says, and what others wait for.

use std::fmt;

use tokio::sync::watch;

/// How far the process is on its way from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No full compile yet; what it still waits for.
    Starting { pending: Vec<String> },
    /// A snapshot of everything is in force, and traffic may come.
    Ready,
    /// Shutting down: still serving, but not to be sent anything new.
    Draining,
}

/// Goes from starting to ready to draining, never back.
#[derive(Debug)]
pub struct Readiness(watch::Sender<Phase>);

impl Readiness {
    /// The phase now; it may be another a moment later.
    pub fn phase(&self) -> Phase {
        self.0.borrow().clone()
    }

    /// What start-up waits for; no effect afterwards.
    pub fn pending(&self, pending: Vec<String>) {
        self.advance(
            |phase| matches!(phase, Phase::Starting { .. }),
            Phase::Starting { pending },
        );
    }

    /// Ends the start; no effect while draining.
    pub fn ready(&self) {
        self.advance(|phase| matches!(phase, Phase::Starting { .. }), Phase::Ready);
    }

    /// Begins to drain, whatever the phase was.
    pub fn drain(&self) {
        self.advance(|_| true, Phase::Draining);
    }

    /// Resolves once the start is over.
    pub async fn started(&self) {
        // The sender is ours: it is not closed while we are borrowed.
        let _ = self
            .0
            .subscribe()
            .wait_for(|phase| !matches!(phase, Phase::Starting { .. }))
            .await;
    }

    fn advance(&self, from: impl Fn(&Phase) -> bool, to: Phase) {
        self.0.send_if_modified(|phase| {
            let changes = from(phase) && *phase != to;
            if changes {
                *phase = to;
            }
            changes
        });
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting { pending: Vec::new() }))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting { pending } if pending.is_empty() => f.write_str("starting"),
            Self::Starting { pending } => write!(f, "starting: waiting for {}", pending.join(", ")),
            Self::Ready => f.write_str("ready"),
            Self::Draining => f.write_str("draining: shutting down"),
        }
    }
}

//! The permit that an upgrade in flight holds, around the dial and the app's answer. It is for memory: a handshake costs ten
//! times what its socket does, and a storm that comes all at once would leave that behind. An app that answers at once needs
//! few at a time; for one that is slow nobody waits long: handshakes that have stood in line for a moment go ahead, as long as
//! all together have room.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::live::state::State;
use crate::object::ObjectId;
use crate::runtime::shares::{Share, Shares};
use crate::snapshot::Deployment;

/// One among a Deployment's handshakes in flight.
#[derive(Debug)]
pub struct UpgradePermit {
    deployment: ObjectId,
    _place: Place,
}

#[derive(Debug)]
enum Place {
    InLine { _permit: OwnedSemaphorePermit },
    Beside { _share: Share<Arc<str>> },
}

/// After this time in line a handshake goes ahead, if there is room.
const PATIENCE: Duration = Duration::from_millis(250);
/// After this time in line it is refused.
const MAX_WAIT: Duration = Duration::from_secs(10);

impl UpgradePermit {
    /// Waits for a place. None: there was none in good time.
    pub async fn of(deployment: &Deployment, state: &State) -> Option<Self> {
        let (line, id) = (&deployment.runtime.get().upgrades, &deployment.id);
        let place = Place::take(line, &state.handshakes, id.namespace()).await?;
        Some(Self {
            deployment: id.clone(),
            _place: place,
        })
    }

    /// Whether it is of this Deployment: routes may have changed since the head was looked at.
    pub fn is_of(&self, deployment: &Deployment) -> bool {
        self.deployment == deployment.id
    }
}

impl Place {
    async fn take(line: &Arc<Semaphore>, beside: &Shares<Arc<str>>, namespace: &Arc<str>) -> Option<Self> {
        let mut permit = Box::pin(line.clone().acquire_owned());
        if let Ok(permit) = timeout(PATIENCE, &mut permit).await {
            return Some(Self::InLine { _permit: permit.ok()? });
        }
        if let Some(share) = beside.take(namespace.clone(), 1) {
            return Some(Self::Beside { _share: share });
        }
        let permit = timeout(MAX_WAIT, permit).await.ok()?;
        Some(Self::InLine { _permit: permit.ok()? })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, pause};

    use super::*;

    async fn taken(line: &Arc<Semaphore>, beside: &Shares<Arc<str>>, namespace: &str) -> (Option<Place>, Duration) {
        let start = Instant::now();
        let place = Place::take(line, beside, &namespace.into()).await;
        (place, start.elapsed())
    }

    #[tokio::test]
    async fn who_has_stood_in_line_for_a_moment_goes_ahead_while_there_is_room() {
        pause();
        let (line, beside) = (Arc::new(Semaphore::new(1)), Shares::new(9, 8));
        let first = taken(&line, &beside, "shop").await;
        assert!(matches!(first, (Some(Place::InLine { .. }), Duration::ZERO)));
        let mut slow = Vec::new();
        for _ in 0..8 {
            let (place, waited) = taken(&line, &beside, "shop").await;
            assert!(matches!(place, Some(Place::Beside { .. })) && waited >= PATIENCE && waited < 2 * PATIENCE);
            slow.push(place);
        }
        // There is no room for more of this namespace, but for another's.
        let (refused, waited) = taken(&line, &beside, "shop").await;
        assert!(refused.is_none() && waited >= MAX_WAIT && waited < 2 * MAX_WAIT);
        assert!(taken(&line, &beside, "other").await.0.is_some());
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_that_is_given_back() {
        pause();
        let (line, full) = (Arc::new(Semaphore::new(1)), Shares::new(0, 8));
        let first = taken(&line, &full, "shop").await;
        let given_back = async {
            tokio::time::sleep(2 * PATIENCE).await;
            drop(first);
        };
        let (waiting, ()) = tokio::join!(taken(&line, &full, "shop"), given_back);
        assert!(matches!(waiting.0, Some(Place::InLine { .. })) && waiting.1 < 3 * PATIENCE);
    }
}

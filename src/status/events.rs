//! Events about Deployments and SentinelPolicies, for `kubectl describe`: one when a condition changes its meaning. They are a courtesy: when
//! there are too many, or the apiserver does not take them, they are dropped; conditions tell the whole story.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, warn};

use super::conditions::Transition;
use crate::api::{GROUP, VERSION};
use crate::object::ObjectId;
use crate::text::cut;

/// One Event to be published.
pub struct Notice {
    pub id: ObjectId,
    pub uid: String,
    pub transition: Transition,
}

/// Where notices are left; it never waits.
pub struct Notices(Sender<Notice>);

impl Notices {
    /// The receiver is for `publish`.
    pub fn new() -> (Self, Receiver<Notice>) {
        let (sender, receiver) = channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Dropped if too many wait: an Event is not worth memory without bound.
    pub fn leave(&self, notice: Notice) {
        if let Err(dropped) = self.0.try_send(notice) {
            let notice = dropped.into_inner();
            debug!(object = %notice.id.key, reason = notice.transition.reason, "too many events, this one is dropped");
        }
    }
}

/// Publishes what is left, at most ten in a second, until nobody is there to leave any.
pub async fn publish(client: Client, instance: String, mut notices: Receiver<Notice>) {
    let reporter = Reporter {
        controller: CONTROLLER.to_owned(),
        instance: Some(cut(&instance, 128).into_owned()),
    };
    let recorder = Recorder::new(client, reporter);
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(Notice { id, uid, transition }) = notices.recv().await {
        let ObjectId { key, kind } = id;
        pace.tick().await;
        let about = ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(kind.to_string()),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: if transition.good {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason: transition.reason,
            // The apiserver takes 1 kB.
            note: Some(cut(&transition.message, 1000).into_owned()),
            action: transition.r#type,
            secondary: None,
        };
        match timeout(CALL, recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(object = %key, %error, "cannot publish an Event"),
            Err(_) => warn!(object = %key, "cannot publish an Event in time"),
        }
    }
}

const CONTROLLER: &str = "postern.dev/controller";
const QUEUE: usize = 1024;
/// The recorder remembers what it published for six minutes, so this bounds its memory too.
const PACE: Duration = Duration::from_millis(100);
const CALL: Duration = Duration::from_secs(5);

//! The kubelet's and the scheduler's part in a control plane without nodes: pods that are bound,
//! have an address and a status. From them the real endpointslice controller makes EndpointSlices.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Result};
use serde_json::{Value, json};

use super::control_plane::NODE;

/// The pods of one namespace.
pub struct Pods {
    api: Api<Pod>,
}

impl Pods {
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }

    /// Creates a pod that runs and is ready. The ports are named, for Services that name them.
    pub async fn create_ready(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        ip: &str,
        ports: &[(&str, u16)],
    ) -> Result<Pod> {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let ports: Vec<_> = ports
            .iter()
            .map(|(name, port)| json!({"name": name, "containerPort": port}))
            .collect();
        let pod = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "nodeName": NODE,
                "containers": [{"name": "app", "image": "app", "ports": ports}],
            },
        });
        let pod = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
        self.api.create(&PostParams::default(), &pod).await?;
        self.patch_status(
            name,
            json!({
                "phase": "Running",
                "podIP": ip,
                "podIPs": [{"ip": ip}],
                "conditions": [ready(true)],
            }),
        )
        .await
    }

    /// As a readiness probe would.
    pub async fn set_ready(&self, name: &str, is_ready: bool) -> Result<Pod> {
        self.patch_status(name, json!({"conditions": [ready(is_ready)]})).await
    }

    /// Begins the deletion of a pod, which stays, terminating, until [`Pods::delete_now`]: only a
    /// kubelet ends it when the grace period is over. It stays ready too, until told otherwise.
    pub async fn terminate(&self, name: &str, grace_seconds: u32) -> Result<()> {
        let params = DeleteParams::default().grace_period(grace_seconds);
        self.api.delete(name, &params).await?;
        Ok(())
    }

    /// Removes the pod, terminating or not.
    pub async fn delete_now(&self, name: &str) -> Result<()> {
        let params = DeleteParams::default().grace_period(0);
        self.api.delete(name, &params).await?;
        Ok(())
    }

    async fn patch_status(&self, name: &str, status: Value) -> Result<Pod> {
        // Strategic: conditions are merged by their type.
        let patch = Patch::Strategic(json!({"status": status}));
        self.api.patch_status(name, &PatchParams::default(), &patch).await
    }
}

fn ready(is_ready: bool) -> Value {
    json!({"type": "Ready", "status": if is_ready { "True" } else { "False" }})
}

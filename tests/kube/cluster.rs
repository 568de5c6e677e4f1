//! A namespace of the shared control plane with Postern's CRDs, and what the tests do in it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt};
use postern::api::deployment::Deployment;
use postern::api::policy::SentinelPolicy;
use serde_json::{Value, json};

use super::support::apps;
use super::support::control_plane::ControlPlane;
use super::support::netns;
use super::support::pods::Pods;
use super::support::postern::Postern;
use super::support::{eventually, within};

pub struct Cluster {
    pub client: Client,
    pub namespace: String,
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// A namespace of the test's own. To be called first in a test.
    pub async fn shared(name: &str) -> Self {
        if !netns::inside() {
            apps::install_all().await;
        }
        let control_plane = ControlPlane::shared().await.expect("a control plane");
        Self::of(control_plane, name).await
    }

    pub async fn of(control_plane: &ControlPlane, name: &str) -> Self {
        let client = control_plane.client().await.expect("a client");
        install_crds(&client).await;
        let namespace = control_plane.namespace(name).await.expect("a namespace");
        Self {
            client,
            namespace,
            kubeconfig: control_plane.kubeconfig(),
        }
    }

    /// A Postern that watches this namespace alone, ready.
    pub async fn postern(&self, flags: &[&str]) -> Postern {
        let postern = self.starting_postern(flags);
        postern.is_ready().await;
        postern
    }

    pub fn starting_postern(&self, flags: &[&str]) -> Postern {
        let mut all = vec![
            "--watch-namespaces",
            &self.namespace,
            "--lease-namespace",
            &self.namespace,
        ];
        all.extend(flags);
        Postern::in_cluster(&self.kubeconfig, &all)
    }

    pub fn pods(&self) -> Pods {
        Pods::new(self.client.clone(), &self.namespace)
    }

    pub fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A Service over the pods labelled `app: NAME`, at their port named http.
    pub async fn service(&self, name: &str) {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        });
        self.services()
            .patch(name, &applying(), &Patch::Apply(service))
            .await
            .expect("applies the Service");
    }

    /// A ready pod of that app.
    pub async fn pod(&self, app: &str, name: &str, address: SocketAddr) {
        let (ip, ports) = (address.ip().to_string(), [("http", address.port())]);
        self.pods()
            .create_ready(name, &[("app", app)], &ip, &ports)
            .await
            .expect("creates the pod");
    }

    /// Applies a Deployment; null takes a field away.
    pub async fn deployment(&self, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "postern.dev/v1alpha1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": spec,
        });
        let applied = self.deployments().patch(name, &applying(), &Patch::Apply(object)).await;
        applied.expect("applies the Deployment");
    }

    /// SentinelPolicies as they are written, also those that a newer Postern would understand.
    pub fn policies(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<SentinelPolicy>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    /// Applies a SentinelPolicy. Returns when the apiserver answered.
    pub async fn policy(&self, name: &str, spec: Value) -> Instant {
        let object = json!({
            "apiVersion": "postern.dev/v1alpha1",
            "kind": "SentinelPolicy",
            "metadata": {"name": name},
            "spec": spec,
        });
        let applied = self.policies().patch(name, &applying(), &Patch::Apply(object)).await;
        applied.expect("applies the SentinelPolicy");
        Instant::now()
    }

    pub async fn delete_policy(&self, name: &str) {
        let deleted = self.policies().delete(name, &DeleteParams::default()).await;
        deleted.expect("deletes the SentinelPolicy");
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies a Secret for this purpose, if any. Returns when the apiserver answered.
    pub async fn secret(&self, name: &str, purpose: Option<&str>, data: Value) -> Instant {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": labelled(purpose)},
            "stringData": data,
        });
        let applied = self.secrets().patch(name, &applying(), &Patch::Apply(object)).await;
        applied.expect("applies the Secret");
        Instant::now()
    }

    /// Returns when the apiserver answered.
    pub async fn delete_secret(&self, name: &str) -> Instant {
        let deleted = self.secrets().delete(name, &DeleteParams::default()).await;
        deleted.expect("deletes the Secret");
        Instant::now()
    }

    pub async fn delete_deployment(&self, name: &str) {
        self.deployments()
            .delete(name, &DeleteParams::default())
            .await
            .expect("deletes the Deployment");
    }
}

fn labelled(purpose: Option<&str>) -> Value {
    purpose.map_or_else(|| json!({}), |purpose| json!({"postern.dev/use": purpose}))
}

pub fn applying() -> PatchParams {
    PatchParams::apply("test").force()
}

/// Idempotent, and returns when the apiserver serves the kind.
pub async fn install_crds(client: &Client) {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in postern::api::crds() {
        let name = crd.name_any();
        api.patch(&name, &applying(), &Patch::Apply(&crd))
            .await
            .expect("applies the CRD");
        let established = kube::runtime::wait::conditions::is_crd_established();
        let wait = kube::runtime::wait::await_condition(api.clone(), &name, established);
        within("the CRD is established", wait).await.expect("watches the CRD");
    }
    let deployments = Api::<Deployment>::all(client.clone());
    let policies = Api::<SentinelPolicy>::all(client.clone());
    eventually("both kinds can be listed", async || {
        deployments.list_metadata(&Default::default()).await.is_ok()
            && policies.list_metadata(&Default::default()).await.is_ok()
    })
    .await;
}

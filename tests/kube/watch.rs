//! From the apiserver into the store: what flows, what a gap loses and a list brings back, what one broken object costs.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::api::{DeleteParams, Patch, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, CustomResourceExt};
use postern::api::deployment::Deployment;
use postern::api::policy::SentinelPolicy;
use postern::object::ObjectKey;
use postern::store::{Batch, Event, Kind, Store};
use postern::watch::cluster;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, applying};
use crate::link::Link;
use crate::support::control_plane::ControlPlane;
use crate::support::postern::Postern;
use crate::support::{eventually, within};
use crate::traffic::pod_address;

/// A watch and the store that it fills.
struct Source {
    store: Store,
    /// How many complete lists came, by kind.
    lists: BTreeMap<Kind, usize>,
    batches: Receiver<Batch>,
    counters: cluster::Counters,
    task: JoinHandle<()>,
}

impl Source {
    fn start(client: Client, namespaces: &[&str]) -> Self {
        let (sender, batches) = channel(64);
        let counters = cluster::Counters::default();
        let (namespaces, counted) = (
            namespaces.iter().map(|name| name.to_string()).collect::<Vec<_>>(),
            counters.clone(),
        );
        let task = tokio::spawn(async move {
            cluster::watch(&client, &namespaces, &sender, |_| counted.clone()).await;
        });
        Self {
            store: Store::default(),
            lists: BTreeMap::new(),
            batches,
            counters,
            task,
        }
    }

    async fn until(&mut self, fact: &str, holds: impl Fn(&Store) -> bool) {
        within(fact, async {
            while !holds(&self.store) {
                let batch = self.batches.recv().await.expect("the watch goes on");
                for event in &batch.events {
                    if let Event::Listed(kind, _) = event {
                        *self.lists.entry(*kind).or_default() += 1;
                    }
                }
                self.store.apply(batch);
            }
        })
        .await;
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn spec(host: &str) -> Value {
    json!({"hostnames": [host], "service": {"name": "app", "port": 80}})
}

fn host(store: &Store, key: &ObjectKey) -> Option<String> {
    let spec = store.deployment(key)?.spec.as_ref().ok()?;
    spec.hostnames.first().cloned()
}

fn ready(store: &Store, service: &ObjectKey) -> usize {
    let endpoints = store.slices(service).flat_map(|slice| &slice.endpoints);
    endpoints.filter(|endpoint| endpoint.ready).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_the_named_namespaces_flow_in_and_out() {
    let cluster = Cluster::shared("watch").await;
    let second = Cluster::shared("watch").await;
    let elsewhere = Cluster::shared("watch").await;
    elsewhere.deployment("app", spec("elsewhere.test")).await;
    second.deployment("app", spec("second.test")).await;
    let mut source = Source::start(cluster.client.clone(), &[&cluster.namespace, &second.namespace]);
    let key = ObjectKey::new(&cluster.namespace, "app");
    let of_second = ObjectKey::new(&second.namespace, "app");
    source.until("all kinds are listed", Store::is_complete).await;
    assert_eq!(host(&source.store, &of_second).as_deref(), Some("second.test"));

    cluster.deployment("app", spec("a.test")).await;
    source
        .until("the Deployment is created", |store| {
            host(store, &key).as_deref() == Some("a.test")
        })
        .await;
    cluster.deployment("app", spec("b.test")).await;
    source
        .until("the Deployment is changed", |store| {
            host(store, &key).as_deref() == Some("b.test")
        })
        .await;
    assert_eq!(source.store.deployment(&key).expect("is known").generation, 2);

    cluster.service("app").await;
    source
        .until("the Service is created", |store| store.service(&key).is_some())
        .await;
    cluster.pod("app", "one", pod_address(20, 1, 8080)).await;
    cluster.pod("app", "two", pod_address(20, 2, 8080)).await;
    source
        .until("both endpoints are ready", |store| ready(store, &key) == 2)
        .await;
    cluster.pods().set_ready("one", false).await.expect("is not ready");
    source
        .until("one endpoint is ready", |store| ready(store, &key) == 1)
        .await;

    cluster.delete_deployment("app").await;
    cluster
        .services()
        .delete("app", &DeleteParams::default())
        .await
        .expect("deletes the Service");
    source
        .until("all is gone", |store| {
            store.deployment(&key).is_none() && store.service(&key).is_none() && store.slices(&key).next().is_none()
        })
        .await;
    assert!(source.store.deployment(&of_second).is_some());
    assert!(
        source
            .store
            .deployment(&ObjectKey::new(&elsewhere.namespace, "app"))
            .is_none()
    );
    assert_eq!(source.counters.restarts.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_after_a_gap_drops_what_vanished() {
    let mut control_plane = ControlPlane::start().await.expect("a control plane");
    let cluster = Cluster::of(&control_plane, "gap").await;
    let link = Link::to(&control_plane).await;
    for name in ["kept", "gone"] {
        cluster.deployment(name, spec(&format!("{name}.test"))).await;
        cluster.service(name).await;
    }
    let [kept, gone] = ["kept", "gone"].map(|name| ObjectKey::new(&cluster.namespace, name));
    let mut source = Source::start(link.client(&control_plane).await, &[]);
    source.until("all kinds are listed", Store::is_complete).await;
    assert!(source.store.deployment(&gone).is_some() && source.store.service(&gone).is_some());

    link.cut();
    cluster.delete_deployment("gone").await;
    cluster
        .services()
        .delete("gone", &DeleteParams::default())
        .await
        .expect("deletes the Service");
    cluster.deployment("kept", spec("changed.test")).await;
    // Its memory of what happened is lost with it: nobody will ever tell of the deletions.
    control_plane.stop_apiserver();
    control_plane.start_apiserver().await.expect("comes back");
    link.mend();

    source
        .until("what vanished is dropped", |store| {
            store.deployment(&gone).is_none() && store.service(&gone).is_none()
        })
        .await;
    source
        .until("what changed has changed", |store| {
            host(store, &kept).as_deref() == Some("changed.test")
        })
        .await;
    assert!(source.store.service(&kept).is_some());
    assert!(
        source.lists[&Kind::Deployment] >= 2,
        "watching went on without a list: {:?}",
        source.lists
    );
    assert!(source.counters.restarts.get() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_object_costs_itself_and_a_missing_crd_is_waited_for() {
    let control_plane = ControlPlane::start().await.expect("a control plane");
    let client = control_plane.client().await.expect("a client");
    let mut source = Source::start(client.clone(), &[]);
    source
        .until("the other kinds are listed", |store| store.count(Kind::Service) > 0)
        .await;
    eventually("the missing CRD is noticed", async || {
        source.counters.restarts.get() > 0
    })
    .await;
    assert!(!source.store.is_complete());

    // As a newer Postern might define it: anything goes.
    let mut crd = Deployment::crd();
    let anything = JSONSchemaProps {
        type_: Some("object".into()),
        x_kubernetes_preserve_unknown_fields: Some(true),
        ..Default::default()
    };
    for version in &mut crd.spec.versions {
        version.schema.as_mut().expect("a schema").open_api_v3_schema = Some(anything.clone());
    }
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in [crd, SentinelPolicy::crd()] {
        assert!(!source.store.is_complete());
        crds.create(&PostParams::default(), &crd)
            .await
            .expect("creates the CRD");
    }
    source.until("all kinds are listed", Store::is_complete).await;

    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "default", &ApiResource::erase::<Deployment>(&()));
    let apply = async |name: &str, spec: Value| {
        let object = json!({"apiVersion": "postern.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec});
        api.patch(name, &applying(), &Patch::Apply(object))
            .await
            .expect("applies");
    };
    let [bad, good] = ["bad", "good"].map(|name| ObjectKey::new("default", name));
    apply("bad", json!({"hostnames": [5], "service": "app"})).await;
    apply("good", spec("good.test")).await;
    // Of a newer version: a field more, and a field of another type.
    let newer = |host: &str, field: &str, value: Value| {
        let mut spec = spec(host);
        spec[field] = value;
        spec
    };
    apply("more", newer("more.test", "retries", json!({"count": 3}))).await;
    apply("typed", newer("typed.test", "service", "app".into())).await;
    source
        .until("the good one is known", |store| host(store, &good).is_some())
        .await;
    source
        .until("the bad one is known", |store| store.deployment(&bad).is_some())
        .await;
    let error = source
        .store
        .deployment(&bad)
        .expect("is known")
        .spec
        .clone()
        .expect_err("is broken");
    assert!(error.error.starts_with("spec.hostnames[0]: "), "{error:?}");

    // Who wrote it is told where they look, and the other one is served.
    let postern = Postern::in_cluster(&control_plane.kubeconfig(), &[]);
    postern.is_ready().await;
    postern.refuses("good.test", "config:backend_not_found").await;
    postern.refuses("more.test", "config:backend_not_found").await;
    postern.refuses("typed.test", "config:deployment_invalid").await;
    let told = |postern: &Postern| {
        postern
            .log()
            .iter()
            .any(|line| line.contains("hostnameGrants is not set"))
    };
    assert!(!told(&postern), "all are of one namespace");
    let elsewhere: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "kube-public", &ApiResource::erase::<Deployment>(&()));
    let object = json!({
        "apiVersion": "postern.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "other"}, "spec": spec("other.test"),
    });
    let applied = elsewhere.patch("other", &applying(), &Patch::Apply(object)).await;
    applied.expect("applies");
    postern.tells("hostnameGrants is not set").await;
    eventually("its status names what is not known", async || {
        let object = api.get("more").await.expect("is there");
        let conditions = object.data["status"]["conditions"].to_string();
        conditions.contains("UnknownField") && conditions.contains("spec.retries")
    })
    .await;
    eventually("its status says what is wrong", async || {
        let object = api.get("bad").await.expect("is there");
        let conditions = object.data["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        conditions.iter().any(|condition| {
            condition["type"] == "Accepted"
                && condition["reason"] == "Invalid"
                && condition["message"]
                    .as_str()
                    .is_some_and(|message| message.contains("spec.hostnames[0]"))
        })
    })
    .await;

    // In a list, too.
    let mut late = Source::start(client.clone(), &[]);
    late.until("all kinds are listed", Store::is_complete).await;
    assert!(host(&late.store, &good).is_some());
    assert!(late.store.deployment(&bad).expect("is known").spec.is_err());

    let mended = json!({"spec": spec("bad.test")});
    api.patch("bad", &Default::default(), &Patch::Merge(mended))
        .await
        .expect("mends");
    source
        .until("the mended one is understood", |store| {
            host(store, &bad).as_deref() == Some("bad.test")
        })
        .await;
}

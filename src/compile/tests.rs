use std::collections::BTreeSet;
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::source::{self, deployment};
use super::*;
use crate::api::deployment::{DeploymentSpec, ServiceRef, Tls};
use crate::config::{EndpointRules, Routing};
use crate::object::ObjectKey;
use crate::store::{self, Batch, Event, Kind, Object, Service};

fn deployment(hostname: &str, service: &str) -> Event {
    let spec = DeploymentSpec {
        class_name: "postern".to_owned(),
        hostnames: vec![hostname.to_owned()],
        service: Some(ServiceRef {
            name: service.to_owned(),
            port: IntOrString::Int(80),
        }),
        backends: Vec::new(),
        paths: Vec::new(),
        policies: Vec::new(),
        ambiguous_paths: Default::default(),
        deployment_id: None,
        // One Secret, of the same name as the Service.
        tls: vec![Tls {
            hostnames: Vec::new(),
            secret_name: Some(service.to_owned()),
            acme: None,
        }],
        client_tls: None,
        upstream_tls: None,
        state: Default::default(),
        timeouts: Default::default(),
        balancing: Default::default(),
        web_socket: Default::default(),
    };
    Event::Apply(Object::Deployment(store::Deployment {
        key: ObjectKey::new("acme", "app"),
        uid: "uid".into(),
        generation: 1,
        created: 1,
        labels: Default::default(),
        spec: Ok(Arc::new(spec)),
        unknown: Box::default(),
        status: None,
    }))
}

fn service(name: &str) -> Event {
    Event::Apply(Object::Service(Service {
        key: ObjectKey::new("acme", name),
        external_name: false,
        selectorless: false,
        ports: Vec::new(),
    }))
}

#[test]
fn the_memory_holds_nothing_that_no_object_names() {
    let routing = Routing {
        class: "postern".into(),
        apex_domain: None,
        hostname_grants: None,
        default_tls_secrets: Box::default(),
        require_policy: false,
        selectorless_services: true,
        shared_store: false,
        endpoints: EndpointRules::default(),
    };
    let mut store = Store::default();
    let mut memory = Previous::default();
    let mut after = |events: Vec<Event>| {
        let seen = Instant::now();
        store.apply(Batch { events, seen });
        let changes = store.take_changes();
        let input = Input {
            store: &store,
            changes: &changes,
            listener: &Arc::default(),
        };
        memory = compile(&input, &routing, std::mem::take(&mut memory)).previous;
        [
            memory.names.len(),
            memory.services.keys().count(),
            memory.objects.len(),
            memory.reports.len(),
            memory.alive.len(),
            memory.materials.len(),
            memory.policies.len(),
        ]
    };
    let unused = service("unused");
    assert_eq!(after(vec![deployment("a.example.com", "web"), unused]), [1; 7]);
    assert_eq!(after(vec![deployment("b.example.com", "api")]), [1; 7]);
    assert_eq!(after(vec![Event::Listed(Kind::Deployment, BTreeSet::new())]), [0; 7]);
}

#[test]
fn what_is_checked_is_what_the_schema_says() {
    let crd = serde_json::to_value(&crate::api::crds()[0]).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let path = &spec["paths"]["items"]["properties"];
    let schema = [
        &spec["hostnames"]["maxItems"],
        &spec["paths"]["maxItems"],
        &spec["backends"]["maxItems"],
        &path["backends"]["maxItems"],
        &spec["tls"]["maxItems"],
        &spec["tls"]["items"]["properties"]["hostnames"]["maxItems"],
        &spec["deploymentId"]["maxLength"],
        &path["path"]["maxLength"],
    ];
    let checked = [
        deployment::MAX_HOSTNAMES,
        deployment::MAX_PATHS,
        deployment::MAX_BACKENDS,
        deployment::MAX_BACKENDS,
        source::deployment_tls::MAX_ENTRIES,
        source::deployment_tls::MAX_HOSTNAMES,
        deployment::MAX_ID,
        syntax::MAX_PATH,
    ];
    assert_eq!(
        schema.map(|bound| bound.as_u64()),
        checked.map(|bound| u64::try_from(bound).ok())
    );
    let weight = &spec["backends"]["items"]["properties"]["weight"]["maximum"];
    assert_eq!(weight.as_f64(), Some(f64::from(deployment::MAX_WEIGHT)));
}

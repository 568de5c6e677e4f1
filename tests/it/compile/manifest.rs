//! Objects from YAML, for the golden files.

use std::sync::Arc;

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use postern::store::{Deployment, EndpointSlice, Object, ObjectKey, Service, ServicePort, SliceEndpoint, SlicePort};
use serde_json::{Value, from_value};

pub fn object(value: Value) -> Object {
    match value["kind"].as_str().expect("a kind") {
        "Deployment" => Object::Deployment(deployment(value)),
        "Service" => Object::Service(service(from_value(value).unwrap())),
        "EndpointSlice" => Object::EndpointSlice(slice(from_value(value).unwrap())),
        other => panic!("no test speaks of a {other}"),
    }
}

fn key(metadata: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(
        metadata.namespace.as_deref().expect("a namespace"),
        metadata.name.as_deref().expect("a name"),
    )
}

fn deployment(mut value: Value) -> Deployment {
    let metadata: ObjectMeta = from_value(value["metadata"].take()).unwrap();
    Deployment {
        key: key(&metadata),
        uid: metadata.uid.unwrap_or_default().into(),
        generation: metadata.generation.unwrap_or(1),
        created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
        spec: from_value(value["spec"].take())
            .map(Arc::new)
            .map_err(|error| error.to_string().into()),
        status: None,
    }
}

fn service(service: core::Service) -> Service {
    let spec = service.spec.unwrap_or_default();
    let ports = spec.ports.unwrap_or_default().into_iter().map(|port| ServicePort {
        name: port.name.map(Into::into),
        port: port.port.try_into().unwrap(),
        protocol: port.protocol.map_or("TCP".into(), Into::into),
        app_protocol: port.app_protocol.map(Into::into),
    });
    Service {
        key: key(&service.metadata),
        external_name: spec.type_.as_deref() == Some("ExternalName"),
        selectorless: spec.selector.is_none(),
        ports: ports.collect(),
    }
}

fn slice(slice: discovery::EndpointSlice) -> EndpointSlice {
    let labels = slice.metadata.labels.as_ref().expect("labels");
    let ports = slice.ports.unwrap_or_default().into_iter().map(|port| SlicePort {
        name: port.name.map(Into::into),
        port: port.port.unwrap().try_into().unwrap(),
        protocol: port.protocol.map_or("TCP".into(), Into::into),
    });
    let endpoints = slice.endpoints.into_iter().map(|endpoint| {
        let conditions = endpoint.conditions.unwrap_or_default();
        let ready = conditions.ready.unwrap_or(true);
        SliceEndpoint {
            addresses: endpoint
                .addresses
                .iter()
                .map(|address| address.parse().unwrap())
                .collect(),
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
        }
    });
    EndpointSlice {
        key: key(&slice.metadata),
        service: labels["kubernetes.io/service-name"].as_str().into(),
        ports: ports.collect(),
        endpoints: endpoints.collect(),
    }
}

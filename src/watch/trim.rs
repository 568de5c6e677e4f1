//! From Kubernetes objects to what the store keeps of them. Nothing is judged here: that is compile's part.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::policy::LabelSelector;
use crate::api::policy::{Mode, TargetRef};
use crate::object::{ObjectKey, Purpose};
use crate::store::{ConfigMap, EndpointSlice, Policy, Secret, Service, ServicePort, SliceEndpoint, SlicePort, Targets};

/// Whose endpoints a slice holds; set by the endpointslice controller, or by hand.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Who keeps a slice.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// What a Secret or ConfigMap may be used for, as its owner says: without it nobody but the owner's own TLS is served.
pub const USE: &str = "postern.dev/use";
/// The type of Secrets with a certificate and its key.
pub const TLS: &str = "kubernetes.io/tls";

const KEPT_OF_TLS: [&str; 2] = ["tls.crt", "tls.key"];

/// Namespace and name; an object without a name is none.
pub fn key(metadata: &ObjectMeta) -> Option<ObjectKey> {
    let name = metadata.name.as_deref()?;
    Some(ObjectKey::new(metadata.namespace.as_deref().unwrap_or_default(), name))
}

/// What a policy concerns is decoded by itself: a rule that is not understood must not hide whom it was to guard.
pub fn policy(object: DynamicObject) -> Option<Policy> {
    let key = key(&object.metadata)?;
    let mut data = object.data;
    let mut take = |field: &str| data.get_mut(field).map(Value::take).filter(|value| !value.is_null());
    let spec = take("spec").unwrap_or_else(|| Value::Object(Default::default()));
    let status = take("status").and_then(|status| serde_json::from_value(status).ok());
    let mode = match spec.get("mode") {
        None | Some(Value::Null) => Some(Mode::default()),
        Some(mode) => Mode::deserialize(mode).ok(),
    };
    let mut rules = spec.get("rules").and_then(Value::as_array).into_iter().flatten();
    let enforces = |rule: &Value| {
        let mode = rule.get("mode").filter(|mode| !mode.is_null());
        mode.is_some_and(|mode| *mode != "Shadow") && rule.get("enabled") != Some(&Value::Bool(false))
    };
    let has_enforced_rule = rules.any(enforces);
    let priority = spec.get("priority").and_then(Value::as_i64);
    Some(Policy {
        created: created(&object.metadata),
        uid: object.metadata.uid.unwrap_or_default().into(),
        generation: object.metadata.generation.unwrap_or_default(),
        targets: targets(&spec).map(Arc::new),
        mode,
        has_enforced_rule,
        priority: priority
            .and_then(|priority| priority.try_into().ok())
            .unwrap_or_default(),
        spec: decoded("spec", spec).map(Arc::new),
        status: status.map(Arc::new),
        key,
    })
}

fn targets(spec: &Value) -> Result<Targets, Arc<str>> {
    let field = |name: &str| spec.get(name).filter(|value| !value.is_null()).cloned();
    let refs = field("targetRefs").map(|value| decoded::<Vec<TargetRef>>("spec.targetRefs", value));
    let selector = field("targetSelector").map(|value| decoded::<LabelSelector>("spec.targetSelector", value));
    match (refs.transpose()?, selector.transpose()?) {
        (Some(refs), None) if !refs.is_empty() => Ok(Targets::Named(
            refs.into_iter().map(|target| target.name.into()).collect(),
        )),
        (None, Some(selector)) => Ok(Targets::Selected(selector.match_labels)),
        _ => Err("spec: needs exactly one of targetRefs and targetSelector".into()),
    }
}

pub(super) fn decoded<T: DeserializeOwned>(field: &str, value: Value) -> Result<T, Arc<str>> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => String::new(),
            path if path.starts_with('[') => path,
            path => format!(".{path}"),
        };
        format!("{field}{path}: {}", error.inner()).into()
    })
}

/// Ports beyond 16 bits are left out. None: it has no name.
pub fn service(object: core::Service) -> Option<Service> {
    let key = key(&object.metadata)?;
    let spec = object.spec.unwrap_or_default();
    Some(Service {
        key,
        external_name: spec.type_.as_deref() == Some("ExternalName"),
        selectorless: spec.selector.is_none_or(|selector| selector.is_empty()),
        ports: spec
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter_map(|port| {
                Some(ServicePort {
                    name: name(port.name),
                    port: u16::try_from(port.port).ok()?,
                    protocol: protocol(port.protocol),
                    app_protocol: port.app_protocol.map(Arc::from),
                })
            })
            .collect(),
    })
}

/// None for a slice that holds no addresses for us: of FQDNs, or of no Service.
pub fn endpoint_slice(object: discovery::EndpointSlice) -> Option<EndpointSlice> {
    let key = key(&object.metadata)?;
    let mut labels = object.metadata.labels?;
    let service = labels.remove(SERVICE_NAME)?;
    if object.address_type == "FQDN" {
        return None;
    }
    let endpoints = object.endpoints.into_iter();
    Some(EndpointSlice {
        service: service.into(),
        by_controller: labels.get(MANAGED_BY).is_some_and(|manager| manager == CONTROLLER),
        // A port without a number stands for all ports: nothing that could be dialled.
        ports: object
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter_map(|port| {
                Some(SlicePort {
                    name: name(port.name),
                    port: u16::try_from(port.port?).ok()?,
                    protocol: protocol(port.protocol),
                })
            })
            .collect(),
        endpoints: endpoints.map(|one| endpoint(one, &key.namespace)).collect(),
        key,
    })
}

/// None for one that is neither of type kubernetes.io/tls nor labelled.
pub fn secret(object: core::Secret) -> Option<Secret> {
    let key = key(&object.metadata)?;
    let tls = object.type_.as_deref() == Some(TLS);
    let purpose = purpose(&object.metadata);
    if !tls && purpose.is_none() {
        return None;
    }
    let mut data = object.data.unwrap_or_default();
    // An apiserver has done this already; of files it is what is written.
    let plain = object.string_data.unwrap_or_default();
    data.extend(
        plain
            .into_iter()
            .map(|(key, text)| (key, ByteString(text.into_bytes()))),
    );
    let of_purpose = purpose.as_deref().map_or(&[][..], kept);
    let kept = |key: &str| tls && KEPT_OF_TLS.contains(&key) || of_purpose.contains(&key);
    let selectable = purpose.as_deref() == Some(Purpose::ApiKey.label());
    let labels = object.metadata.labels.filter(|_| selectable).unwrap_or_default();
    Some(Secret {
        data: data
            .into_iter()
            .filter(|(key, _)| kept(key))
            .map(|(key, ByteString(bytes))| (key, bytes))
            .collect(),
        uid: object.metadata.uid.unwrap_or_default().into(),
        labels: Arc::new(labels),
        key,
        tls,
        purpose,
    })
}

/// None for one that is not labelled.
pub fn config_map(object: core::ConfigMap) -> Option<ConfigMap> {
    let key = key(&object.metadata)?;
    let purpose = purpose(&object.metadata)?;
    let kept = kept(&purpose);
    let data = object.data.unwrap_or_default().into_iter();
    Some(ConfigMap {
        key,
        uid: object.metadata.uid.unwrap_or_default().into(),
        purpose,
        data: data
            .filter(|(key, _)| kept.contains(&key.as_str()))
            .map(|(key, text)| (key, text.into_bytes()))
            .collect(),
    })
}

/// The keys that are read of an object with this label; none, where the label is not known.
fn kept(label: &str) -> &'static [&'static str] {
    label.parse().map_or(&[], Purpose::kept)
}

pub(super) fn created(metadata: &ObjectMeta) -> i64 {
    let created = metadata.creation_timestamp.as_ref();
    created.map_or(0, |time| time.0.as_second())
}

fn purpose(metadata: &ObjectMeta) -> Option<Arc<str>> {
    let label = metadata.labels.as_ref()?.get(USE)?;
    Some(label.as_str().into())
}

/// An unknown condition: ready means ready, serving means what ready says, terminating means not
/// (the comments on discovery.k8s.io/v1 EndpointConditions).
fn endpoint(endpoint: discovery::Endpoint, namespace: &str) -> SliceEndpoint {
    let conditions = endpoint.conditions.unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let is_pod = endpoint
        .target_ref
        .is_some_and(|target| target.kind.as_deref() == Some("Pod") && target.namespace.as_deref() == Some(namespace));
    SliceEndpoint {
        is_pod,
        addresses: endpoint.addresses.iter().filter_map(|text| text.parse().ok()).collect(),
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
    }
}

/// An empty name is no name: objects say either for an unnamed port.
fn name(name: Option<String>) -> Option<Arc<str>> {
    name.filter(|name| !name.is_empty()).map(Arc::from)
}

fn protocol(protocol: Option<String>) -> Arc<str> {
    protocol.map_or_else(|| Arc::from("TCP"), Arc::from)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn unknown_endpoint_conditions_mean_what_kubernetes_says() {
        let states = |conditions: Value| {
            let slice = json!({
                "metadata": {"name": "a", "namespace": "n", "labels": {SERVICE_NAME: "s"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}],
            });
            let trimmed = endpoint_slice(from_value(slice).unwrap()).unwrap();
            let endpoint = &trimmed.endpoints[0];
            (endpoint.ready, endpoint.serving, endpoint.terminating)
        };
        assert_eq!(states(json!(null)), (true, true, false));
        assert_eq!(states(json!({})), (true, true, false));
        assert_eq!(states(json!({"ready": false})), (false, false, false));
        assert_eq!(
            states(json!({"ready": false, "serving": true, "terminating": true})),
            (false, true, true)
        );
    }

    #[test]
    fn what_a_slice_says_of_its_origin_is_kept() {
        let origin = |manager: &str, target: Value| {
            let slice = json!({
                "metadata": {"name": "a", "namespace": "n", "labels": {SERVICE_NAME: "s", MANAGED_BY: manager}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": target}],
            });
            let trimmed = endpoint_slice(from_value(slice).unwrap()).unwrap();
            (trimmed.by_controller, trimmed.endpoints[0].is_pod)
        };
        let pod = |namespace: &str| json!({"kind": "Pod", "name": "p", "namespace": namespace});
        assert_eq!(origin(CONTROLLER, pod("n")), (true, true));
        assert_eq!(origin(CONTROLLER, pod("other")), (true, false));
        assert_eq!(
            origin(CONTROLLER, json!({"kind": "Node", "namespace": "n"})),
            (true, false)
        );
        assert_eq!(
            origin("endpointslicemirroring-controller.k8s.io", json!(null)),
            (false, false)
        );
    }

    #[test]
    fn slices_of_names_or_of_no_service_are_dropped() {
        let trimmed = |kind: &str, labels: Value| {
            let slice = json!({
                "metadata": {"name": "a", "namespace": "n", "labels": labels},
                "addressType": kind,
                "endpoints": [{"addresses": ["app.example.com"]}],
            });
            endpoint_slice(from_value(slice).unwrap())
        };
        assert_eq!(trimmed("FQDN", json!({SERVICE_NAME: "s"})), None);
        assert_eq!(trimmed("IPv6", json!({})), None);
        assert!(trimmed("IPv6", json!({SERVICE_NAME: "s"})).is_some());
    }

    #[test]
    fn ports_and_selectors_are_read_as_the_apiserver_defaults_them() {
        let object = json!({
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {"ports": [{"port": 80, "name": ""}, {"port": 53, "protocol": "UDP", "name": "dns"}]},
        });
        let trimmed = service(from_value(object).unwrap()).unwrap();
        assert!(trimmed.selectorless && !trimmed.external_name);
        assert_eq!((&*trimmed.ports[0].protocol, &trimmed.ports[0].name), ("TCP", &None));
        assert_eq!(
            (&*trimmed.ports[1].protocol, trimmed.ports[1].name.as_deref()),
            ("UDP", Some("dns"))
        );
    }
}

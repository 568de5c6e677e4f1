//! From a Deployment object to what the store keeps of it, and what is left of one that is not all understood.

use std::sync::{Arc, LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use kube::CustomResourceExt;
use kube::core::DynamicObject;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::trim::{created, decoded, key};
use crate::api::deployment::{self, DeploymentSpec};
use crate::store::{Deployment, Undecoded};

/// An apiserver prunes what its CRD does not know, and kubectl refuses it. Neither helps where the CRD is newer than this
/// Postern, or where there is none: then what is known is served without the rest, unless the rest is below one of these.
/// They say who may connect and whom an app is to be, and half of that protects nobody.
const PROTECTING: [&str; 3] = ["spec.clientTls", "spec.tls", "spec.upstreamTls"];
/// Fields that are named of an object.
const MAX_UNKNOWN: usize = 20;

/// Metadata, spec and status are decoded apart: one that cannot be understood does not take the others along. None: it has
/// no name.
pub fn trim(object: DynamicObject) -> Option<Deployment> {
    let key = key(&object.metadata)?;
    let mut data = object.data;
    let mut take = |field: &str| data.get_mut(field).map(Value::take).filter(|value| !value.is_null());
    let spec = take("spec").unwrap_or_else(|| Value::Object(Map::new()));
    let status = take("status").and_then(|status| serde_json::from_value(status).ok());
    let unknown = unknown_fields(&spec);
    Some(Deployment {
        created: created(&object.metadata),
        uid: object.metadata.uid.unwrap_or_default().into(),
        generation: object.metadata.generation.unwrap_or_default(),
        labels: Arc::new(object.metadata.labels.unwrap_or_default()),
        spec: understood(spec, &unknown),
        unknown,
        status: status.map(Arc::new),
        key,
    })
}

fn understood(spec: Value, unknown: &[Box<str>]) -> Result<Arc<DeploymentSpec>, Undecoded<DeploymentSpec>> {
    let claims = claims(&spec).map(Arc::new);
    let protecting: Vec<&str> = unknown
        .iter()
        .map(AsRef::as_ref)
        .filter(|path| protects(path))
        .collect();
    let decoded = match &protecting[..] {
        [] => decoded("spec", spec).map(Arc::new),
        unknown => Err(format!("unknown fields: {}", unknown.join(", ")).into()),
    };
    decoded.map_err(|error| Undecoded { error, claims })
}

fn protects(path: &str) -> bool {
    let below = |field: &&str| {
        path.strip_prefix(*field)
            .is_some_and(|rest| rest.starts_with(['.', '[']))
    };
    PROTECTING.iter().any(below)
}

/// The class, the hostnames and paths, and the certificates to say it with, as far as they can be read. None: whose or which
/// requests these are is not understood.
fn claims(spec: &Value) -> Option<DeploymentSpec> {
    let mut claims = Map::new();
    if let Some(class) = spec.get("className") {
        claims.insert("className".to_owned(), class.clone());
    }
    if let Some(hostnames) = spec.get("hostnames") {
        let texts = hostnames.as_array()?.iter().filter(|name| name.is_string());
        claims.insert("hostnames".to_owned(), texts.cloned().collect());
    }
    if let Some(paths) = spec.get("paths") {
        let known = |rule: &Value| {
            let fields = ["path", "type"].into_iter();
            let known = fields.filter_map(|field| Some((field.to_owned(), rule.get(field)?.clone())));
            known.collect::<Map<_, _>>()
        };
        claims.insert("paths".to_owned(), paths.as_array()?.iter().map(known).collect());
    }
    let tls = spec.get("tls").map(|tls| json!({"tls": tls}));
    if let Some(tls) = tls.filter(|tls| DeploymentSpec::deserialize(tls).is_ok()) {
        claims.extend(tls.as_object().cloned().unwrap_or_default());
    }
    serde_json::from_value(Value::Object(claims)).ok()
}

/// By the CRD of this version.
fn unknown_fields(spec: &Value) -> Box<[Box<str>]> {
    let mut unknown = Vec::new();
    if let Some(schema) = &*SPEC {
        find_unknown(spec, schema, "spec", &mut unknown);
    }
    unknown.truncate(MAX_UNKNOWN);
    unknown.into()
}

fn find_unknown(value: &Value, schema: &JSONSchemaProps, path: &str, unknown: &mut Vec<Box<str>>) {
    match (value, &schema.properties) {
        (Value::Object(fields), Some(properties)) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match properties.get(name) {
                    Some(schema) => find_unknown(value, schema, &path, unknown),
                    None => unknown.push(path.into()),
                }
            }
        }
        (Value::Array(items), _) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    find_unknown(item, schema, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

static SPEC: LazyLock<Option<JSONSchemaProps>> = LazyLock::new(|| {
    let version = deployment::Deployment::crd().spec.versions.into_iter().next()?;
    version.schema?.open_api_v3_schema?.properties?.remove("spec")
});

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;
    use crate::object::ObjectKey;

    fn trimmed(spec: Value) -> Deployment {
        let object = json!({
            "apiVersion": "postern.dev/v1alpha1",
            "kind": "Deployment",
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "generation": 3, "creationTimestamp": "1970-01-01T00:01:00Z"
            },
            "spec": spec,
            "status": {"hostnames": ["a.example.com"]},
        });
        trim(from_value(object).unwrap()).unwrap()
    }

    fn undecoded(spec: Value) -> (String, Option<DeploymentSpec>) {
        let Undecoded { error, claims } = trimmed(spec).spec.unwrap_err();
        (error.to_string(), claims.map(|claims| (*claims).clone()))
    }

    #[test]
    fn an_undecodable_spec_keeps_the_key_and_the_status() {
        let trimmed = trimmed(json!({"hostnames": "not a list"}));
        assert_eq!(trimmed.key, ObjectKey::new("n", "a"));
        assert_eq!((trimmed.generation, trimmed.created), (3, 60));
        let error = trimmed.spec.unwrap_err().error;
        assert!(error.starts_with("spec.hostnames: invalid type"), "{error}");
        assert_eq!(trimmed.status.unwrap().hostnames, ["a.example.com"]);
    }

    #[test]
    fn unknown_fields_are_told_and_cost_nothing_unless_they_protect() {
        let known = json!({"hostnames": ["a.test"], "service": {"name": "a", "port": 80}});
        let with = |field: &str, value: Value| {
            let mut spec = known.clone();
            spec[field] = value;
            trimmed(spec)
        };
        let served = with("retries", json!({"count": 3}));
        assert_eq!(&*served.unknown, [Box::from("spec.retries")]);
        assert_eq!(served.spec.unwrap(), trimmed(known.clone()).spec.unwrap());
        // Not one of the three, although it begins as one does.
        assert!(with("tlsx", json!({"a": 1})).spec.is_ok());
        let ca = json!({"kind": "ConfigMap", "name": "ca"});
        for (field, value, path) in [
            ("clientTls", json!({"caRef": ca, "pins": []}), "spec.clientTls.pins"),
            (
                "tls",
                json!([{"secretName": "a", "minVersion": "1.3"}]),
                "spec.tls[0].minVersion",
            ),
            (
                "upstreamTls",
                json!({"caRef": {"kind": "Secret", "name": "ca", "key": "x"}}),
                "spec.upstreamTls.caRef.key",
            ),
        ] {
            let Undecoded { error, claims } = with(field, value).spec.unwrap_err();
            assert_eq!(*error, *format!("unknown fields: {path}"));
            assert_eq!(claims.unwrap().hostnames, ["a.test"]);
        }
    }

    #[test]
    fn what_a_broken_spec_is_about_is_read_as_far_as_it_can_be() {
        let (error, claims) = undecoded(json!({
            "className": "edge",
            "hostnames": ["a.test", 5],
            "paths": [{"path": "/a", "type": "Exact", "service": "not a map"}],
            "tls": [{"secretName": "a"}],
        }));
        assert!(error.starts_with("spec.hostnames[1]: "), "{error}");
        let claims = claims.unwrap();
        assert_eq!(
            (&*claims.class_name, &claims.hostnames[..]),
            ("edge", &["a.test".to_owned()][..])
        );
        assert_eq!((&*claims.paths[0].path, claims.tls.len()), ("/a", 1));

        let (_, claims) = undecoded(json!({"hostnames": ["a.test"], "tls": 5}));
        assert_eq!(claims.unwrap().hostnames, ["a.test"]);
        // Whose it is, which names or which paths: others must not lose theirs to it.
        assert_eq!(undecoded(json!({"hostnames": 5})).1, None);
        assert_eq!(undecoded(json!({"className": 5, "hostnames": ["a.test"]})).1, None);
        assert_eq!(undecoded(json!({"paths": "/", "hostnames": ["a.test"]})).1, None);
        assert_eq!(
            undecoded(json!({"paths": [{"path": 5}], "hostnames": ["a.test"]})).1,
            None
        );
    }
}

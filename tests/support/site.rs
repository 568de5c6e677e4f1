//! The manifests of one app: a Deployment, a selectorless Service and one EndpointSlice per address, since ports differ.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::certs::Leaf;

/// What `postern run --manifests` reads as one file.
#[derive(Clone)]
pub struct Site {
    pub name: String,
    namespace: String,
    labels: Value,
    spec: Value,
    app_protocol: Option<String>,
    endpoints: Vec<Endpoint>,
    others: Vec<Value>,
}

#[derive(Clone)]
struct Endpoint {
    address: SocketAddr,
    conditions: Value,
}

impl Site {
    /// Nothing but a hostname and a service. The Deployment, its Service and its file have one name.
    pub fn new(name: &str, hostname: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            labels: json!({}),
            spec: json!({"hostnames": [hostname], "service": {"name": name, "port": 80}}),
            app_protocol: None,
            endpoints: Vec::new(),
            others: Vec::new(),
        }
    }

    pub fn hostnames(&self) -> Vec<&str> {
        let listed = self.spec["hostnames"].as_array().into_iter().flatten();
        listed.filter_map(Value::as_str).collect()
    }

    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    /// The Deployment's.
    pub fn labels(mut self, labels: Value) -> Self {
        self.labels = labels;
        self
    }

    /// What the Service says of its port.
    pub fn app_protocol(mut self, protocol: &str) -> Self {
        self.app_protocol = Some(protocol.to_owned());
        self
    }

    /// A ready endpoint.
    pub fn to(self, address: SocketAddr) -> Self {
        self.endpoint(address, json!({"ready": true}))
    }

    /// An endpoint with its conditions: `{"ready": false, "serving": true, "terminating": true}`.
    pub fn endpoint(mut self, address: SocketAddr, conditions: Value) -> Self {
        self.endpoints.push(Endpoint { address, conditions });
        self
    }

    /// Sets fields of the Deployment's spec; null takes one away.
    pub fn spec(mut self, fields: Value) -> Self {
        let Value::Object(fields) = fields else {
            panic!("a spec is an object")
        };
        for (name, value) in fields {
            match value {
                Value::Null => self.spec.as_object_mut().and_then(|spec| spec.remove(&name)),
                value => self.spec.as_object_mut().and_then(|spec| spec.insert(name, value)),
            };
        }
        self
    }

    /// Has that certificate for all its hostnames, in a Secret of its own name.
    pub fn tls(self, leaf: &Leaf) -> Self {
        let (name, namespace) = (self.name.clone(), self.namespace.clone());
        self.spec(json!({"tls": [{"secretName": name}]}))
            .with(leaf.secret(&namespace, &name))
    }

    /// Another object in the same file.
    pub fn with(mut self, object: Value) -> Self {
        self.others.push(object);
        self
    }

    /// JSON documents, which are YAML.
    pub fn manifest(&self) -> String {
        let Self {
            name,
            namespace,
            labels,
            spec,
            ..
        } = self;
        let mut documents = vec![
            json!({
                "apiVersion": "postern.dev/v1alpha1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": spec,
            }),
            json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"ports": [{"port": 80, "appProtocol": self.app_protocol}]},
            }),
        ];
        for (i, Endpoint { address, conditions }) in self.endpoints.iter().enumerate() {
            documents.push(json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{name}-{i}"),
                    "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
                "ports": [{"port": address.port()}],
                "endpoints": [{"addresses": [address.ip()], "conditions": conditions}],
            }));
        }
        documents.extend(self.others.iter().cloned());
        documents.iter().map(|document| format!("---\n{document}\n")).collect()
    }
}

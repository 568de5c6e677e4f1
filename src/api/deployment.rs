//! The Deployment CRD: which hosts reach which app.

use std::time::Duration as StdDuration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;

#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "Deployment",
    namespaced,
    status = "DeploymentStatus"
)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentSpec {
    #[serde(default = "default_class")]
    pub class_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendRef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    #[serde(default)]
    pub state: State,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default)]
    pub balancing: Balancing,
    #[serde(default)]
    pub web_socket: WebSocket,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ServiceRef {
    pub name: String,
    pub port: IntOrString,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct BackendRef {
    pub service: ServiceRef,
    #[serde(default = "default_weight")]
    pub weight: u32,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct PathRule {
    pub path: String,
    #[serde(default)]
    pub r#type: PathType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendRef>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum PathType {
    #[default]
    Prefix,
    Exact,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum State {
    #[default]
    Running,
    Stopped,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    pub connect: Duration,
    pub dial_budget: Duration,
    pub response: Duration,
    pub idle: Duration,
    pub total: Duration,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Balancing {
    pub strategy: Strategy,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Strategy {
    #[default]
    LeastConnections,
    RoundRobin,
    Random,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebSocket {
    pub handshake_timeout: Duration,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStatus {
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<EndpointCounts>,
    pub hostnames: Vec<String>,
    pub addresses: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub struct EndpointCounts {
    pub ready: u32,
    pub total: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration(StdDuration::from_secs(2)),
            dial_budget: Duration(StdDuration::from_secs(5)),
            response: Duration(StdDuration::from_secs(15 * 60)),
            idle: Duration(StdDuration::from_secs(5 * 60)),
            total: Duration(StdDuration::ZERO),
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration(StdDuration::from_secs(10)),
        }
    }
}

fn default_class() -> String {
    "postern".to_owned()
}

fn default_weight() -> u32 {
    1
}

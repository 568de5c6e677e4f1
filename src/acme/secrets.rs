//! The Secrets that are ours: read, written and deleted, each call within its time. A Secret that is not labelled as ours is
//! never touched.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

use crate::object::{ObjectKey, Purpose};
use crate::text::Hex;

/// Every Secret that Postern writes carries this label with this value.
pub const LABEL: (&str, &str) = ("postern.dev/use", Purpose::Acme.label());
/// For a person, and for who clears up: the class of the installation that wrote it, and the hostname that it is for.
pub const CLASS: &str = "postern.dev/class";
/// The annotation that names the hostname of a certificate.
pub const HOSTNAME: &str = "postern.dev/hostname";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "Secret {0} already exists without the label postern.dev/use: acme and is not overwritten: delete or label it"
    )]
    Foreign(ObjectKey),
    #[error("Secret {0} was changed by another client at the same time")]
    Conflict(ObjectKey),
    #[error(
        "the apiserver does not let Postern keep Secret {0}: {1}. The chart gives the right where acme.namespaces says"
    )]
    Forbidden(ObjectKey, String),
    #[error("cannot write Secret {0}: {1}")]
    Api(ObjectKey, kube::Error),
    #[error("cannot write Secret {0}: the apiserver did not answer in time")]
    Timeout(ObjectKey),
}

/// What is to be kept.
pub struct Content {
    pub r#type: &'static str,
    pub annotations: BTreeMap<String, String>,
    pub data: BTreeMap<String, ByteString>,
}

#[derive(Clone)]
pub struct Secrets {
    client: Client,
}

impl Secrets {
    /// Nothing is asked of the apiserver yet.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// None: it does not exist. Fails if it is somebody else's.
    pub async fn get(&self, key: &ObjectKey) -> Result<Option<Secret>, Error> {
        let found = within(key, self.api(key).get_opt(&key.name)).await?;
        match found {
            Some(found) if found.labels().get(LABEL.0).is_none_or(|value| value != LABEL.1) => {
                Err(Error::Foreign(key.clone()))
            }
            found => Ok(found),
        }
    }

    /// Creates it in place of nothing, or changes what was found and is still so: two writers never mix their work.
    pub async fn put(&self, key: &ObjectKey, found: Option<&Secret>, content: Content) -> Result<Secret, Error> {
        let mut secret = Secret {
            metadata: ObjectMeta {
                name: Some(key.name.to_string()),
                namespace: Some(key.namespace.to_string()),
                labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
                annotations: Some(content.annotations),
                ..ObjectMeta::default()
            },
            type_: Some(content.r#type.to_owned()),
            data: Some(content.data),
            ..Secret::default()
        };
        let api = self.api(key);
        let kept = match found {
            None => {
                let params = PostParams {
                    field_manager: Some(MANAGER.to_owned()),
                    ..PostParams::default()
                };
                within(key, api.create(&params, &secret)).await
            }
            Some(found) => {
                secret.metadata.resource_version = found.resource_version();
                let params = PatchParams::apply(MANAGER).force();
                within(key, api.patch(&key.name, &params, &Patch::Apply(&secret))).await
            }
        };
        match kept {
            Err(Error::Api(key, kube::Error::Api(refusal))) if refusal.code == 409 => Err(Error::Conflict(key)),
            kept => kept,
        }
    }

    /// If it is still the one that is meant.
    pub async fn delete(&self, key: &ObjectKey, uid: Option<String>) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid,
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match within(key, self.api(key).delete(&key.name, &params)).await {
            Ok(_) => Ok(()),
            // Gone, or another one in its place.
            Err(Error::Api(_, kube::Error::Api(refusal))) if matches!(refusal.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All of ours that are no certificates; in one namespace or in all.
    pub async fn opaque(&self, namespace: Option<&str>) -> Result<Vec<Secret>, Error> {
        let api: Api<Secret> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let params = ListParams::default()
            .labels(&format!("{}={}", LABEL.0, LABEL.1))
            .fields("type=Opaque");
        let about = ObjectKey::new(namespace.unwrap_or("*"), "*");
        Ok(within(&about, api.list(&params)).await?.items)
    }

    fn api(&self, key: &ObjectKey) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

/// Enough of a text to name a Secret by.
pub fn short_hash(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    Hex(&digest.as_ref()[..8]).to_string()
}

async fn within<T>(key: &ObjectKey, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match timeout(CALL, call).await {
        Ok(Err(kube::Error::Api(refusal))) if refusal.code == 403 => {
            Err(Error::Forbidden(key.clone(), refusal.message))
        }
        Ok(answer) => answer.map_err(|error| Error::Api(key.clone(), error)),
        Err(_) => Err(Error::Timeout(key.clone())),
    }
}

/// The field manager that owns what we write.
const MANAGER: &str = "postern";
const CALL: Duration = Duration::from_secs(10);

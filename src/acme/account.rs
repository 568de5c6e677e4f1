//! The account with the ACME server: registered once and kept in a Secret beside the Lease, so that every leader, and every
//! restart, uses the same.

use std::collections::BTreeMap;

use instant_acme::{Account, AccountBuilder, AccountCredentials, NewAccount};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing::{info, warn};

use super::failure::{Failure, call};
use super::secrets::{CLASS, Content, Error, Secrets, short_hash};
use crate::config::Acme;
use crate::object::ObjectKey;

/// Where it is kept, and whose it is.
pub struct Registration {
    pub acme: Acme,
    pub class: String,
    pub secret: ObjectKey,
}

impl Registration {
    /// One per directory: changing to another server and back loses no account.
    pub fn new(acme: Acme, class: &str, namespace: &str) -> Self {
        let secret = ObjectKey::new(
            namespace,
            &format!("postern-{class}-acme-{}", short_hash(&acme.directory)),
        );
        Self {
            acme,
            class: class.to_owned(),
            secret,
        }
    }

    /// The account, registered if there is none.
    pub async fn open(&self, secrets: &Secrets) -> Result<Account, Failure> {
        if let Some(found) = secrets.get(&self.secret).await? {
            return self.restore(secrets, &found).await;
        }
        let contact = self.contact();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = self.acme.directory.clone();
        let (account, credentials) = call(self.builder()?.create(&wanted, directory, None)).await?;
        match secrets.put(&self.secret, None, self.content(&credentials)?).await {
            Ok(_) => {
                info!(id = account.id(), secret = %self.secret, "registered with the ACME server");
                Ok(account)
            }
            // Another leader was faster: its account is the one.
            Err(Error::Conflict(_)) => match secrets.get(&self.secret).await? {
                Some(found) => self.restore(secrets, &found).await,
                None => Err(Error::Conflict(self.secret.clone()).into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn restore(&self, secrets: &Secrets, found: &Secret) -> Result<Account, Failure> {
        let data = found.data.as_ref();
        let credentials = || {
            let text = &data?.get(ACCOUNT)?.0;
            serde_json::from_slice::<AccountCredentials>(text).ok()
        };
        let unreadable = || Failure::Account(self.secret.clone());
        let account = call(self.builder()?.from_credentials(credentials().ok_or_else(unreadable)?)).await?;
        let contact = self.contact();
        let known = data
            .and_then(|data| data.get(CONTACT))
            .map(|contact| contact.0.as_slice());
        if known.unwrap_or_default() != contact.as_deref().unwrap_or_default().as_bytes() {
            let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
            let told = call(account.update_contacts(&contact)).await;
            let content = self.content(&credentials().ok_or_else(unreadable)?)?;
            // Orders go on without it.
            match told {
                Ok(()) => drop(secrets.put(&self.secret, Some(found), content).await?),
                Err(error) => warn!(%error, "the ACME server rejected the contact address"),
            }
        }
        Ok(account)
    }

    /// An own authority stands for all others: who runs a private ACME server trusts nobody else to vouch for it.
    fn builder(&self) -> Result<AccountBuilder, Failure> {
        let Some(path) = &self.acme.ca else {
            return Account::builder().map_err(Failure::Server);
        };
        let unreadable = |cause| Failure::Authority {
            path: path.clone(),
            cause,
        };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?;
        match certificates.count() {
            1 => Account::builder_with_root(path).map_err(|error| unreadable(error.to_string())),
            count => Err(unreadable(format!("it holds {count} certificates, not one"))),
        }
    }

    fn contact(&self) -> Option<String> {
        Some(format!("mailto:{}", self.acme.email.as_ref()?))
    }

    fn content(&self, credentials: &AccountCredentials) -> Result<Content, Failure> {
        let unwritable = |_| Failure::Account(self.secret.clone());
        let account = serde_json::to_vec(credentials).map_err(unwritable)?;
        let mut data = BTreeMap::from([(ACCOUNT.to_owned(), ByteString(account))]);
        if let Some(contact) = self.contact() {
            data.insert(CONTACT.to_owned(), ByteString(contact.into_bytes()));
        }
        Ok(Content {
            r#type: "Opaque",
            annotations: BTreeMap::from([
                (CLASS.to_owned(), self.class.clone()),
                (DIRECTORY.to_owned(), self.acme.directory.clone()),
            ]),
            data,
        })
    }
}

/// The keys of the Secret's data: id, private key and directory as JSON; what the server knows as contact.
const ACCOUNT: &str = "account.json";
const CONTACT: &str = "contact";
/// For a person who looks at the Secret.
const DIRECTORY: &str = "postern.dev/acme-directory";

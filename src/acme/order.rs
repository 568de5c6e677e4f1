//! One order, from the account to the certificate in its Secret (RFC 8555 section 7.4, HTTP-01). When it is made, and when
//! again, is `schedule`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, ResourceExt};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::account::Registration;
use super::failure::{Failure, call, problem_text};
use super::leaf::usable;
use super::schedule::{Job, Validity};
use super::secrets::{CLASS, Content, HOSTNAME, Secrets, short_hash};
use crate::config::Settings;
use crate::live::LiveCell;
use crate::object::ObjectKey;

/// In Unix seconds.
pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Who makes orders.
pub struct Orders {
    secrets: Secrets,
    live: Arc<LiveCell>,
    registration: Registration,
    /// Empty: all.
    namespaces: Vec<String>,
    account: Mutex<Option<Account>>,
}

/// What the server wants to find.
struct Challenge {
    token: String,
    key_authorization: String,
}

impl Orders {
    /// `namespace`: where the account is kept.
    pub fn new(client: Client, live: Arc<LiveCell>, settings: &Settings, namespace: &str) -> Self {
        Self {
            secrets: Secrets::new(client),
            live,
            registration: Registration::new(settings.acme.clone(), &settings.routing.class, namespace),
            namespaces: settings.watch_namespaces.clone(),
            account: Mutex::default(),
        }
    }

    /// Removes the challenges that an earlier leader of this class has left, and forgets the account, which may be another
    /// one by now.
    pub async fn clear(&self) {
        *self.account.lock().await = None;
        let everywhere = [None];
        let some: Vec<_> = self
            .namespaces
            .iter()
            .map(|namespace| Some(namespace.as_str()))
            .collect();
        for namespace in if some.is_empty() { &everywhere[..] } else { &some } {
            match self.secrets.opaque(*namespace).await {
                Ok(found) => {
                    for secret in found.iter().filter(|secret| self.is_our_challenge(secret)) {
                        self.remove(secret).await;
                    }
                }
                Err(error) => warn!(%error, "cannot list leftover challenges to remove them"),
            }
        }
    }

    /// The certificate in its Secret, unless a good one turns out to be there: the watch that told us may lag behind.
    pub async fn make(&self, job: &Job) -> Result<Validity, Failure> {
        let found = self.secrets.get(&job.secret).await?;
        if let Some(validity) = found.as_ref().and_then(|found| kept(found, &job.hostname))
            && now() < validity.renewal(&job.hostname)
        {
            debug!(hostname = %job.hostname, secret = %job.secret, "the certificate is there already");
            return Ok(validity);
        }
        let obtained = timeout(ORDER, self.obtain(job)).await;
        let (chain, key) = obtained.map_err(|_| Failure::TooLong)??;
        let validity = usable(chain.as_bytes(), key.as_bytes(), &job.hostname).ok_or(Failure::Certificate)?;
        let content = Content {
            r#type: "kubernetes.io/tls",
            annotations: self.annotations(&job.hostname),
            data: BTreeMap::from([
                (CHAIN.to_owned(), ByteString(chain.into_bytes())),
                (KEY.to_owned(), ByteString(key.into_bytes())),
            ]),
        };
        self.secrets.put(&job.secret, found.as_ref(), content).await?;
        Ok(validity)
    }

    /// Chain and key in PEM.
    async fn obtain(&self, job: &Job) -> Result<(String, String), Failure> {
        let account = self.account().await?;
        let names = [Identifier::Dns(job.hostname.to_string())];
        let mut order = match call(account.new_order(&NewOrder::new(&names))).await {
            Ok(order) => order,
            Err(failure) => {
                if failure.is_about_the_account() {
                    *self.account.lock().await = None;
                }
                return Err(match failure.is_unknown_account() {
                    true => Failure::UnknownAccount(self.registration.secret.clone()),
                    false => failure,
                });
            }
        };
        if let Some(challenge) = pending(&mut order).await? {
            let shown = self.show(job, &challenge).await?;
            let proven = timeout(PROOF, self.prove(job, &challenge, &mut order)).await;
            self.remove(&shown).await;
            proven.map_err(|_| Failure::Slow)??;
        }
        let key = call(order.finalize()).await?;
        let chain = timeout(ISSUE + GRACE, order.poll_certificate(&polling(ISSUE))).await;
        let chain = chain.map_err(|_| Failure::Slow)?.map_err(Failure::Server)?;
        Ok((chain, key))
    }

    async fn account(&self) -> Result<Account, Failure> {
        let mut account = self.account.lock().await;
        match &*account {
            Some(account) => Ok(account.clone()),
            None => {
                let opened = self.registration.open(&self.secrets).await?;
                Ok(account.insert(opened).clone())
            }
        }
    }

    /// Puts the challenge where every replica finds it.
    async fn show(&self, job: &Job, challenge: &Challenge) -> Result<Secret, Failure> {
        // The class, too: another installation may order for the same hostname.
        let name = format!(
            "postern-challenge-{}",
            short_hash(&format!("{}/{}", self.registration.class, job.hostname))
        );
        let key = ObjectKey::new(&job.secret.namespace, &name);
        let found = self.secrets.get(&key).await?;
        let data = [
            ("hostname", &*job.hostname),
            ("token", challenge.token.as_str()),
            (KEY_AUTHORIZATION, challenge.key_authorization.as_str()),
        ];
        let content = Content {
            r#type: "Opaque",
            annotations: self.annotations(&job.hostname),
            data: data
                .map(|(name, value)| (name.to_owned(), ByteString(value.as_bytes().to_vec())))
                .into(),
        };
        Ok(self.secrets.put(&key, found.as_ref(), content).await?)
    }

    /// Until the server has found what it looks for.
    async fn prove(&self, job: &Job, challenge: &Challenge, order: &mut Order) -> Result<(), Failure> {
        if timeout(SERVED, self.served(job, challenge)).await.is_err() {
            return Err(Failure::NotServed);
        }
        sleep(REPLICAS).await;
        set_ready(order).await?;
        match order.poll_ready(&polling(VALIDATION)).await {
            Ok(OrderStatus::Ready | OrderStatus::Valid) => Ok(()),
            Ok(status) => Err(Failure::Invalid(
                reason(order, format!("the order is {status:?}")).await,
            )),
            Err(Error::Api(problem)) => Err(Failure::Invalid(reason(order, problem_text(&problem)).await)),
            Err(error) => Err(Failure::Server(error)),
        }
    }

    /// Resolves once this replica answers it.
    async fn served(&self, job: &Job, challenge: &Challenge) {
        let is_served = || {
            let live = self.live.load()?;
            let answer = live.snapshot.challenge(&job.hostname, &challenge.token)?;
            (**answer == *challenge.key_authorization).then_some(())
        };
        while is_served().is_none() {
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn remove(&self, secret: &Secret) {
        let key = ObjectKey::new(&secret.namespace().unwrap_or_default(), &secret.name_any());
        match self.secrets.delete(&key, secret.uid()).await {
            Ok(()) => debug!(secret = %key, "challenge removed"),
            // The next term removes it; until then it answers a question that nobody asks any more.
            Err(error) => warn!(%error, "cannot remove a challenge"),
        }
    }

    fn is_our_challenge(&self, secret: &Secret) -> bool {
        secret.annotations().get(CLASS) == Some(&self.registration.class)
            && secret
                .data
                .as_ref()
                .is_some_and(|data| data.contains_key(KEY_AUTHORIZATION))
    }

    fn annotations(&self, hostname: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (CLASS.to_owned(), self.registration.class.clone()),
            (HOSTNAME.to_owned(), hostname.to_owned()),
        ])
    }
}

/// What is still to be proven. None: the server remembers that it was.
async fn pending(order: &mut Order) -> Result<Option<Challenge>, Failure> {
    let mut authorizations = order.authorizations();
    while let Some(mut authorization) = call(async { authorizations.next().await.transpose() }).await? {
        match authorization.status {
            AuthorizationStatus::Valid => {}
            AuthorizationStatus::Pending => {
                let challenge = authorization.challenge(ChallengeType::Http01);
                let challenge = challenge.ok_or(Failure::NoChallenge)?;
                return Ok(Some(Challenge {
                    token: challenge.token.clone(),
                    key_authorization: challenge.key_authorization().as_str().to_owned(),
                }));
            }
            status => return Err(Failure::Invalid(format!("the authorization is {status:?}"))),
        }
    }
    Ok(None)
}

async fn set_ready(order: &mut Order) -> Result<(), Failure> {
    let mut authorizations = order.authorizations();
    while let Some(mut authorization) = call(async { authorizations.next().await.transpose() }).await? {
        if authorization.status == AuthorizationStatus::Pending {
            let challenge = authorization.challenge(ChallengeType::Http01);
            call(challenge.ok_or(Failure::NoChallenge)?.set_ready()).await?;
        }
    }
    Ok(())
}

/// What the server says of the challenge, which is more than it says of the order.
async fn reason(order: &mut Order, otherwise: String) -> String {
    let mut authorizations = order.authorizations();
    while let Ok(Some(mut authorization)) = call(async { authorizations.next().await.transpose() }).await {
        let Ok(state) = call(authorization.refresh()).await else {
            continue;
        };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return problem_text(problem);
        }
    }
    otherwise
}

fn kept(secret: &Secret, hostname: &str) -> Option<Validity> {
    let data = secret.data.as_ref()?;
    usable(&data.get(CHAIN)?.0, &data.get(KEY)?.0, hostname)
}

fn polling(limit: Duration) -> RetryPolicy {
    RetryPolicy::new()
        .initial_delay(Duration::from_millis(500))
        .backoff(1.5)
        .timeout(limit)
}

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
const KEY_AUTHORIZATION: &str = "keyAuthorization";

/// A whole order, whatever it hangs on.
const ORDER: Duration = Duration::from_secs(480);
/// From the challenge's Secret to the server's verdict.
const PROOF: Duration = Duration::from_secs(240);
/// Until our own snapshot has the challenge.
const SERVED: Duration = Duration::from_secs(30);
/// Then the other replicas' watches have it too, or will in a moment: they hear of it at the same time as ours, and an event
/// takes milliseconds. A server that asks one that lags behind all the same finds nothing, and the order is made again.
const REPLICAS: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long the server may take to look, and to issue.
const VALIDATION: Duration = Duration::from_secs(120);
const ISSUE: Duration = Duration::from_secs(120);
/// For the last call of a poll.
const GRACE: Duration = Duration::from_secs(30);

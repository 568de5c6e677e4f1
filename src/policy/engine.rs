//! Runs the rules that stand before one app over one request, in their order, until one refuses. Shadow rules decide like all
//! others, and nothing comes of it but a count and a record.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::time::{Instant, timeout};

use super::connection_limit::Lease;
use super::cors::{self, Cors};
use super::credentials::Authenticated;
use super::effort;
use super::forward_auth::Allowed;
use super::matcher::Care;
use super::mode::Mode;
use super::openapi::OpenApi;
use super::passed::Passed;
use super::path::AmbiguousPaths;
use super::principal::Principal;
use super::rate_limit::Standing;
use super::refusal::Refusal;
use super::request::Request;
use super::rule_state::Decision;
use super::trace::{Outcome, Step};
use super::{Action, Policy, Rule, RuleKind, Services, unix_seconds};
use crate::limits::shared::Visit;
use crate::reason::Reason;

/// One request's way through the rules.
pub struct Run<'a> {
    policies: &'a [Arc<Policy>],
    request: &'a Request<'a>,
    services: &'a Services,
    store: Visit<'a>,
    /// What has come of it so far: also of a request that is refused.
    pub passed: &'a mut Passed,
    /// Bytes of the head.
    size: usize,
    /// The next rule: of which policy, and where in it.
    at: (usize, usize),
    /// Answers this preflight, for which nobody is asked who is there: whatever ends the rules, the app never sees it.
    preflight: Option<&'a Cors>,
    /// Whom the rules of a policy in the shadow have found the request to be from.
    shadow: Option<Arc<Principal>>,
    /// The policy is in the shadow and would go no further: its other shadow rules are not asked, those that it enforces are.
    ended_in_shadow: bool,
    body: Option<Bytes>,
    /// Why the next rule does not get the body that it waits for.
    unread: Option<Reason>,
    /// What is left to rules that wait for somebody. Those in the shadow have their own, lest they take it from the others.
    left: Budgets,
    /// Kept where nobody has sent the request.
    trace: Option<Vec<Step>>,
}

/// All rules of a request together.
struct Budgets {
    enforced: Duration,
    shadow: Duration,
}

const BUDGET: Duration = Duration::from_secs(5);

/// How far the rules came.
pub enum Progress {
    /// All rules let the request pass.
    Passed,
    /// Nothing is left for the app.
    Answered(Response<Bytes>),
    /// The next rule looks at the body, which may have `limit` bytes. In the shadow it refuses none.
    WantsBody { limit: usize, mode: Mode },
}

/// What a rule makes of a request that it does not refuse.
enum Effect {
    None,
    EndPolicy,
    Answer(Box<Response<Bytes>>),
    Edit,
    Allowed(Allowed),
    Authenticated(Authenticated),
    Lease(Lease),
    Standing(Standing),
}

impl<'a> Run<'a> {
    /// What is asked of a request before the first rule. Refuses at once what rules on paths could be passed by, and texts that
    /// are too long for the regular expressions that they would be held against.
    pub async fn begin(
        policies: &'a [Arc<Policy>],
        request: &'a Request<'a>,
        paths: AmbiguousPaths,
        services: &'a Services,
        passed: &'a mut Passed,
    ) -> Result<Self, Refusal> {
        let mut run = Self {
            policies,
            request,
            services,
            store: services.shared.visit(),
            passed,
            at: (0, 0),
            size: request.size(),
            preflight: None,
            shadow: None,
            ended_in_shadow: false,
            body: None,
            unread: None,
            left: Budgets {
                enforced: BUDGET,
                shadow: BUDGET,
            },
            trace: None,
        };
        run.look_ahead().await;
        let reads_path = || policies.iter().any(|policy| policy.reads_path());
        if paths == AmbiguousPaths::Reject && request.readings().is_ambiguous() && reads_path() {
            return Err(Reason::AmbiguousPath.into());
        }
        for rule in policies.iter().flat_map(|policy| &policy.rules) {
            let exceeded = || rule.matches.iter().find_map(|one| one.exceeded(request));
            if rule.mode == Mode::Enforce
                && let Some(reason) = effort::look(run.looks(rule), run.namespace(), exceeded).await
            {
                return Err(reason.into());
            }
        }
        Ok(run)
    }

    /// Notes the rules of which nothing depends on what others say: those that want a record, and the first that says who may
    /// read the answer. A refusal by a rule before them is told of as well, and can be read.
    async fn look_ahead(&mut self) {
        let mut cors = None;
        for policy in self.policies {
            let enforced = policy.rules.iter().enumerate();
            for (at, rule) in enforced.filter(|(_, rule)| rule.mode == Mode::Enforce) {
                if let RuleKind::Logging(logging) = &rule.kind
                    && logging.is_due()
                    && self.applies(rule).await
                {
                    self.passed.logged.push((policy.clone(), at));
                }
                if let RuleKind::Cors(own) = &rule.kind
                    && cors.is_none()
                    && self.applies(rule).await
                {
                    cors = Some(own);
                }
            }
        }
        if cors::is_preflight(self.request) {
            self.preflight = cors;
        } else {
            self.passed.grant = cors.map(|cors| cors.grant(self.request));
        }
    }

    /// Goes on to the last rule, the first refusal, or what a rule waits for.
    pub async fn advance(&mut self) -> Result<Progress, Refusal> {
        let now = unix_seconds();
        while let Some(policy) = self.policies.get(self.at.0) {
            let Some(rule) = policy.rules.get(self.at.1) else {
                self.leave_policy();
                continue;
            };
            self.at.1 += 1;
            if self.preflight.is_some() && rule.is_skipped_for_preflights()
                || self.ended_in_shadow && rule.mode == Mode::Shadow
            {
                continue;
            }
            if !self.applies(rule).await {
                self.step(policy, rule, Outcome::DoesNotApply);
                continue;
            }
            if self.trace.is_some() && rule.has_side_effects() {
                self.step(policy, rule, Outcome::NotAsked);
                continue;
            }
            if let Some(limit) = self.wants_body(rule) {
                self.at.1 -= 1;
                return Ok(Progress::WantsBody { limit, mode: rule.mode });
            }
            let decided = match self.unread.take() {
                Some(reason) => Err(reason.into()),
                None => self.decide_in_time(rule, now).await,
            };
            match self.trace {
                None => rule.runtime.get().count(rule.mode, Decision::of(&decided)),
                Some(_) => self.step(policy, rule, outcome(&decided)),
            }
            match (rule.mode, decided) {
                (Mode::Enforce, Ok(effect)) => {
                    if let Some(answer) = self.take(policy, effect) {
                        return Ok(Progress::Answered(answer));
                    }
                }
                (Mode::Enforce, Err(refusal)) => return Err(refusal),
                (Mode::Shadow, decided) => self.note(policy, rule, decided),
            }
        }
        Ok(match self.preflight {
            Some(cors) => Progress::Answered(cors.preflight(self.request)),
            None => Progress::Passed,
        })
    }

    /// The same for a request that nobody has sent: what each rule would make of it, up to the first refusal.
    pub async fn trace(&mut self) -> Vec<Step> {
        self.trace = Some(Vec::new());
        let _ = self.advance().await;
        self.trace.take().unwrap_or_default()
    }

    fn step(&mut self, policy: &Policy, rule: &Rule, outcome: Outcome) {
        let Some(steps) = &mut self.trace else { return };
        steps.push(Step {
            policy: policy.key.clone(),
            rule: rule.name.clone(),
            kind: rule.kind.name(),
            mode: rule.mode,
            outcome,
        });
    }

    /// What the rule that waits for it is to look at, or why it cannot.
    pub fn give(&mut self, body: Result<Bytes, Reason>) {
        match body {
            Ok(body) => self.body = Some(body),
            Err(reason) => self.unread = Some(reason),
        }
    }

    async fn applies(&self, rule: &Rule) -> bool {
        let care = match rule.kind {
            RuleKind::Firewall(Action::Allow) => Care::AllReadings,
            _ => Care::AnyReading,
        };
        let holds = || rule.matches.iter().all(|one| one.holds(self.request, care));
        effort::look(self.looks(rule), self.namespace(), holds).await
    }

    /// Bytes that the conditions of a rule look at, at most: each goes over the head.
    fn looks(&self, rule: &Rule) -> u64 {
        (rule.matches.len() * self.size) as u64
    }

    async fn decide_in_time(&mut self, rule: &Rule, now: i64) -> Result<Effect, Refusal> {
        if !rule.may_wait() {
            return self.decide(rule, now).await;
        }
        let since = Instant::now();
        let left = match rule.mode {
            Mode::Enforce => self.left.enforced,
            Mode::Shadow => self.left.shadow,
        };
        let decided = timeout(left, self.decide(rule, now)).await;
        let left = left.saturating_sub(since.elapsed());
        match rule.mode {
            Mode::Enforce => self.left.enforced = left,
            Mode::Shadow => self.left.shadow = left,
        }
        decided.unwrap_or_else(|_elapsed| Err(Reason::PolicyTimeout.into()))
    }

    async fn decide(&self, rule: &Rule, now: i64) -> Result<Effect, Refusal> {
        let request = self.request;
        let state = rule.runtime.get();
        let shared = &self.store;
        let authenticated = |who: Option<Authenticated>| who.map_or(Effect::None, Effect::Authenticated);
        match &rule.kind {
            RuleKind::ApiKey(keys) => keys.check(request, now).map(authenticated),
            RuleKind::BasicAuth(users) => {
                let checked = users.check(request, self.namespace(), state).await;
                checked.map(Effect::Authenticated)
            }
            RuleKind::ConnectionLimit(limit) => {
                let lease = limit.take(request, self.principal(rule.mode), state, shared).await?;
                Ok(lease.map_or(Effect::None, Effect::Lease))
            }
            RuleKind::ForwardAuth(service) => {
                let checked = service.check(request, self.namespace(), &self.services.egress).await;
                checked.map(Effect::Allowed)
            }
            RuleKind::Jwt(jwt) => {
                let checked = jwt.check(request, now, self.namespace(), &state.guesses).await;
                checked.map(authenticated)
            }
            RuleKind::OpenApi(openapi) => self.validate(openapi).await,
            RuleKind::RateLimit(limit) => {
                let standing = limit.take(request, self.principal(rule.mode), state, shared).await?;
                Ok(standing.map_or(Effect::None, Effect::Standing))
            }
            RuleKind::Cors(cors) if self.preflight.is_some() => Ok(Effect::Answer(Box::new(cors.preflight(request)))),
            RuleKind::Firewall(Action::Allow) => Ok(Effect::EndPolicy),
            RuleKind::Firewall(Action::Deny) => Err(Reason::FirewallDenied.into()),
            RuleKind::Cors(_) | RuleKind::Logging(_) => Ok(Effect::None),
            RuleKind::Origin(origin) => origin.check(self.request).map(|()| Effect::None),
            RuleKind::RequestHeaders(_) | RuleKind::ResponseHeaders(_) => Ok(Effect::Edit),
        }
    }

    /// The namespace of the policy whose turn it is.
    fn namespace(&self) -> &'a Arc<str> {
        static NONE: LazyLock<Arc<str>> = LazyLock::new(Arc::default);
        let policies = self.policies;
        let policy = policies.get(self.at.0).or(policies.last());
        policy.map_or(&NONE, |policy| &policy.key.namespace)
    }

    /// How long a body may be that the rule has yet to see.
    fn wants_body(&self, rule: &Rule) -> Option<usize> {
        let RuleKind::OpenApi(openapi) = &rule.kind else {
            return None;
        };
        let read = self.body.is_some() || self.unread.is_some();
        let wanted = !read && openapi.needs_body(self.request.method, self.request.uri.path());
        wanted.then_some(openapi.max_body)
    }

    async fn validate(&self, openapi: &OpenApi) -> Result<Effect, Refusal> {
        let (request, body) = (self.request, self.body.as_ref());
        let validated = effort::validate(openapi, request, self.size, body, self.namespace()).await;
        validated.map(|()| Effect::None)
    }

    fn take(&mut self, policy: &Arc<Policy>, effect: Effect) -> Option<Response<Bytes>> {
        match effect {
            Effect::None => {}
            Effect::EndPolicy => self.leave_policy(),
            Effect::Allowed(allowed) => self.passed.allow(allowed),
            Effect::Authenticated(who) => self.passed.authenticate(who),
            Effect::Lease(lease) => self.passed.hold(lease),
            Effect::Standing(standing) => self.passed.stand(standing),
            Effect::Answer(answer) => return Some(*answer),
            Effect::Edit => self.passed.edit(policy, self.at.1 - 1),
        }
        None
    }

    /// A whole policy in the shadow goes as far as it would by itself.
    fn note(&mut self, policy: &Policy, rule: &Rule, decided: Result<Effect, Refusal>) {
        let ends = match decided {
            Ok(Effect::EndPolicy | Effect::Answer(_)) => true,
            Ok(Effect::Authenticated(who)) => {
                self.shadow.get_or_insert(who.principal);
                false
            }
            Ok(Effect::Allowed(Allowed {
                principal: Some(principal),
                ..
            })) => {
                self.shadow.get_or_insert(principal);
                false
            }
            // It is counted with those that are open, as it would be.
            Ok(Effect::Lease(lease)) => {
                self.passed.hold(lease);
                false
            }
            Ok(_) => false,
            Err(_) if self.trace.is_some() => true,
            Err(refusal) => {
                let (policy, rule, code) = (&policy.key, &rule.name, refusal.reason.code());
                tracing::info!(%policy, %rule, code, host = self.request.host, "a shadow rule would have refused");
                true
            }
        };
        self.ended_in_shadow |= ends && policy.mode == Mode::Shadow;
    }

    fn leave_policy(&mut self) {
        self.at = (self.at.0 + 1, 0);
        self.shadow = None;
        self.ended_in_shadow = false;
    }

    /// Who the request is from, as far as a rule of this mode may know. A certificate says so where no rule does.
    fn principal(&self, mode: Mode) -> Option<&Principal> {
        let shadow = self.shadow.as_deref().filter(|_| mode == Mode::Shadow);
        let enforced = self.passed.principal.as_deref();
        shadow
            .or(enforced)
            .or(self.request.certificate.map(|certificate| &**certificate))
    }
}

fn outcome(decided: &Result<Effect, Refusal>) -> Outcome {
    match decided {
        Err(refusal) => Outcome::Refuses(refusal.reason),
        Ok(Effect::EndPolicy) => Outcome::EndsPolicy,
        Ok(Effect::Answer(_)) => Outcome::Answers,
        Ok(Effect::Authenticated(_)) => Outcome::Authenticates,
        Ok(_) => Outcome::Passes,
    }
}

//! One rule, from the object to the data plane: every field is checked here, whatever the CRD's schema says. What it refers to
//! is looked up as it is at present.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

use super::matching::{header_name, matches, method};
use super::references::taken;
use super::{Lookups, authentication, limits};
use crate::api::condition::ConditionReason;
use crate::api::deployment::CaKind;
use crate::api::policy::{self as api, PolicyRule, SentinelPolicySpec};
use crate::compile::deployment::is_label;
use crate::compile::report::{Problem, Quoted};
use crate::policy::edits::is_editable;
use crate::policy::openapi::{OpenApi, Parts};
use crate::policy::origin::Origins;
use crate::policy::{Action, Cors, Edits, Kind, Logging, Mode, Origin, Rule};
use crate::snapshot::Slot;
use crate::store::ObjectKey;

/// What became of a policy's rules.
#[derive(Default)]
pub struct Rules {
    pub rules: Vec<Rule>,
    /// Of rules that are to be enforced and cannot be: nothing of the policy is in force for it.
    pub broken: Vec<Problem>,
    /// Of rules in the shadow, which are left out.
    pub left_out: Vec<Problem>,
    /// Of what is in force all the same.
    pub notes: Vec<Problem>,
}

/// Why a field cannot be used, and which one, as far as that is known.
#[derive(Debug)]
pub struct Invalid {
    field: String,
    reason: ConditionReason,
    message: String,
}

/// Says where in the object it stands.
pub trait At {
    fn at(self, field: impl fmt::Display) -> Self;
}

// As the CRD's schema has them.
pub const MAX_RULES: usize = 64;
pub const MAX_ITEMS: usize = 32;
pub const MAX_BODY: u32 = 16 * 1024 * 1024;

/// `mode` is the policy's.
pub fn rules(spec: &SentinelPolicySpec, mode: api::Mode, lookups: &Lookups<'_>) -> Rules {
    let mut made = Rules::default();
    let count = spec.rules.len();
    if !(1..=MAX_RULES).contains(&count) {
        let text = format!("spec.rules: has {count} items, but 1 to {MAX_RULES} are allowed");
        made.broken.push(Problem::invalid(text));
        return made;
    }
    let mut names = BTreeSet::new();
    for (at, rule) in spec.rules.iter().enumerate() {
        let mode = match rule.mode.unwrap_or(mode) {
            api::Mode::Enforce => Mode::Enforce,
            api::Mode::Shadow => Mode::Shadow,
        };
        let is_new = names.insert(rule.name.as_str());
        if !rule.enabled {
            continue;
        }
        let mut notes = Vec::new();
        let field = format!("spec.rules[{at}]");
        match self::rule(rule, mode, is_new, lookups, &mut notes) {
            Ok(rule) => made.rules.push(rule),
            Err(invalid) => {
                let problem = invalid.within(&field).problem();
                match mode {
                    Mode::Enforce => made.broken.push(problem),
                    Mode::Shadow => made.left_out.push(problem),
                }
            }
        }
        made.notes
            .extend(notes.into_iter().map(|note| note.within(&field).problem()));
    }
    made
}

fn rule(
    rule: &PolicyRule,
    mode: Mode,
    is_new: bool,
    lookups: &Lookups<'_>,
    notes: &mut Vec<Invalid>,
) -> Result<Rule, Invalid> {
    if !is_label(&rule.name) {
        let text = format!(
            "{} is not a valid name: use at most 63 lower-case letters, digits and inner hyphens",
            Quoted(&rule.name)
        );
        return Err(Invalid::new(text).within(".name"));
    }
    if !is_new {
        let text = format!("the name {} is used twice", Quoted(&rule.name));
        return Err(Invalid::new(text).within(".name"));
    }
    Ok(Rule {
        name: Arc::from(rule.name.as_str()),
        mode,
        matches: matches(&rule.matches).at(".match")?,
        kind: kind(rule, mode, lookups, notes)?,
        runtime: Slot::default(),
    })
}

fn kind(rule: &PolicyRule, mode: Mode, lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Result<Kind, Invalid> {
    let PolicyRule {
        name,
        enabled: _,
        mode: _,
        matches: _,
        firewall,
        api_key,
        jwt,
        basic_auth,
        forward_auth,
        rate_limit,
        connection_limit,
        origin,
        openapi,
        cors,
        request_headers,
        response_headers,
        logging,
    } = rule;
    names_one([
        ("firewall", firewall.is_some()),
        ("apiKey", api_key.is_some()),
        ("jwt", jwt.is_some()),
        ("basicAuth", basic_auth.is_some()),
        ("forwardAuth", forward_auth.is_some()),
        ("rateLimit", rate_limit.is_some()),
        ("connectionLimit", connection_limit.is_some()),
        ("origin", origin.is_some()),
        ("openapi", openapi.is_some()),
        ("cors", cors.is_some()),
        ("requestHeaders", request_headers.is_some()),
        ("responseHeaders", response_headers.is_some()),
        ("logging", logging.is_some()),
    ])?;
    if let Some(firewall) = firewall {
        Ok(Kind::Firewall(match firewall.action {
            api::Action::Allow => Action::Allow,
            api::Action::Deny => Action::Deny,
        }))
    } else if let Some(api_key) = api_key {
        let make = |notes: &mut _| authentication::api_key(api_key, lookups, notes);
        noted(".apiKey", notes, make).map(Kind::ApiKey)
    } else if let Some(basic_auth) = basic_auth {
        let make = |notes: &mut _| authentication::basic_auth(basic_auth, lookups, notes);
        noted(".basicAuth", notes, make).map(Kind::BasicAuth)
    } else if let Some(jwt) = jwt {
        let make = |notes: &mut _| authentication::jwt(jwt, lookups, notes);
        noted(".jwt", notes, make).map(Kind::Jwt)
    } else if let Some(forward_auth) = forward_auth {
        let made = authentication::forward_auth(forward_auth, lookups);
        made.map(Kind::ForwardAuth).at(".forwardAuth")
    } else if let Some(openapi) = openapi {
        let make = |notes: &mut _| self::openapi(openapi, lookups, notes);
        noted(".openapi", notes, make).map(Kind::OpenApi)
    } else if let Some(rate_limit) = rate_limit {
        let made = limits::rate_limit(rate_limit, name, mode, lookups);
        made.map(Kind::RateLimit).at(".rateLimit")
    } else if let Some(connection_limit) = connection_limit {
        let made = limits::connection_limit(connection_limit, name, mode, lookups);
        made.map(Kind::ConnectionLimit).at(".connectionLimit")
    } else if let Some(origin) = origin {
        self::origin(origin).map(Kind::Origin).at(".origin")
    } else if let Some(cors) = cors {
        self::cors(cors).map(Kind::Cors).at(".cors")
    } else if let Some(edits) = request_headers {
        self::edits(edits).map(Kind::RequestHeaders).at(".requestHeaders")
    } else if let Some(edits) = response_headers {
        self::edits(edits).map(Kind::ResponseHeaders).at(".responseHeaders")
    } else if let Some(logging) = logging {
        self::logging(logging).map(Kind::Logging).at(".logging")
    } else {
        // One of them is given.
        Err(Invalid::new("has no kind: it needs exactly one"))
    }
}

/// Says of both, the rule and what is to be told of it, where they stand.
pub fn noted<T>(
    field: &str,
    notes: &mut Vec<Invalid>,
    make: impl FnOnce(&mut Vec<Invalid>) -> Result<T, Invalid>,
) -> Result<T, Invalid> {
    let mut own = Vec::new();
    let made = make(&mut own).at(field);
    notes.extend(own.into_iter().map(|note| note.within(field)));
    made
}

fn origin(origin: &api::Origin) -> Result<Origin, Invalid> {
    Ok(Origin {
        allowed: origins(&origin.allowed).at(".allowed")?,
        allow_missing: origin.allow_missing,
    })
}

fn origins(list: &[String]) -> Result<Origins, Invalid> {
    bounded(list, 1)?;
    Origins::parse(list.iter().map(String::as_str)).map_err(Invalid::new)
}

fn openapi(rule: &api::OpenApi, lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Result<OpenApi, Invalid> {
    let key = ObjectKey::new(&lookups.policy.namespace, &rule.document_ref.name);
    let found = lookups.sources.document(&key);
    let document = taken(".documentRef", CaKind::ConfigMap, &key, found, notes)?;
    if !(1..=MAX_BODY).contains(&rule.max_body_bytes) {
        return Err(Invalid::new(format!("must be between 1 and {MAX_BODY}")).within(".maxBodyBytes"));
    }
    let holds = |part| rule.validate.contains(&part);
    Ok(OpenApi {
        document,
        parts: Parts {
            path: holds(api::Part::PathParameters),
            query: holds(api::Part::Query),
            headers: holds(api::Part::Headers),
            cookies: holds(api::Part::Cookies),
            body: holds(api::Part::Body),
        },
        max_body: usize::try_from(rule.max_body_bytes).unwrap_or(usize::MAX),
    })
}

fn cors(cors: &api::Cors) -> Result<Cors, Invalid> {
    const MAX_AGE: u64 = 24 * 60 * 60;
    let has_any = |list: &[String]| list.iter().any(|item| item == "*");
    let any = [&cors.origins, &cors.headers, &cors.exposed];
    if cors.credentials && any.into_iter().any(|list| has_any(list)) {
        return Err(Invalid::new(
            "with credentials: true, \"*\" is not allowed in origins, headers and exposed: list the values",
        ));
    }
    let names = |field: &str, list: &[String]| -> Result<Option<HeaderValue>, Invalid> {
        bounded(list, 0).at(field)?;
        for (at, text) in list.iter().enumerate().filter(|(_, text)| *text != "*") {
            header_name(text).at(format_args!("{field}[{at}]"))?;
        }
        value(&list.join(", ")).map(Some).at(field)
    };
    bounded(&cors.methods, 0).at(".methods")?;
    for (at, text) in cors.methods.iter().enumerate() {
        method(text).at(format_args!(".methods[{at}]"))?;
    }
    let max_age = cors.max_age.map(|age| age.0.as_secs());
    if max_age.is_some_and(|seconds| seconds > MAX_AGE) {
        return Err(Invalid::new("must be at most 24h").within(".maxAge"));
    }
    let headers = names(".headers", &cors.headers)?;
    let exposed = names(".exposed", &cors.exposed)?;
    Ok(Cors {
        origins: origins(&cors.origins).at(".origins")?,
        methods: Some(value(&cors.methods.join(", ")).at(".methods")?),
        // What is asked for: the asterisk itself does not stand for Authorization.
        headers: headers.filter(|_| !has_any(&cors.headers)),
        exposed: exposed.filter(|_| !cors.exposed.is_empty()),
        credentials: cors.credentials,
        max_age: max_age.and_then(|seconds| u32::try_from(seconds).ok()),
    })
}

fn edits(edits: &api::HeaderEdits) -> Result<Edits, Invalid> {
    let pairs = |field: &str, list: &[api::HeaderValue]| -> Result<Box<[_]>, Invalid> {
        bounded(list, 0).at(field)?;
        let pairs = list.iter().enumerate().map(|(at, header)| {
            let name = editable(&header.name).at(format_args!("{field}[{at}].name"))?;
            let value = value(&header.value).at(format_args!("{field}[{at}].value"))?;
            Ok((name, value))
        });
        pairs.collect()
    };
    Ok(Edits {
        set: pairs(".set", &edits.set)?,
        add: pairs(".add", &edits.add)?,
        remove: names(&edits.remove, editable).at(".remove")?,
    })
}

fn logging(logging: &api::Logging) -> Result<Logging, Invalid> {
    let sample = u8::try_from(logging.sample).ok();
    Ok(Logging {
        request_headers: names(&logging.request_headers, header_name).at(".requestHeaders")?,
        response_headers: names(&logging.response_headers, header_name).at(".responseHeaders")?,
        query: logging.query,
        sample: sample
            .filter(|sample| (1..=100).contains(sample))
            .ok_or_else(|| Invalid::new("must be between 1 and 100").within(".sample"))?,
    })
}

/// Each of a list, by `parse`.
pub fn names<T>(list: &[String], parse: impl Fn(&str) -> Result<T, Invalid>) -> Result<Box<[T]>, Invalid> {
    bounded(list, 0)?;
    let parsed = list.iter().enumerate();
    parsed
        .map(|(at, text)| parse(text).at(format_args!("[{at}]")))
        .collect()
}

/// A header's name that rules may touch.
pub fn editable(text: &str) -> Result<http::HeaderName, Invalid> {
    let name = header_name(text)?;
    if is_editable(&name) {
        Ok(name)
    } else {
        let text = format!("{} is reserved for Postern or the connection", Quoted(text));
        Err(Invalid::new(text))
    }
}

/// The text itself is not told: it may be a secret that an app expects.
pub fn value(text: &str) -> Result<HeaderValue, Invalid> {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text;
    let value = HeaderValue::from_str(text).ok().filter(|_| printable);
    value.ok_or_else(|| Invalid::new("must be printable ASCII without leading or trailing spaces"))
}

pub fn bounded<T>(list: &[T], min: usize) -> Result<(), Invalid> {
    if (min..=MAX_ITEMS).contains(&list.len()) {
        return Ok(());
    }
    let count = list.len();
    Err(Invalid::new(format!(
        "has {count} items, but {min} to {MAX_ITEMS} are allowed"
    )))
}

/// Exactly one of several fields is to be given: an older Postern sees none where a newer one knows another.
pub fn names_one<const N: usize>(fields: [(&str, bool); N]) -> Result<(), Invalid> {
    match fields.iter().filter(|(_, given)| *given).count() {
        1 => Ok(()),
        count => {
            let all = fields.map(|(field, _)| field).join(", ");
            let found = if count == 0 { "none" } else { "several" };
            Err(Invalid::new(format!("needs exactly one of {all}, but has {found}")))
        }
    }
}

impl Invalid {
    pub fn new(message: impl Into<String>) -> Self {
        Self::of(ConditionReason::Invalid, message)
    }

    pub fn of(reason: ConditionReason, message: impl Into<String>) -> Self {
        Self {
            field: String::new(),
            reason,
            message: message.into(),
        }
    }

    pub fn within(mut self, field: impl fmt::Display) -> Self {
        self.field = format!("{field}{}", self.field);
        self
    }

    pub fn problem(self) -> Problem {
        Problem {
            reason: self.reason,
            message: format!("{}: {}", self.field, self.message),
        }
    }
}

impl<T> At for Result<T, Invalid> {
    fn at(self, field: impl fmt::Display) -> Self {
        self.map_err(|invalid| invalid.within(field))
    }
}

//! One rule, from the object to the data plane: every field is checked here, whatever the CRD's schema says. What it refers to
//! is looked up as it is at present.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderValue;

use super::invalid::{At, Invalid, bounded, names, names_one, noted, value};
use super::lookups::Lookups;
use super::matching::{RegexBudget, editable, header_name, matches, method};
use super::references::taken;
use super::{authentication, limits};
use crate::api::policy::{self, PolicyRule, SentinelPolicySpec};
use crate::compile::problem::{Problem, Quoted};
use crate::compile::syntax::is_label;
use crate::object::ObjectId;
use crate::policy::mode::Mode;
use crate::policy::openapi::Parts;
use crate::policy::origin::Origins;
use crate::policy::{Action, Cors, Edits, Logging, OpenApi, Origin, Rule, RuleKind};
use crate::runtime::Slot;

/// What became of a policy's rules.
#[derive(Default)]
pub struct Rules {
    pub rules: Vec<Rule>,
    /// Problems of rules that must be enforced and cannot be: because of them nothing of the policy is in force.
    pub broken: Vec<Problem>,
    /// Problems of Shadow rules, which are left out.
    pub left_out: Vec<Problem>,
    /// Problems of rules that are in force all the same.
    pub notes: Vec<Problem>,
}

// As the CRD's schema has them.
/// Rules of one policy.
pub const MAX_RULES: usize = 64;

/// Bytes of a body that an openapi rule may be told to read.
pub const MAX_BODY: u32 = 16 * 1024 * 1024;

/// `mode` is the policy's.
pub fn rules(spec: &SentinelPolicySpec, mode: policy::Mode, lookups: &Lookups<'_>) -> Rules {
    let mut made = Rules::default();
    let count = spec.rules.len();
    if !(1..=MAX_RULES).contains(&count) {
        let text = format!("has {count} items, but 1 to {MAX_RULES} are allowed");
        made.broken.push(Problem::invalid("spec.rules", text));
        return made;
    }
    let mut names = BTreeSet::new();
    // Apart, so that nothing in the shadow takes what an enforced rule needs.
    let (mut enforced, mut shadow) = (RegexBudget::default(), RegexBudget::default());
    for (at, rule) in spec.rules.iter().enumerate() {
        let mode = match rule.mode.unwrap_or(mode) {
            policy::Mode::Enforce => Mode::Enforce,
            policy::Mode::Shadow => Mode::Shadow,
        };
        let is_new = names.insert(rule.name.as_str());
        if !rule.enabled {
            continue;
        }
        let mut notes = Vec::new();
        let field = format!("spec.rules[{at}]");
        let regexes = match mode {
            Mode::Enforce => &mut enforced,
            Mode::Shadow => &mut shadow,
        };
        match self::rule(rule, mode, is_new, (lookups, regexes), &mut notes) {
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
    (lookups, regexes): (&Lookups<'_>, &mut RegexBudget),
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
        matches: matches(&rule.matches, regexes).at(".match")?,
        kind: kind(rule, mode, lookups, notes)?,
        runtime: Slot::default(),
    })
}

fn kind(rule: &PolicyRule, mode: Mode, lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Result<RuleKind, Invalid> {
    // Taken apart, so that a new kind cannot be forgotten here.
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
    has_one_kind(rule)?;
    if let Some(firewall) = firewall {
        Ok(RuleKind::Firewall(action(firewall.action)))
    } else if let Some(api_key) = api_key {
        let make = |notes: &mut _| authentication::api_key(api_key, lookups, notes);
        noted(".apiKey", notes, make).map(RuleKind::ApiKey)
    } else if let Some(basic_auth) = basic_auth {
        let make = |notes: &mut _| authentication::basic_auth(basic_auth, lookups, notes);
        noted(".basicAuth", notes, make).map(RuleKind::BasicAuth)
    } else if let Some(jwt) = jwt {
        let make = |notes: &mut _| authentication::jwt(jwt, lookups, notes);
        noted(".jwt", notes, make).map(RuleKind::Jwt)
    } else if let Some(forward_auth) = forward_auth {
        let made = authentication::forward_auth(forward_auth, lookups);
        made.map(RuleKind::ForwardAuth).at(".forwardAuth")
    } else if let Some(openapi) = openapi {
        let make = |notes: &mut _| self::openapi(openapi, lookups, notes);
        noted(".openapi", notes, make).map(RuleKind::OpenApi)
    } else if let Some(rate_limit) = rate_limit {
        let made = limits::rate_limit(rate_limit, name, mode, lookups);
        made.map(RuleKind::RateLimit).at(".rateLimit")
    } else if let Some(connection_limit) = connection_limit {
        let made = limits::connection_limit(connection_limit, name, mode, lookups);
        made.map(RuleKind::ConnectionLimit).at(".connectionLimit")
    } else if let Some(origin) = origin {
        self::origin(origin).map(RuleKind::Origin).at(".origin")
    } else if let Some(cors) = cors {
        self::cors(cors).map(RuleKind::Cors).at(".cors")
    } else if let Some(edits) = request_headers {
        self::edits(edits).map(RuleKind::RequestHeaders).at(".requestHeaders")
    } else if let Some(edits) = response_headers {
        self::edits(edits).map(RuleKind::ResponseHeaders).at(".responseHeaders")
    } else if let Some(logging) = logging {
        self::logging(logging).map(RuleKind::Logging).at(".logging")
    } else {
        // One of them is given.
        Err(Invalid::new("has no kind: it needs exactly one"))
    }
}

fn action(action: policy::Action) -> Action {
    match action {
        policy::Action::Allow => Action::Allow,
        policy::Action::Deny => Action::Deny,
    }
}

fn has_one_kind(rule: &PolicyRule) -> Result<(), Invalid> {
    names_one([
        ("firewall", rule.firewall.is_some()),
        ("apiKey", rule.api_key.is_some()),
        ("jwt", rule.jwt.is_some()),
        ("basicAuth", rule.basic_auth.is_some()),
        ("forwardAuth", rule.forward_auth.is_some()),
        ("rateLimit", rule.rate_limit.is_some()),
        ("connectionLimit", rule.connection_limit.is_some()),
        ("origin", rule.origin.is_some()),
        ("openapi", rule.openapi.is_some()),
        ("cors", rule.cors.is_some()),
        ("requestHeaders", rule.request_headers.is_some()),
        ("responseHeaders", rule.response_headers.is_some()),
        ("logging", rule.logging.is_some()),
    ])
}

fn origin(origin: &policy::Origin) -> Result<Origin, Invalid> {
    Ok(Origin {
        allowed: origins(&origin.allowed).at(".allowed")?,
        allow_missing: origin.allow_missing,
    })
}

fn origins(list: &[String]) -> Result<Origins, Invalid> {
    bounded(list, 1)?;
    Origins::parse(list.iter().map(String::as_str)).map_err(Invalid::new)
}

fn openapi(rule: &policy::OpenApi, lookups: &Lookups<'_>, notes: &mut Vec<Invalid>) -> Result<OpenApi, Invalid> {
    let map = ObjectId::config_map(&lookups.policy.namespace, &rule.document_ref.name);
    let document = taken(".documentRef", &map, lookups.sources.document(&map), notes)?;
    if !(1..=MAX_BODY).contains(&rule.max_body_bytes) {
        return Err(Invalid::new(format!("must be between 1 and {MAX_BODY}")).within(".maxBodyBytes"));
    }
    let holds = |part| rule.validate.contains(&part);
    Ok(OpenApi {
        document,
        parts: Parts {
            path: holds(policy::Part::PathParameters),
            query: holds(policy::Part::Query),
            headers: holds(policy::Part::Headers),
            cookies: holds(policy::Part::Cookies),
            body: holds(policy::Part::Body),
        },
        max_body: usize::try_from(rule.max_body_bytes).unwrap_or(usize::MAX),
    })
}

fn cors(cors: &policy::Cors) -> Result<Cors, Invalid> {
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

fn edits(edits: &policy::HeaderEdits) -> Result<Edits, Invalid> {
    let pairs = |field: &str, list: &[policy::HeaderValue]| -> Result<Box<[_]>, Invalid> {
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

fn logging(logging: &policy::Logging) -> Result<Logging, Invalid> {
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

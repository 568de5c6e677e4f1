//! What rules say of a request, read off the objects one after another: no compiling, no sharing, no shortcuts. A rule in the
//! shadow is as if it were not there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use postern::api::policy::{
    Action, ApiKey, By, CredentialSource, HeaderEdits, Match, Mode, Origin, PolicyRule, RateLimit, SentinelPolicySpec,
    TextMatch,
};
use regex::Regex;
use serde_json::Value;

use super::world::{Ask, HOST};

/// What comes before the app, with what it remembers.
pub struct Model {
    /// In the order in which they are asked.
    policies: Vec<(String, SentinelPolicySpec)>,
    rejects_ambiguous: bool,
    /// What each rule has let pass, by what it counts apart.
    taken: BTreeMap<(String, String, Vec<String>), u32>,
}

/// What the app gets.
#[derive(Debug, Default)]
pub struct Passage {
    pub principal: Option<String>,
    /// In lower case.
    pub headers: Vec<(String, String)>,
    /// Where nothing may be left for the app to see.
    pub hidden: Vec<CredentialSource>,
}

/// Where credentials stand.
pub struct Texts<'a> {
    pub query: Option<&'a str>,
    pub headers: &'a [(String, String)],
}

struct Key {
    presented: &'static str,
    secret: &'static str,
    tier: &'static str,
    subject: &'static str,
    permissions: &'static [&'static str],
}

/// Those of `world::site` that can be used at all.
const KEYS: [Key; 2] = [
    Key {
        presented: "alpha-key",
        secret: "alpha",
        tier: "a",
        subject: "ann",
        permissions: &["read"],
    },
    Key {
        presented: "beta-key",
        secret: "beta",
        tier: "b",
        subject: "beta",
        permissions: &["read", "write"],
    },
];

/// Of both.
const PLAN: &str = "gold";

impl Model {
    pub fn new(policies: &[Value], ambiguous_paths: &str) -> Self {
        let mut ordered: Vec<_> = policies
            .iter()
            .map(|policy| {
                let spec: SentinelPolicySpec = serde_json::from_value(policy["spec"].clone()).expect("a spec");
                let metadata = |field: &str| policy["metadata"][field].as_str().expect("a text").to_owned();
                ((-spec.priority, metadata("creationTimestamp"), metadata("name")), spec)
            })
            .filter(|(_, spec)| concerns_the_app(spec))
            .collect();
        ordered.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self {
            policies: ordered.into_iter().map(|((.., name), spec)| (name, spec)).collect(),
            rejects_ambiguous: ambiguous_paths == "Reject",
            taken: BTreeMap::new(),
        }
    }

    /// What the app gets, or the code of the refusal.
    pub fn decide(&mut self, ask: &Ask) -> Result<Passage, &'static str> {
        let path = ask.target.split('?').next().unwrap_or_default();
        let policies = self.policies.iter();
        let mut enforced = policies.flat_map(|(_, spec)| spec.rules.iter().filter(|rule| is_enforced(spec, rule)));
        if self.rejects_ambiguous && is_ambiguous(path) && enforced.any(goes_by_the_path) {
            return Err("client:ambiguous_path");
        }
        let given = ask.headers.iter();
        let mut passage = Passage {
            headers: given
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Passage::default()
        };
        // Rules look at what the client sent, whatever other rules make of it.
        let sent = passage.headers.clone();
        let texts = Texts {
            query: ask.target.split_once('?').map(|(_, query)| query),
            headers: &sent,
        };
        for (policy, spec) in &self.policies {
            for rule in spec.rules.iter().filter(|rule| is_enforced(spec, rule)) {
                let allows = matches!(&rule.firewall, Some(firewall) if firewall.action == Action::Allow);
                if !rule.matches.iter().all(|one| holds(one, ask, path, &texts, allows)) {
                    continue;
                }
                if allows {
                    break;
                }
                if rule.firewall.is_some() {
                    return Err("client:firewall_denied");
                }
                if let Some(origin) = &rule.origin
                    && !is_allowed(origin, ask)
                {
                    return Err("client:origin_denied");
                }
                if let Some(api_key) = &rule.api_key
                    && let Some(subject) = who(api_key, &texts)?
                {
                    passage.principal.get_or_insert(subject.to_owned());
                    let hidden = api_key.from.iter().filter(|source| !is_forwarded(source));
                    passage.hidden.extend(hidden.cloned());
                }
                if let Some(limit) = &rule.rate_limit {
                    let key = (policy.clone(), rule.name.clone(), parts(limit, ask, path, &passage));
                    let taken = self.taken.entry(key).or_default();
                    if *taken + limit.cost > limit.limit {
                        return Err("client:rate_limited");
                    }
                    *taken += limit.cost;
                }
                if let Some(edits) = &rule.request_headers {
                    edit(edits, &mut passage.headers);
                }
            }
        }
        Ok(passage)
    }
}

fn concerns_the_app(spec: &SentinelPolicySpec) -> bool {
    match &spec.target_selector {
        Some(selector) => selector
            .match_labels
            .iter()
            .all(|(name, value)| (&name[..], &value[..]) == ("tier", "web")),
        None => spec.target_refs.iter().any(|target| target.name == "app"),
    }
}

fn is_enforced(spec: &SentinelPolicySpec, rule: &PolicyRule) -> bool {
    rule.enabled && rule.mode.unwrap_or(spec.mode) == Mode::Enforce
}

fn goes_by_the_path(rule: &PolicyRule) -> bool {
    let counts = |limit: &RateLimit| limit.by.iter().any(|part| part.path.is_some());
    rule.matches.iter().any(|one| one.path.is_some()) || rule.rate_limit.as_ref().is_some_and(counts)
}

fn is_ambiguous(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let dots = lower
        .split('/')
        .any(|segment| segment.contains("%2e") && matches!(&*segment.replace("%2e", "."), "." | ".."));
    let escapes = lower.split('%').skip(1);
    let broken = escapes
        .map(|after| after.as_bytes())
        .any(|after| after.len() < 2 || !after[..2].iter().all(u8::is_ascii_hexdigit));
    let marks = ["//", "\\", "%2f", "%5c", "%00"];
    marks.iter().any(|mark| lower.contains(mark)) || dots || broken || percent_decode_str(path).decode_utf8().is_err()
}

/// What apps may take a path for: by the standard; by one that resolves nothing; by one that takes all for a slash that
/// could be one, and knows of parameters; by one of those to which a NUL is the end; by those that know of parameters alone,
/// before or after they decode, and merge slashes or not.
fn forms(path: &str) -> Vec<String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let bare = |path: &str| {
        let segments = path.split('/').map(|segment| segment.split(';').next());
        segments.flatten().collect::<Vec<_>>().join("/")
    };
    let merged = |path: &str| {
        let mut path = path.to_owned();
        while path.contains("//") {
            path = path.replace("//", "/");
        }
        path
    };
    let liberal = |path: &str| resolved(&merged(&bare(&path.replace('\\', "/"))));
    let mut forms = vec![decoded(path)];
    for once in [decoded(&bare(path)), decoded(path)] {
        let whole = once.split('\0').next().unwrap_or_default();
        forms.extend([
            liberal(&once),
            liberal(whole),
            resolved(&once),
            resolved(&merged(&once)),
            resolved(&bare(&once)),
            resolved(&merged(&bare(&once))),
        ]);
    }
    forms
}

/// That of an app that drops parameters, then decodes, takes all for a slash that could be one, and ends at a NUL.
fn most_liberal(path: &str) -> String {
    forms(path).swap_remove(2)
}

fn resolved(path: &str) -> String {
    let segments: Vec<_> = path.split('/').skip(1).collect();
    let mut kept = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        if *segment == ".." {
            kept.pop();
        } else if *segment != "." {
            kept.push(*segment);
            continue;
        }
        if at + 1 == segments.len() {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// `all`: of a path or a method that has several forms, all have to match.
fn holds(one: &Match, ask: &Ask, path: &str, texts: &Texts<'_>, all: bool) -> bool {
    if let Some(text) = &one.path {
        let matches = |form: &String| {
            let exact = text.exact.as_ref().map(|exact| same(form, exact, text.ignore_case));
            let prefix = text.prefix.as_ref().map(|prefix| {
                let (form, prefix) = folded(form, prefix.trim_end_matches('/'), text.ignore_case);
                form == prefix || form.starts_with(&format!("{prefix}/"))
            });
            let suffix = text.suffix.as_ref().map(|suffix| ends(form, suffix, text.ignore_case));
            let regex = text.regex.as_ref().map(|regex| fits(form, regex, text.ignore_case));
            exact.or(prefix).or(suffix).or(regex).expect("one of them") != one.not
        };
        return match all {
            true => forms(path).iter().all(matches),
            false => forms(path).iter().any(matches),
        };
    }
    let held = if let Some(header) = &one.header {
        let elements = |line: &String| line.split(',').map(|element| element.trim().to_owned()).collect();
        let lines: Vec<(String, Vec<String>)> = lines(&header.name, texts)
            .into_iter()
            .map(|line| (line.clone(), elements(&line)))
            .collect();
        is(header.present, header.value.as_ref(), &lines, all != one.not)
    } else if let Some(query) = &one.query {
        is(
            query.present,
            query.value.as_ref(),
            &single(parameters(&query.name, texts)),
            all != one.not,
        )
    } else if let Some(cookie) = &one.cookie {
        is(
            cookie.present,
            cookie.value.as_ref(),
            &single(cookies(&cookie.name, texts)),
            all != one.not,
        )
    } else if let Some(wanted) = one.web_socket {
        ask.web_socket == wanted
    } else if one.method.is_empty() {
        one.remote_ip.iter().any(|network| lies_in(ask.client, network))
    } else {
        let readings = [ask.method.to_owned(), ask.method.to_uppercase()];
        let mut holding = readings.iter().map(|method| one.method.contains(method) != one.not);
        return match all {
            true => holding.all(|holds| holds),
            false => holding.any(|holds| holds),
        };
    };
    held != one.not
}

/// A value that is no list is the one element of it.
fn single(values: Vec<String>) -> Vec<(String, Vec<String>)> {
    values.into_iter().map(|value| (value.clone(), vec![value])).collect()
}

/// Each value is read whole, or as the elements of a list.
fn is(present: Option<bool>, text: Option<&TextMatch>, values: &[(String, Vec<String>)], all: bool) -> bool {
    let Some(text) = text else {
        return values.is_empty() != present.unwrap_or(true);
    };
    if !all {
        return values
            .iter()
            .any(|(whole, list)| reads(whole, text) || list.iter().any(|one| reads(one, text)));
    }
    let mut count = 0;
    for (whole, list) in values {
        if !reads(whole, text) && !list.iter().all(|one| reads(one, text)) {
            return false;
        }
        count += 1;
    }
    count > 0
}

fn reads(value: &str, text: &TextMatch) -> bool {
    let ignore = text.ignore_case;
    let exact = text.exact.as_ref().map(|exact| same(value, exact, ignore));
    let prefix = text.prefix.as_ref().map(|prefix| {
        let (value, prefix) = folded(value, prefix, ignore);
        value.starts_with(&prefix)
    });
    let suffix = text.suffix.as_ref().map(|suffix| ends(value, suffix, ignore));
    let regex = text.regex.as_ref().map(|regex| fits(value, regex, ignore));
    exact.or(prefix).or(suffix).or(regex).expect("one of them")
}

fn folded(one: &str, other: &str, ignore_case: bool) -> (String, String) {
    match ignore_case {
        true => (one.to_lowercase(), other.to_lowercase()),
        false => (one.to_owned(), other.to_owned()),
    }
}

fn same(one: &str, other: &str, ignore_case: bool) -> bool {
    let (one, other) = folded(one, other, ignore_case);
    one == other
}

fn ends(text: &str, suffix: &str, ignore_case: bool) -> bool {
    let (text, suffix) = folded(text, suffix, ignore_case);
    text.ends_with(&suffix)
}

fn fits(text: &str, regex: &str, ignore_case: bool) -> bool {
    let flags = if ignore_case { "(?si)" } else { "(?s)" };
    Regex::new(&format!("{flags}^(?:{regex})$"))
        .expect("a regex")
        .is_match(text)
}

fn lies_in(address: IpAddr, network: &str) -> bool {
    let (base, bits) = network.split_once('/').expect("a network");
    let bits: u32 = bits.parse().expect("a length");
    match (address, base.parse().expect("an address")) {
        (IpAddr::V4(address), IpAddr::V4(base)) => (address.to_bits() ^ base.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(address), IpAddr::V6(base)) => (address.to_bits() ^ base.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

/// In every spelling that an app could read as the name.
fn lines(name: &str, texts: &Texts<'_>) -> Vec<String> {
    let dashed = |name: &str| name.to_lowercase().replace('_', "-");
    let named = texts.headers.iter().filter(|(found, _)| dashed(found) == dashed(name));
    named.map(|(_, value)| value.clone()).collect()
}

/// To some apps `;` separates as well.
fn parameters(name: &str, texts: &Texts<'_>) -> Vec<String> {
    let query = texts.query.unwrap_or_default();
    let pairs = query.split('&').chain(query.split(['&', ';']));
    let decoded = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let named = pairs.filter(|(found, _)| decoded(found) == name);
    named.map(|(_, value)| decoded(value)).collect()
}

fn cookies(name: &str, texts: &Texts<'_>) -> Vec<String> {
    let lines = texts.headers.iter().filter(|(name, _)| name == "cookie");
    let pairs = lines.flat_map(|(_, line)| line.split(';').filter_map(|pair| pair.trim().split_once('=')));
    let named = pairs.filter(|(found, _)| *found == name);
    named.map(|(_, value)| value.trim_matches('"').to_owned()).collect()
}

fn is_allowed(origin: &Origin, ask: &Ask) -> bool {
    let sent: Vec<_> = ask.headers.iter().filter(|(name, _)| *name == "origin").collect();
    let [(_, sent)] = sent[..] else {
        return sent.is_empty() && origin.allow_missing;
    };
    let sent = usual(sent);
    origin.allowed.iter().any(|allowed| match allowed.split_once("*.") {
        _ if allowed == "same-host" => {
            let own = |scheme: &str| usual(&format!("{scheme}://{}", ask.authority));
            sent == own("https") || !ask.https && sent == own("http")
        }
        Some((scheme, parent)) => {
            let label = sent
                .strip_prefix(scheme)
                .and_then(|host| host.strip_suffix(&format!(".{parent}")));
            label.is_some_and(|label| !label.contains('.'))
        }
        None => sent == usual(allowed),
    })
}

/// Hosts have no case, and what is no other port is the scheme's own.
fn usual(origin: &str) -> String {
    let origin = origin.to_lowercase();
    match origin.strip_prefix("https://") {
        Some(_) => origin.trim_end_matches(":443").to_owned(),
        None => origin.trim_end_matches(":80").to_owned(),
    }
}

fn is_forwarded(source: &CredentialSource) -> bool {
    source
        .forward
        .unwrap_or(source.query.is_none() && source.subprotocol.is_none())
}

/// None: nobody in particular.
fn who(rule: &ApiKey, texts: &Texts<'_>) -> Result<Option<&'static str>, &'static str> {
    let mut shown = None;
    for source in &rule.from {
        shown = credential(source, texts).map_err(|()| "client:invalid_key")?;
        if shown.is_some() {
            break;
        }
    }
    let Some(shown) = shown else {
        return match rule.optional {
            true => Ok(None),
            false => Err("client:missing_credentials"),
        };
    };
    let taken = |key: &&Key| match &rule.secret_selector {
        Some(selector) => selector.match_labels.get("tier").is_none_or(|tier| tier == key.tier),
        None => rule.secret_refs.iter().any(|named| named.name == key.secret),
    };
    let key = KEYS.iter().filter(taken).find(|key| key.presented == shown);
    let key = key.ok_or("client:invalid_key")?;
    let held = |permission| key.permissions.contains(&permission);
    let permitted = match rule.permissions.as_deref() {
        None => true,
        Some("read") => held("read"),
        Some("read AND write") => held("read") && held("write"),
        Some("admin OR read") => held("admin") || held("read"),
        Some("read AND (write OR admin)") => held("read") && (held("write") || held("admin")),
        Some("admin AND write OR read") => (held("admin") && held("write")) || held("read"),
        Some(other) => panic!("{other} is not drawn"),
    };
    match permitted {
        true => Ok(Some(key.subject)),
        false => Err("client:insufficient_permissions"),
    }
}

/// What stands in that place. Values that differ are no credential.
pub fn credential(source: &CredentialSource, texts: &Texts<'_>) -> Result<Option<String>, ()> {
    let after = |prefix: &str, line: &str| {
        let begins = line.to_lowercase().starts_with(&prefix.to_lowercase());
        begins.then(|| line[prefix.len()..].to_owned())
    };
    let mut scheme = None;
    let values = if source.bearer.is_some() {
        scheme = Some("bearer");
        lines("authorization", texts)
    } else if let Some(header) = &source.header {
        scheme = header.prefix.as_deref();
        lines(&header.name, texts)
    } else if let Some(query) = &source.query {
        parameters(&query.name, texts)
    } else if let Some(cookie) = &source.cookie {
        cookies(&cookie.name, texts)
    } else {
        let prefix = &source.subprotocol.as_ref().expect("one of them").prefix;
        let lines = lines("sec-websocket-protocol", texts);
        let entries = lines.iter().flat_map(|line| line.split(',').map(str::trim));
        entries
            .filter_map(|entry| entry.strip_prefix(&**prefix).map(str::to_owned))
            .collect()
    };
    let distinct: BTreeSet<_> = values.into_iter().collect();
    if distinct.len() > 1 {
        return Err(());
    }
    let value = distinct
        .into_iter()
        .next()
        .and_then(|line| after(scheme.unwrap_or_default(), &line));
    let value = value
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty());
    match value {
        // A token is one word.
        Some(token) if source.bearer.is_some() && token.contains(' ') => Err(()),
        value => Ok(value),
    }
}

/// Who is counted apart.
fn parts(limit: &RateLimit, ask: &Ask, path: &str, passage: &Passage) -> Vec<String> {
    let address = |bits: u32| match ask.client {
        IpAddr::V6(address) => format!("address {}", address.to_bits() >> (128 - bits)),
        IpAddr::V4(address) => format!("address {address}"),
    };
    let part = |by: &By| {
        let of_principal = |text: &str| passage.principal.is_some().then(|| text.to_owned());
        if let Some(remote_ip) = by.remote_ip {
            Some(address(remote_ip.ipv6_prefix_length))
        } else if let Some(header) = &by.header {
            let named = ask
                .headers
                .iter()
                .filter(|(name, _)| *name == header.name.to_lowercase());
            let values: Vec<_> = named.map(|(_, value)| *value).collect();
            let said = values.iter().any(|value| !value.is_empty());
            said.then(|| format!("header {values:?}"))
        } else if by.authenticated_subject.is_some() {
            passage.principal.as_ref().map(|subject| format!("subject {subject}"))
        } else if by.path.is_some() {
            Some(format!("path {}", most_liberal(path)))
        } else if by.principal_field.is_some() {
            of_principal(PLAN)
        } else {
            Some(HOST.to_owned())
        }
    };
    limit
        .by
        .iter()
        .map(|by| part(by).unwrap_or_else(|| address(64)))
        .collect()
}

/// First remove, then set, then add.
fn edit(edits: &HeaderEdits, headers: &mut Vec<(String, String)>) {
    let dashed = |name: &str| name.to_lowercase().replace('_', "-");
    let names = edits.remove.iter().chain(edits.set.iter().map(|header| &header.name));
    for name in names {
        headers.retain(|(found, _)| dashed(found) != dashed(name));
    }
    for header in edits.set.iter().chain(&edits.add) {
        headers.push((header.name.to_lowercase(), header.value.clone()));
    }
}

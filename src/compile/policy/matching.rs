//! When a rule applies: from the object's matches to what the data plane holds against requests.

use http::{HeaderName, Method};
use ipnet::IpNet;

use super::invalid::{At, Invalid, names_one};
use crate::api::policy::{self, HeaderMatch, ParameterMatch};
use crate::compile::problem::Quoted;
use crate::matching::regex::RegexError;
use crate::matching::{Text, TextKind};
use crate::policy::Match;
use crate::policy::edits::is_editable;
use crate::policy::matcher::{On, Value};

/// As the CRD's schema has it.
pub const MAX_MATCHES: usize = 16;

/// Regular expressions of one policy, enforced and in the shadow apart: each may be held against a text of every request, in
/// all readings of its path.
pub const MAX_REGEXES: usize = 128;
/// What the automata of one policy may take together.
pub const MAX_REGEX_BYTES: usize = 4 * 1024 * 1024;

/// What the regular expressions of a policy's enforced rules, or of those in the shadow, have taken so far. One that is
/// too complex counts as all of it: finding that out takes longer than to build one that fits.
#[derive(Debug, Default)]
pub struct RegexBudget {
    count: usize,
    bytes: usize,
}

impl RegexBudget {
    fn is_left(&mut self) -> Result<(), Invalid> {
        self.count += 1;
        if self.count > MAX_REGEXES {
            return Err(Invalid::new(format!(
                "is one regex too many: a policy may have {MAX_REGEXES}"
            )));
        }
        if self.bytes > MAX_REGEX_BYTES {
            let bound = MAX_REGEX_BYTES / 1024;
            return Err(Invalid::new(format!(
                "follows a regex that is too complex, or regexes whose automata take the {bound} KiB that a policy may have"
            )));
        }
        Ok(())
    }
}

/// An error names the field. An empty list matches every request.
pub fn matches(list: &[policy::Match], regexes: &mut RegexBudget) -> Result<Box<[Match]>, Invalid> {
    if list.len() > MAX_MATCHES {
        return Err(Invalid::new(format!(
            "has {} items, but at most {MAX_MATCHES} are allowed",
            list.len()
        )));
    }
    let parsed = list.iter().enumerate().map(|(at, one)| {
        let on = on(one, regexes).at(format_args!("[{at}]"))?;
        Ok(Match { on, not: one.not })
    });
    parsed.collect()
}

fn on(one: &policy::Match, regexes: &mut RegexBudget) -> Result<On, Invalid> {
    let policy::Match {
        path,
        method,
        header,
        query,
        cookie,
        remote_ip,
        web_socket,
        not: _,
    } = one;
    names_one([
        ("path", path.is_some()),
        ("method", !method.is_empty()),
        ("header", header.is_some()),
        ("query", query.is_some()),
        ("cookie", cookie.is_some()),
        ("remoteIp", !remote_ip.is_empty()),
        ("webSocket", web_socket.is_some()),
    ])?;
    if let Some(path) = path {
        self::path(path, regexes).map(On::Path).at(".path")
    } else if let Some(HeaderMatch { name, present, value }) = header {
        let parsed = header_name(name).at(".name");
        let parsed = parsed.and_then(|name| Ok((name, self::value(*present, value.as_ref(), regexes)?)));
        parsed.map(|(name, value)| On::Header { name, value }).at(".header")
    } else if let Some(query) = query {
        let (name, value) = parameter(query, regexes).at(".query")?;
        Ok(On::Query { name, value })
    } else if let Some(cookie) = cookie {
        let (name, value) = parameter(cookie, regexes).at(".cookie")?;
        Ok(On::Cookie { name, value })
    } else if let Some(web_socket) = web_socket {
        Ok(On::WebSocket(*web_socket))
    } else if method.is_empty() {
        let networks = remote_ip.iter().enumerate();
        let networks = networks.map(|(at, text)| network(text).at(format_args!(".remoteIp[{at}]")));
        networks.collect::<Result<_, _>>().map(On::RemoteIp)
    } else {
        let methods = method.iter().enumerate();
        let methods = methods.map(|(at, text)| self::method(text).at(format_args!(".method[{at}]")));
        methods.collect::<Result<_, _>>().map(On::Method)
    }
}

fn path(path: &policy::PathMatch, regexes: &mut RegexBudget) -> Result<Text, Invalid> {
    let policy::PathMatch {
        exact,
        prefix,
        suffix,
        regex,
        ignore_case,
    } = path;
    for (field, text) in [(".exact", exact), (".prefix", prefix)] {
        if text.as_ref().is_some_and(|text| !text.starts_with('/')) {
            return Err(Invalid::new("must begin with a slash").within(field));
        }
    }
    let kinds = [
        (TextKind::Exact, ".exact", exact),
        (TextKind::Segments, ".prefix", prefix),
        (TextKind::Suffix, ".suffix", suffix),
        (TextKind::Regex, ".regex", regex),
    ];
    text(kinds, *ignore_case, regexes)
}

fn value(
    present: Option<bool>,
    value: Option<&policy::TextMatch>,
    regexes: &mut RegexBudget,
) -> Result<Value, Invalid> {
    match (present, value) {
        (Some(_), Some(_)) => Err(Invalid::new(
            "sets both present and value, which are mutually exclusive: keep one of them",
        )),
        (Some(false), None) => Ok(Value::Absent),
        (Some(true) | None, None) => Ok(Value::Present),
        (None, Some(value)) => {
            let kinds = [
                (TextKind::Exact, ".exact", &value.exact),
                (TextKind::Prefix, ".prefix", &value.prefix),
                (TextKind::Suffix, ".suffix", &value.suffix),
                (TextKind::Regex, ".regex", &value.regex),
            ];
            text(kinds, value.ignore_case, regexes).map(Value::Is).at(".value")
        }
    }
}

fn text(
    kinds: [(TextKind, &str, &Option<String>); 4],
    ignore_case: bool,
    regexes: &mut RegexBudget,
) -> Result<Text, Invalid> {
    names_one(kinds.map(|(_, field, text)| (field.trim_start_matches('.'), text.is_some())))?;
    let mut given = kinds
        .into_iter()
        .filter_map(|(kind, field, text)| Some((kind, field, text.as_ref()?)));
    // One of them is given.
    let Some((kind, field, text)) = given.next() else {
        return Err(Invalid::new("is empty"));
    };
    if kind == TextKind::Regex {
        regexes.is_left().at(field)?;
    }
    let built = Text::new(kind, text, ignore_case);
    regexes.bytes += match &built {
        Ok(text) => text.size(),
        Err(RegexError::TooComplex) => MAX_REGEX_BYTES + 1,
        // Seen before anything was built.
        Err(RegexError::Invalid(_)) => 0,
    };
    // The last line says what is wrong; those above draw it.
    let wrong = |error: RegexError| {
        let error = error.to_string();
        error
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned()
    };
    built
        .map_err(|error| Invalid::new(format!("{}: {}", Quoted(text), wrong(error))))
        .at(field)
}

fn parameter(parameter: &ParameterMatch, regexes: &mut RegexBudget) -> Result<(Box<str>, Value), Invalid> {
    let ParameterMatch { name, present, value } = parameter;
    if name.is_empty() {
        return Err(Invalid::new("is empty").within(".name"));
    }
    Ok((name.as_str().into(), self::value(*present, value.as_ref(), regexes)?))
}

/// An error if it is no field name (RFC 9110 section 5.1).
pub fn header_name(text: &str) -> Result<HeaderName, Invalid> {
    text.parse()
        .map_err(|_| Invalid::new(format!("{} is not a valid header name", Quoted(text))))
}

/// An error if it is no token (RFC 9110 section 9.1).
pub fn method(text: &str) -> Result<Method, Invalid> {
    text.parse()
        .map_err(|_| Invalid::new(format!("{} is not a valid method", Quoted(text))))
}

/// An IPv4 client is never seen by an IPv6 address.
fn network(text: &str) -> Result<IpNet, Invalid> {
    let network = text.parse::<IpNet>().ok();
    let mapped = |network: &IpNet| matches!(network, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
    network.filter(|network| !mapped(network)).ok_or_else(|| {
        Invalid::new(format!(
            "{} is not a network such as 10.0.0.0/8 or 2001:db8::/32",
            Quoted(text)
        ))
    })
}

/// A header's name that rules may touch.
pub fn editable(text: &str) -> Result<HeaderName, Invalid> {
    let name = header_name(text)?;
    if is_editable(&name) {
        Ok(name)
    } else {
        let text = format!("{} is reserved for Postern or the connection", Quoted(text));
        Err(Invalid::new(text))
    }
}

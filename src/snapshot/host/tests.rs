use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::matching::{Conditions, HeaderMatch, Matches, PathMatch, QueryMatch, Regex, Text, TextKind};
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::runtime::Slot;
use crate::snapshot::{Action, Backend, Deployment, RunState, Timeouts};
use crate::upstream::balance;

/// What a route asks for, and where the model looks it up.
#[derive(Clone, Debug)]
struct Wanted {
    path: Path,
    method: Option<Method>,
    headers: Vec<Field>,
    query: Vec<Field>,
}

#[derive(Clone, Debug)]
enum Path {
    Exact(&'static str),
    Prefix(&'static str),
    Regex(Pattern),
}

/// A name and its value.
type Field = (&'static str, &'static str);

/// A pattern, and the same as a function.
type Pattern = (&'static str, fn(&str) -> bool);

#[derive(Debug)]
struct Asked {
    method: Method,
    path: &'static str,
    query: Vec<Field>,
    headers: Vec<Field>,
}

const PATHS: [&str; 8] = ["/", "/a", "/b", "/a/b", "/ab", "/b/b", "/a/b/c", "/a/"];
const PREFIXES: [&str; 5] = ["/", "/a", "/b", "/a/b", "/ab"];
const PATTERNS: [Pattern; 4] = [
    ("/a.*", |path| path.starts_with("/a")),
    ("/.*b", |path| path.len() > 1 && path.ends_with('b')),
    (".*", |_| true),
    ("/(?:a|b)", |path| path == "/a" || path == "/b"),
];
const FIELDS: [Field; 3] = [("x-a", "1"), ("x-b", "1"), ("x-c", "1")];

fn wanted() -> impl Strategy<Value = Wanted> {
    let path = prop_oneof![
        select(&PATHS[..]).prop_map(Path::Exact),
        select(&PREFIXES[..]).prop_map(Path::Prefix),
        select(&PATTERNS[..]).prop_map(Path::Regex),
    ];
    let method = prop::option::weighted(0.3, select(vec![Method::GET, Method::PUT]));
    let fields = || prop_oneof![2 => Just(Vec::new()), 1 => subsequence(FIELDS.to_vec(), 0..=2)];
    (path, method, fields(), fields()).prop_map(|(path, method, headers, query)| Wanted {
        path,
        method,
        headers,
        query,
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let fields = || subsequence(FIELDS.to_vec(), 0..=3);
    (
        select(vec![Method::GET, Method::PUT]),
        select(&PATHS[..]),
        fields(),
        fields(),
    )
        .prop_map(|(method, path, query, headers)| Asked {
            method,
            path,
            query,
            headers,
        })
}

impl Wanted {
    fn holds(&self, asked: &Asked) -> bool {
        let path = match &self.path {
            Path::Exact(path) => asked.path == *path,
            Path::Prefix("/") => true,
            Path::Prefix(prefix) => {
                let segments: Vec<_> = asked.path.split('/').collect();
                segments.starts_with(&prefix.split('/').collect::<Vec<_>>())
            }
            Path::Regex((_, matches)) => matches(asked.path),
        };
        path && self.method.as_ref().is_none_or(|method| *method == asked.method)
            && self.headers.iter().all(|field| asked.headers.contains(field))
            && self.query.iter().all(|field| asked.query.contains(field))
    }

    /// Whether it goes before one that is older.
    fn goes_before(&self, older: &Self) -> bool {
        let rank = |wanted: &Self| match wanted.path {
            Path::Exact(_) => (3, 0),
            Path::Prefix(prefix) => (2, prefix.len()),
            Path::Regex((pattern, _)) => (1, pattern.len()),
        };
        let (ours, theirs) = (rank(self), rank(older));
        if ours != theirs {
            return ours > theirs;
        }
        if self.method.is_some() != older.method.is_some() {
            return self.method.is_some();
        }
        if self.headers.len() != older.headers.len() {
            return self.headers.len() > older.headers.len();
        }
        self.query.len() > older.query.len()
    }

    fn matches(&self) -> Matches {
        let path = match &self.path {
            Path::Exact(path) => PathMatch::Exact((*path).into()),
            Path::Prefix(path) => PathMatch::Prefix((*path).into()),
            Path::Regex((pattern, _)) => PathMatch::Regex(Box::new(Regex::new(pattern, false).unwrap())),
        };
        let exact = |value| Text::new(TextKind::Exact, value, false).unwrap();
        let header = |(name, value): &Field| HeaderMatch {
            name: HeaderName::from_static(name),
            value: exact(value),
        };
        let parameter = |(name, value): &Field| QueryMatch {
            name: (*name).into(),
            value: exact(value),
        };
        let conditions = Conditions {
            method: self.method.clone(),
            headers: self.headers.iter().map(header).collect(),
            query: self.query.iter().map(parameter).collect(),
        };
        Matches::new(path, conditions)
    }
}

fn deployment() -> Deployment {
    Deployment {
        id: ObjectId::new(Kind::Deployment, ObjectKey::new("acme", "shop")),
        uid: "1".into(),
        deployment_id: "shop".parse().unwrap(),
        state: RunState::Running,
        timeouts: Timeouts {
            connect: None,
            dial_budget: None,
            response: None,
            idle: None,
            total: None,
            handshake: None,
        },
        strategy: balance::Strategy::Random,
        ambiguous_paths: AmbiguousPaths::Reject,
        runtime: Slot::default(),
    }
}

/// The weight of its one backend is the route's position, oldest first.
fn host(all: &[Wanted]) -> Host {
    let deployment = Arc::new(deployment());
    let routes = all.iter().zip(0..).map(|(wanted, weight)| Route {
        matches: wanted.matches(),
        deployment: deployment.clone(),
        action: Action::Forward([Backend { weight, upstream: None }].into()),
        client_tls: None,
        upstream_tls: Arc::default(),
        policies: None,
    });
    let mut routes: Vec<_> = routes.collect();
    order(&mut routes);
    Host::new("example.com".parse().unwrap(), routes.into(), HostTls::default())
}

fn position(route: &Route) -> usize {
    match &route.action {
        Action::Forward(backends) => backends[0].weight as usize,
        Action::Refuse(reason) => panic!("{reason:?}"),
    }
}

/// The oldest of those that match and that no other one that matches goes before.
fn scan(all: &[Wanted], asked: &Asked) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (at, wanted) in all.iter().enumerate().filter(|(_, wanted)| wanted.holds(asked)) {
        if best.is_none_or(|best| wanted.goes_before(&all[best])) {
            best = Some(at);
        }
    }
    best
}

fn find(host: &Host, asked: &Asked) -> Option<usize> {
    let query: Vec<_> = asked
        .query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let query = query.join("&");
    let fields = asked.headers.iter();
    let headers: HeaderMap = fields
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let head = Head {
        method: &asked.method,
        path: asked.path,
        query: Some(&*query).filter(|query| !query.is_empty()),
        headers: &headers,
    };
    host.find(&head).map(position)
}

proptest! {
    #[test]
    fn the_route_found_is_the_one_that_goes_before_all_others_that_match(
        routes in vec(wanted(), 0..10),
        requests in vec(asked(), 1..10),
    ) {
        let host = host(&routes);
        for asked in &requests {
            prop_assert_eq!(find(&host, asked), scan(&routes, asked), "{:?}", asked);
        }
    }

    #[test]
    fn by_path_alone_the_same_route_is_found(
        mut routes in vec(wanted(), 0..10),
        requests in vec(asked(), 1..10),
    ) {
        for route in &mut routes {
            route.method = None;
            route.headers.clear();
            route.query.clear();
        }
        let host = host(&routes);
        prop_assert!(host.is_by_path());
        for asked in &requests {
            prop_assert_eq!(find(&host, asked), scan(&routes, asked), "{:?}", asked);
        }
    }
}

#[test]
fn an_exact_name_goes_before_a_wildcard() {
    let host = |name: &str| {
        let name: HostName = name.parse().unwrap();
        let routes = Box::default();
        let tls = HostTls::default();
        Arc::new(Host::new(name, routes, tls))
    };
    let mut table = HostTable::default();
    table.exact.insert("a.example.com".into(), host("a.example.com"));
    table.one_label.insert("example.com".into(), host("*.example.com"));
    let find = |name: &str| table.find(name).map(|host| host.name.to_string());
    assert_eq!(find("a.example.com").as_deref(), Some("a.example.com"));
    assert_eq!(find("b.example.com").as_deref(), Some("*.example.com"));
    assert_eq!(find("c.b.example.com"), None);
    assert_eq!(find("example.com"), None);
    assert_eq!(find(".example.com"), None);
}

/// What a name in the table stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reach {
    Exact,
    OneLabel,
    Suffix,
    Any,
}

/// How narrow a name is that covers this host, the narrower the greater; None: it does not cover it.
fn narrowness(reach: Reach, name: &str, host: &str) -> Option<(usize, usize)> {
    let before = host
        .strip_suffix(&format!(".{name}"))
        .filter(|labels| !labels.is_empty());
    match reach {
        Reach::Exact => (host == name).then_some((3, 0)),
        Reach::OneLabel => before.filter(|label| !label.contains('.')).map(|_| (2, 0)),
        Reach::Suffix => before.map(|_| (1, name.len())),
        Reach::Any => Some((0, 0)),
    }
}

proptest! {
    #[test]
    fn the_host_found_is_the_narrowest_that_covers_the_name(
        entries in vec(
            (select(vec![Reach::Exact, Reach::OneLabel, Reach::Suffix, Reach::Any]), "[ab](\\.[ab]){0,3}"),
            0..10,
        ),
        names in vec("\\.?[ab](\\.[ab]){0,4}", 1..10),
    ) {
        let mut table = HostTable::default();
        let mut model: Vec<(Reach, &str, Arc<Host>)> = Vec::new();
        for (reach, name) in &entries {
            let host = Arc::new(Host::new(name.parse().unwrap(), Box::default(), HostTls::default()));
            let is_same = |known: Reach, of: &str| known == *reach && (known == Reach::Any || of == name);
            model.retain(|(known, of, _)| !is_same(*known, of));
            model.push((*reach, name, host.clone()));
            match reach {
                Reach::Exact => table.exact.insert(name.as_str().into(), host),
                Reach::OneLabel => table.one_label.insert(name.as_str().into(), host),
                Reach::Suffix => table.suffix.get_or_insert_default().insert(name.as_str().into(), host),
                Reach::Any => table.any = Some(host),
            }
        }
        for asked in &names {
            let covering = model.iter().filter_map(|(reach, name, host)| {
                Some((narrowness(*reach, name, asked)?, host))
            });
            let narrowest = covering.max_by_key(|(narrowness, _)| *narrowness).map(|(_, host)| host);
            let found = table.find(asked);
            prop_assert!(found.map(Arc::as_ptr) == narrowest.map(Arc::as_ptr), "{}", asked);
        }
    }
}

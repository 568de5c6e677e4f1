//! Finds a document's path for a request's: segment by segment, what is written out before what is templated.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::decode;

/// A document's paths. `T` is what stands at the end of one.
#[derive(Debug)]
pub struct Paths<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    literals: HashMap<Box<str>, Self>,
    /// By specificity: the longer what is written out, the earlier.
    mixed: BTreeMap<Mixed, Self>,
    parameter: Option<Box<Self>>,
    end: Option<End<T>>,
}

#[derive(Debug)]
struct End<T> {
    /// The names of the path's parameters, in order.
    names: Box<[Box<str>]>,
    value: T,
}

/// A segment such as `{id}.json` or `{from}-{to}`: what is written out before, between and after its parameters.
#[derive(Debug, PartialEq, Eq)]
struct Mixed(Box<[Box<str>]>);

#[derive(Debug)]
enum Segment {
    Literal(Box<str>),
    Mixed(Mixed),
    Parameter,
}

/// A path as it was found.
#[derive(Debug)]
pub struct Found<'p, T> {
    pub value: &'p T,
    pub parameters: Vec<(&'p str, Cow<'p, str>)>,
}

/// More segments than a template can have match none.
const MAX_SEGMENTS: usize = 64;

impl<T> Paths<T> {
    pub fn new() -> Self {
        Self { root: Node::new() }
    }

    /// The place of a path, which begins with `/`; made with `value` if there is none. Two paths that differ by the names
    /// of their parameters alone are an error, since nothing could tell them apart.
    pub fn entry(&mut self, path: &str, value: impl FnOnce() -> T) -> Result<&mut T, String> {
        let mut names = Vec::new();
        let segments = parse(path, &mut names)?;
        let mut node = &mut self.root;
        for segment in segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text).or_insert_with(Node::new),
                Segment::Mixed(mixed) => node.mixed.entry(mixed).or_insert_with(Node::new),
                Segment::Parameter => node.parameter.get_or_insert_with(|| Box::new(Node::new())),
            };
        }
        let names: Box<[_]> = names.into();
        if let Some(other) = node.end.as_ref()
            && other.names != names
        {
            return Err("differs from another path only in the names of its parameters".to_owned());
        }
        let end = node.end.get_or_insert_with(|| End { names, value: value() });
        Ok(&mut end.value)
    }

    /// `path` as it was sent, without its query. Nothing is found where a segment is not properly encoded.
    pub fn find<'p>(&'p self, path: &'p str) -> Option<Found<'p, T>> {
        let path = path.strip_prefix('/')?;
        if path.split('/').count() > MAX_SEGMENTS {
            return None;
        }
        let segments: Vec<_> = path.split('/').map(decode::component).collect::<Option<_>>()?;
        let mut captured = Vec::new();
        let end = self.root.find(&segments, &mut captured)?;
        let parameters = end.names.iter().map(AsRef::as_ref).zip(captured).collect();
        Some(Found {
            value: &end.value,
            parameters,
        })
    }
}

impl<T> Node<T> {
    fn new() -> Self {
        Self {
            literals: HashMap::new(),
            mixed: BTreeMap::new(),
            parameter: None,
            end: None,
        }
    }

    /// Each node stands at one depth, so that none is looked at twice however often this goes back.
    fn find<'p>(&'p self, segments: &[Cow<'p, str>], captured: &mut Vec<Cow<'p, str>>) -> Option<&'p End<T>> {
        let Some((segment, rest)) = segments.split_first() else {
            return self.end.as_ref();
        };
        if let Some(node) = self.literals.get(segment.as_ref())
            && let Some(end) = node.find(rest, captured)
        {
            return Some(end);
        }
        // Dot segments are resolved by whoever reads them, `..;x=1` by some: they are no parameter's value.
        let bare = segment.split(';').next();
        if matches!(bare, None | Some("" | "." | "..")) {
            return None;
        }
        let before = captured.len();
        for (mixed, node) in &self.mixed {
            if mixed.capture(segment, captured)
                && let Some(end) = node.find(rest, captured)
            {
                return Some(end);
            }
            captured.truncate(before);
        }
        let node = self.parameter.as_ref()?;
        captured.push(segment.clone());
        let end = node.find(rest, captured);
        if end.is_none() {
            captured.truncate(before);
        }
        end
    }
}

impl Mixed {
    /// Each parameter takes as little as it can, and never nothing.
    fn capture<'p>(&self, segment: &str, captured: &mut Vec<Cow<'p, str>>) -> bool {
        let [first, between @ .., last] = self.0.as_ref() else {
            return false;
        };
        let Some(mut rest) = segment.strip_prefix(first.as_ref()) else {
            return false;
        };
        for literal in between {
            let from = rest.chars().next().map_or(0, char::len_utf8);
            let Some(at) = rest[from..].find(literal.as_ref()).map(|at| at + from) else {
                return false;
            };
            if at == 0 {
                return false;
            }
            captured.push(Cow::Owned(rest[..at].to_owned()));
            rest = &rest[at + literal.len()..];
        }
        match rest.strip_suffix(last.as_ref()) {
            Some(value) if !value.is_empty() => {
                captured.push(Cow::Owned(value.to_owned()));
                true
            }
            _ => false,
        }
    }
}

impl Ord for Mixed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let written = |mixed: &Self| mixed.0.iter().map(|literal| literal.len()).sum::<usize>();
        written(other).cmp(&written(self)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Mixed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn parse(path: &str, names: &mut Vec<Box<str>>) -> Result<Vec<Segment>, String> {
    let path = path.strip_prefix('/').ok_or("does not begin with /")?;
    if path.contains(['?', '#']) {
        return Err("contains a query or a fragment".to_owned());
    }
    let segments: Vec<_> = path
        .split('/')
        .map(|segment| Segment::parse(segment, names))
        .collect::<Result<_, _>>()?;
    if segments.len() > MAX_SEGMENTS {
        return Err(format!("has more than {MAX_SEGMENTS} segments"));
    }
    Ok(segments)
}

impl Segment {
    fn parse(text: &str, names: &mut Vec<Box<str>>) -> Result<Self, String> {
        let mut literals = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("has a { without a }")?;
            if literal.is_empty() && !literals.is_empty() {
                return Err("has two parameters with nothing between them".to_owned());
            }
            if name.is_empty() || names.iter().any(|other| other.as_ref() == name) {
                return Err("has a parameter without a name, or a duplicate name".to_owned());
            }
            literals.push(written(literal)?);
            names.push(name.into());
            rest = after;
        }
        let last = written(rest)?;
        if literals.is_empty() {
            return Ok(Self::Literal(last));
        }
        literals.push(last);
        if literals.iter().all(|literal| literal.is_empty()) {
            return Ok(Self::Parameter);
        }
        Ok(Self::Mixed(Mixed(literals.into())))
    }
}

fn written(literal: &str) -> Result<Box<str>, String> {
    if literal.contains('}') {
        return Err("has a } without a {".to_owned());
    }
    let decoded = decode::component(literal).ok_or("is not properly encoded")?;
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use super::Paths;

    fn found(paths: &[&'static str], path: &str) -> Option<(&'static str, Vec<(String, String)>)> {
        let mut all = Paths::new();
        for path in paths {
            all.entry(path, || *path).unwrap();
        }
        let found = all.find(path)?;
        let parameters = found.parameters.into_iter();
        Some((
            *found.value,
            parameters
                .map(|(name, value)| (name.to_owned(), value.into_owned()))
                .collect(),
        ))
    }

    #[test]
    fn what_is_written_out_goes_before_what_is_templated() {
        let paths = [
            "/pets/{id}",
            "/pets/mine",
            "/pets/{id}.json",
            "/pets/{id}/toys",
            "/{any}/mine/toys",
        ];
        for (path, expected) in [
            ("/pets/mine", Some("/pets/mine")),
            ("/pets/7", Some("/pets/{id}")),
            ("/pets/7.json", Some("/pets/{id}.json")),
            ("/pets/.json", Some("/pets/{id}")),
            ("/pets/7/toys", Some("/pets/{id}/toys")),
            // Back from /pets/mine, which leads nowhere.
            ("/pets/mine/toys", Some("/pets/{id}/toys")),
            ("/cats/mine/toys", Some("/{any}/mine/toys")),
            ("/pets", None),
            ("/pets/", None),
            ("/pets/7/", None),
            ("/pets//toys", None),
            ("/Pets/7", None),
            ("/pets/../toys", None),
            ("/pets/%2e%2E", None),
            ("/pets/%", None),
            ("/pets/%ff", None),
            ("pets/7", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(found(&paths, path).map(|found| found.0), expected, "{path}");
        }
    }

    #[test]
    fn parameters_are_decoded_after_the_path_was_split() {
        let parameters = |template, path| found(&[template], path).map(|found| found.1);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parameters("/a/{b}", "/a/x%2Fy%20z"), Some(vec![pair("b", "x/y z")]));
        assert_eq!(parameters("/caf%C3%A9/{b}", "/caf%c3%a9/1"), Some(vec![pair("b", "1")]));
        assert_eq!(
            parameters("/v{major}.{minor}-x", "/v1.2.3-x"),
            Some(vec![pair("major", "1"), pair("minor", "2.3")])
        );
        assert_eq!(
            parameters("/{a}-{b}", "/-é-ü"),
            Some(vec![pair("a", "-é"), pair("b", "ü")])
        );
        assert_eq!(parameters("/{a}-{b}", "/a-"), None);
        assert_eq!(parameters("/x{a}", "/x"), None);
    }

    #[test]
    fn paths_that_nothing_tells_apart_are_refused() {
        let mut paths = Paths::new();
        paths.entry("/pets/{id}", || 1).unwrap();
        assert!(paths.entry("/pets/{name}", || 2).is_err());
        assert_eq!(*paths.entry("/pets/{id}", || 3).unwrap(), 1);
        for path in ["pets", "/{", "/}", "/{}", "/{a}{b}", "/{a}/{a}", "/a?b", "/%zz", "/{a"] {
            assert!(paths.entry(path, || 4).is_err(), "{path}");
        }
        assert!(paths.entry(&"/a".repeat(65), || 4).is_err());
        assert!(paths.find(&"/a".repeat(100_000)).is_none());
    }
}

//! An OpenAPI document, read: which operations there are, and what each takes. Everything that can be wrong with a document
//! is found here; nothing is compiled per request.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::{fmt, thread};

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderName, Method};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::body::{Accepted, Body, Range};
use super::invalid::Invalid;
use super::json;
use super::node::{Node, shortened};
use super::parameter::{Content, Notation, Parameter, Style};
use super::path::Paths;
use super::schema::{DIALECTS, Schemas};
use super::servers::bases;
use super::validator::Compiler;

/// Styles of a query parameter, and of a field of a form.
const FORM_STYLES: [Style; 4] = [
    Style::Form,
    Style::SpaceDelimited,
    Style::PipeDelimited,
    Style::DeepObject,
];

pub struct Document {
    title: String,
    version: String,
    operations: usize,
    /// SHA-256 of its text, in hexadecimal: equal texts are the same document.
    fingerprint: Box<str>,
    paths: Paths<Methods>,
    /// How many schemas may come to look at one value.
    pub weight: u64,
    /// What it takes, in about bytes.
    pub memory: usize,
}

/// The operations of one path.
pub type Methods = Vec<(Method, Arc<Operation>)>;

#[derive(Debug, Default)]
pub struct Operation {
    pub path: Box<[Parameter]>,
    pub query: Box<[Parameter]>,
    pub headers: Box<[(HeaderName, Parameter)]>,
    pub cookies: Box<[Parameter]>,
    pub body: Option<Body>,
}

/// What a summary shows.
#[derive(Debug, Serialize)]
#[serde(rename = "Document")]
struct Summary<'d> {
    title: &'d str,
    version: &'d str,
    operations: usize,
    fingerprint: &'d str,
}

/// What a ConfigMap can hold.
const MAX_TEXT: usize = 1024 * 1024;
const MAX_DEPTH: usize = 100;
const MAX_NODES: usize = 250_000;
const MAX_OPERATIONS: usize = 5_000;
const MAX_PARAMETERS: usize = 100;
/// Compilation goes as deep as a document.
const STACK: usize = 64 * 1024 * 1024;

/// A compiled schema takes about so many times its text.
const COMPILED: usize = 16;
/// An object of arrays.
const PARAMETER_LEVELS: usize = 2;
/// And the form itself.
const FORM_LEVELS: usize = 3;

const METHODS: [(&str, Method); 8] = [
    ("delete", Method::DELETE),
    ("get", Method::GET),
    ("head", Method::HEAD),
    ("options", Method::OPTIONS),
    ("patch", Method::PATCH),
    ("post", Method::POST),
    ("put", Method::PUT),
    ("trace", Method::TRACE),
];

impl Document {
    /// OpenAPI 3.0 or 3.1, as YAML or JSON. The error names the place.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err(format!("the document is larger than {MAX_TEXT} bytes"));
        }
        thread::scope(|scope| {
            let reader = thread::Builder::new().name("openapi".to_owned()).stack_size(STACK);
            let reader = reader.spawn_scoped(scope, || {
                let value = parse(text)?;
                read(text, &value).map_err(|invalid| invalid.to_string())
            });
            let reader = reader.map_err(|error| format!("cannot start a thread to read the document: {error}"))?;
            reader
                .join()
                .unwrap_or_else(|_| Err("the document could not be read".to_owned()))
        })
    }

    pub fn paths(&self) -> &Paths<Methods> {
        &self.paths
    }

    fn summary(&self) -> Summary<'_> {
        Summary {
            title: &self.title,
            version: &self.version,
            operations: self.operations,
            fingerprint: &self.fingerprint,
        }
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Document {}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary().fmt(f)
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.summary().serialize(serializer)
    }
}

fn parse(text: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("the document is not UTF-8: {error}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json = if text.trim_start().starts_with('{') {
        json::read(text.as_bytes(), MAX_DEPTH).map_err(|error| format!("the document {error}"))?
    } else {
        yaml(text).map_err(|error| format!("the document is not valid YAML: {error}"))?
    };
    if json.nodes > MAX_NODES {
        return Err(format!("the document has more than {MAX_NODES} values"));
    }
    Ok(json.value)
}

/// Aliases count as what they stand for.
fn yaml(text: &str) -> Result<json::Json, String> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_nodes: MAX_NODES },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_NODES },
    };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        json::from(deserializer, MAX_DEPTH)
    })
    .map_err(|error| error.to_string())
}

fn fingerprint(text: &[u8]) -> Box<str> {
    let digest = digest(&SHA256, text);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(text: &[u8], value: &Value) -> Result<Document, Invalid> {
    let root = Node::root(value);
    let version = root.text("openapi")?;
    let legacy = version.starts_with("3.0.");
    if !legacy && !version.starts_with("3.1.") {
        return Err(root.child("openapi").invalid("is neither 3.0 nor 3.1"));
    }
    if let Some(dialect) = root.get("jsonSchemaDialect")
        && !dialect
            .value
            .as_str()
            .is_some_and(|dialect| DIALECTS.contains(&dialect))
    {
        return Err(dialect.invalid("is not JSON Schema 2020-12"));
    }
    let info = root.child("info");
    // First all schemas, then all that is made of them: what one can cost is known when all are.
    let mut schemas = Schemas::new(value, legacy);
    let mut places = HashMap::new();
    Reader {
        document: value,
        schema: &mut |at, _| {
            places.insert(at.pointer.clone(), schemas.add(at)?);
            Ok(Content::Opaque)
        },
    }
    .paths(&root)?;
    let mut compiler = Compiler::new(&schemas, &places.values().copied().collect())?;
    let (paths, operations) = Reader {
        document: value,
        schema: &mut |at, depth| match places.get(&at.pointer) {
            Some(index) => compiler.compile(*index, depth).map(Content::Text),
            None => Err(at.invalid("was not found again")),
        },
    }
    .paths(&root)?;
    Ok(Document {
        weight: compiler.weight(),
        memory: text.len() * COMPILED + compiler.patterns,
        title: shortened(info.text("title")?).to_owned(),
        version: shortened(info.text("version")?).to_owned(),
        operations,
        fingerprint: fingerprint(text),
        paths,
    })
}

struct Reader<'d, 's> {
    document: &'d Value,
    /// What becomes of a schema, of which text can have so many levels.
    schema: &'s mut dyn FnMut(&Node<'d>, usize) -> Result<Content, Invalid>,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    Path,
    Query,
    Header,
    Cookie,
}

impl<'d> Reader<'d, '_> {
    fn paths(&mut self, root: &Node<'d>) -> Result<(Paths<Methods>, usize), Invalid> {
        let mut paths = Paths::new();
        let mut count = 0;
        // A document may have none: of webhooks, say, which are not for us to see.
        let Some(items) = root.get("paths") else {
            return Ok((paths, 0));
        };
        for (template, at) in items.entries()? {
            if template.starts_with("x-") {
                continue;
            }
            let item = at.clone().followed(self.document)?;
            for (name, method) in METHODS {
                let Some(operation) = item.get(name) else { continue };
                count += 1;
                if count > MAX_OPERATIONS {
                    return Err(at.invalid(format!("there are more than {MAX_OPERATIONS} operations")));
                }
                let servers = [&operation, &item, root].into_iter().find_map(|at| at.get("servers"));
                let bases = bases(servers)?;
                let operation = Arc::new(self.operation(&item, &operation, template)?);
                for base in bases {
                    let methods = paths
                        .entry(&format!("{base}{template}"), Vec::new)
                        .map_err(|error| at.invalid(error))?;
                    if !methods.iter().any(|(other, _): &(Method, _)| *other == method) {
                        methods.push((method.clone(), Arc::clone(&operation)));
                    }
                }
            }
        }
        Ok((paths, count))
    }

    fn operation(&mut self, item: &Node<'d>, at: &Node<'d>, template: &str) -> Result<Operation, Invalid> {
        let mut parameters: Vec<(In, Parameter)> = Vec::new();
        // The operation's own take the place of the path's.
        for owner in [at, item] {
            let Some(list) = owner.get("parameters") else { continue };
            let inherited = parameters.len();
            for at in list.items()? {
                let at = at.followed(self.document)?;
                let Some((place, parameter)) = self.parameter(&at)? else {
                    continue;
                };
                let same = |(other, known): &(In, Parameter)| *other == place && known.name == parameter.name;
                if parameters[inherited..].iter().any(same) {
                    return Err(at.invalid("is described twice"));
                }
                if parameters.iter().any(same) {
                    continue;
                }
                if place == In::Path && !template.contains(&format!("{{{}}}", parameter.name)) {
                    return Err(at.invalid("is not part of the path"));
                }
                parameters.push((place, parameter));
                if parameters.len() > MAX_PARAMETERS {
                    return Err(list.invalid(format!("has more than {MAX_PARAMETERS} items")));
                }
            }
        }
        let mut operation = Operation::default();
        let mut headers = Vec::new();
        let (mut path, mut query, mut cookies) = (Vec::new(), Vec::new(), Vec::new());
        for (place, parameter) in parameters {
            match place {
                In::Path => path.push(parameter),
                In::Query => query.push(parameter),
                In::Cookie => cookies.push(parameter),
                In::Header => {
                    let name = HeaderName::from_bytes(parameter.name.as_bytes());
                    let name = name.map_err(|_| at.child("parameters").invalid("contains an invalid header name"))?;
                    headers.push((name, parameter));
                }
            }
        }
        operation.path = path.into();
        operation.query = query.into();
        operation.headers = headers.into();
        operation.cookies = cookies.into();
        if let Some(body) = at.get("requestBody") {
            operation.body = Some(self.body(&body.followed(self.document)?)?);
        }
        Ok(operation)
    }

    /// None: one that is to be ignored.
    fn parameter(&mut self, at: &Node<'d>) -> Result<Option<(In, Parameter)>, Invalid> {
        let mut name: Box<str> = at.text("name")?.into();
        let (place, fallback, allowed): (_, _, &[Style]) = match at.text("in")? {
            "path" => (In::Path, Style::Simple, &[Style::Simple]),
            "query" => (In::Query, Style::Form, &FORM_STYLES),
            "header" => (In::Header, Style::Simple, &[Style::Simple]),
            "cookie" => (In::Cookie, Style::Form, &[Style::Form]),
            _ => return Err(at.child("in").invalid("is not a valid location of a parameter")),
        };
        if place == In::Header {
            name = name.to_ascii_lowercase().into();
            // The specification leaves these to other parts of the document.
            if matches!(name.as_ref(), "accept" | "content-type" | "authorization") {
                return Ok(None);
            }
        }
        let notation = Notation::read(at, fallback, allowed)?;
        let content = match (at.get("schema"), at.get("content")) {
            (Some(schema), None) => (self.schema)(&schema, PARAMETER_LEVELS)?,
            (None, Some(content)) => {
                let mut entries = content.entries()?;
                let (Some((media_type, entry)), None) = (entries.next(), entries.next()) else {
                    return Err(content.invalid("must name one media type"));
                };
                let range = Range::parse(media_type).ok_or_else(|| entry.invalid("is not a valid media type"))?;
                match entry.get("schema") {
                    Some(schema) if range.is_json() => match (self.schema)(&schema, 0)? {
                        Content::Text(schema) => Content::Json(schema),
                        other => other,
                    },
                    _ => Content::Opaque,
                }
            }
            _ => return Err(at.invalid("must have either schema or content")),
        };
        let parameter = Parameter {
            name,
            required: at.flag("required", false)? || place == In::Path,
            allow_empty: place == In::Query && at.flag("allowEmptyValue", false)?,
            notation,
            content,
        };
        Ok(Some((place, parameter)))
    }

    fn body(&mut self, at: &Node<'d>) -> Result<Body, Invalid> {
        let mut accepted = Vec::new();
        for (media_type, entry) in at.child("content").entries()? {
            let range = Range::parse(media_type).ok_or_else(|| entry.invalid("is not a valid media type"))?;
            let content = match entry.get("schema") {
                Some(schema) => (self.schema)(&schema, if range.may_be_form() { FORM_LEVELS } else { 0 })?,
                None => Content::Opaque,
            };
            let mut notations = BTreeMap::new();
            if let Some(encodings) = entry.get("encoding") {
                for (name, encoding) in encodings.entries()? {
                    if encoding.get("style").is_none() && encoding.get("explode").is_none() {
                        continue;
                    }
                    notations.insert(name.into(), Notation::read(&encoding, Style::Form, &FORM_STYLES)?);
                }
            }
            accepted.push(Accepted {
                range,
                content,
                notations,
            });
        }
        accepted.sort_by_key(|accepted| accepted.range.breadth());
        Ok(Body {
            required: at.flag("required", false)?,
            accepted: accepted.into(),
        })
    }
}

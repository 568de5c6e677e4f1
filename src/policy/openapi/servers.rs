//! Under which paths a document's own stand, by its servers. Only their paths matter: whose host a request is for has been
//! decided before.

use std::collections::BTreeSet;

use serde_json::Value;

use super::invalid::Invalid;
use super::node::Node;

/// So many places at most for one path.
const MAX_BASES: usize = 32;

/// Without a slash at the end; the root is the empty one.
pub fn bases(servers: Option<Node<'_>>) -> Result<BTreeSet<String>, Invalid> {
    let mut bases = BTreeSet::new();
    let Some(servers) = servers else {
        return Ok(BTreeSet::from([String::new()]));
    };
    for server in servers.items()? {
        let path = path(server.text("url")?);
        bases.extend(expand(&server, path)?);
        if bases.len() > MAX_BASES {
            return Err(servers.invalid(format!("stand for more than {MAX_BASES} paths")));
        }
    }
    if bases.is_empty() {
        bases.insert(String::new());
    }
    Ok(bases)
}

fn path(url: &str) -> &str {
    let url = &url[..url.find(['?', '#']).unwrap_or(url.len())];
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => url,
    };
    path.trim_end_matches('/')
}

/// A variable stands for each of its values.
fn expand(server: &Node<'_>, path: &str) -> Result<Vec<String>, Invalid> {
    let mut expanded = vec![String::new()];
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let url = || server.child("url");
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| url().invalid("has a { without a }"))?;
        let variable = server.child("variables").child(name);
        let mut values = Vec::new();
        match variable.get("enum") {
            Some(list) => values.extend(list.items()?.filter_map(|item| item.value.as_str().map(str::to_owned))),
            None => values.extend(variable.value.get("default").and_then(Value::as_str).map(str::to_owned)),
        }
        if values.is_empty() {
            return Err(variable.invalid("has no value"));
        }
        if values.len() * expanded.len() > MAX_BASES {
            return Err(variable.invalid(format!("stands for more than {MAX_BASES} paths")));
        }
        let longer = |prefix: &String| {
            let values = values
                .iter()
                .map(|value| format!("{prefix}{before}{}", value.trim_matches('/')));
            values.collect::<Vec<_>>()
        };
        expanded = expanded.iter().flat_map(longer).collect();
        rest = after;
    }
    let whole = expanded.into_iter().map(|prefix| {
        let whole = format!("{prefix}{rest}");
        let whole = whole.trim_matches('/');
        if whole.is_empty() {
            String::new()
        } else {
            format!("/{whole}")
        }
    });
    Ok(whole.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::node::Node;
    use super::bases;

    #[test]
    fn only_the_path_of_a_server_matters() {
        for (servers, expected) in [
            (json!([]), vec![""]),
            (json!([{"url": "/"}]), vec![""]),
            (json!([{"url": "https://example.com"}]), vec![""]),
            (
                json!([{"url": "https://{tenant}.example.com/v1/"}, {"url": "/v2"}, {"url": "v3"}]),
                vec!["/v1", "/v2", "/v3"],
            ),
            (json!([{"url": "https://example.com?x=/y"}]), vec![""]),
            (
                json!([{"url": "/{base}", "variables": {"base": {"default": "v1"}}}]),
                vec!["/v1"],
            ),
            (
                json!([{"url": "/{a}/b/{c}", "variables": {"a": {"enum": ["1", "2"]}, "c": {"default": ""}}}]),
                vec!["/1/b", "/2/b"],
            ),
        ] {
            let found = bases(Some(Node::root(&servers))).unwrap();
            assert_eq!(
                found.iter().map(String::as_str).collect::<Vec<_>>(),
                expected,
                "{servers}"
            );
        }
    }

    #[test]
    fn servers_cannot_multiply_without_end() {
        let values: Vec<_> = (0..10).map(|n| n.to_string()).collect();
        let variable = json!({"enum": values});
        let servers = json!([{"url": "/{a}/{b}/{c}", "variables": {"a": variable, "b": variable, "c": variable}}]);
        assert!(bases(Some(Node::root(&servers))).is_err());
        for servers in [
            json!([{"url": "/{a}"}]),
            json!([{"url": "/{a"}]),
            json!([{}]),
            json!({}),
            json!([1]),
        ] {
            assert!(bases(Some(Node::root(&servers))).is_err(), "{servers}");
        }
    }
}

//! A real Prometheus on loopback, its tool for rules, and what an expression names.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

use super::eventually;
use super::process::free_port;
use super::wire::get;

/// Dropping it ends it.
pub struct Prometheus {
    address: SocketAddr,
    child: Child,
    folder: TempDir,
}

impl Prometheus {
    /// With this configuration, next to which these files lie.
    pub async fn start(config: &Value, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writes");
        write("prometheus.yml", &config.to_string());
        for (name, text) in files {
            write(name, text);
        }
        let port = free_port().expect("a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        // It ends with whoever starts it, be he killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "prometheus", "--log.level=warn"]);
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        let child = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("setpriv runs");
        let prometheus = Self { address, child, folder };
        eventually("prometheus is ready", || async move {
            tokio::net::TcpStream::connect(address).await.is_ok()
                && get(address, &address.to_string(), "/-/ready").await.status() == 200
        })
        .await;
        prometheus
    }

    /// The `data` of an answer of its API.
    pub async fn ask(&self, target: &str) -> Result<Value, String> {
        let answer = get(self.address, &self.address.to_string(), &format!("/api/v1/{target}")).await;
        let mut answer = answer.json();
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// What an expression is now: the labels of each sample, and its value.
    pub async fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>, String> {
        let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let data = self.ask(&format!("query?query={query}")).await?;
        let samples = data["result"].as_array().ok_or("no list")?.iter();
        let sample = |sample: &Value| {
            let value = sample["value"][1].as_str()?.parse().ok()?;
            Some((sample["metric"].clone(), value))
        };
        samples
            .map(sample)
            .collect::<Option<_>>()
            .ok_or("no samples".to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the tool in a folder.
pub fn promtool(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("promtool");
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.output().expect("promtool is installed")
}

/// A metric of Postern's in an expression, with what is asked of its labels.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    pub metric: String,
    /// Label and value, whatever stands between.
    pub matchers: Vec<(String, String)>,
}

/// Every metric that an expression selects.
pub fn selectors(expression: &str) -> Vec<Selector> {
    let selector = Regex::new(r"\b(postern_[a-zA-Z_]+)(?:\{([^}]*)\})?").expect("a regex");
    let matcher = Regex::new(r#"([a-zA-Z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#).expect("a regex");
    let of = |text: &str| {
        let found = matcher.captures_iter(text).map(|found| found.extract().1);
        found
            .map(|[label, value]| (label.to_owned(), value.to_owned()))
            .collect()
    };
    let found = selector.captures_iter(expression);
    found
        .map(|found| Selector {
            metric: found[1].to_owned(),
            matchers: found.get(2).map(|text| of(text.as_str())).unwrap_or_default(),
        })
        .collect()
}

/// Every label that an expression groups or matches by.
pub fn groupings(expression: &str) -> BTreeSet<String> {
    let words = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)";
    let lists = Regex::new(words).expect("a regex");
    let lists = lists.captures_iter(expression).map(|found| found.extract().1);
    lists
        .flat_map(|[list]: [&str; 1]| list.split(',').map(|label| label.trim().to_owned()).collect::<Vec<_>>())
        .filter(|label| !label.is_empty())
        .collect()
}

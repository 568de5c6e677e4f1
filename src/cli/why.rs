//! `postern why HOST[/path]`: asks a running Postern, or compiles manifests offline and asks that.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use http::StatusCode;

use super::offline::{self, World};
use super::{check, client};
use crate::admin::question::Question;
use crate::admin::why::{Explanation, explain};
use crate::policy::Services;

#[derive(clap::Args)]
pub struct Args {
    /// The URL to explain, such as chat.example.app, chat.example.app/rooms or wss://chat.example.app/rooms?id=1
    #[arg(value_name = "HOST[/PATH]")]
    url: String,

    /// Method of the request
    #[arg(long, default_value = "GET")]
    method: http::Method,

    /// Header of the request, such as credentials; may be repeated
    #[arg(long, value_name = "NAME:VALUE")]
    header: Vec<String>,

    /// Short for --header 'Authorization: Bearer TOKEN'
    #[arg(long, value_name = "TOKEN")]
    bearer: Option<String>,

    /// Address of the client
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    ip: IpAddr,

    /// The request opens a WebSocket, as ws:// and wss:// URLs do
    #[arg(long)]
    web_socket: bool,

    /// Admin port of a running Postern (on this machine, or forwarded to it)
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:9090",
        conflicts_with = "manifests"
    )]
    admin: http::Uri,

    /// Use manifests instead of a running Postern: files or folders of them
    #[arg(long, value_name = "DIR")]
    manifests: Vec<PathBuf>,

    #[command(flatten)]
    flags: offline::Flags,
}

/// Succeeds if the app would answer.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let question = args.question()?;
    let (explanation, refused) = if args.manifests.is_empty() {
        (ask(&args.admin, &question).await?, Vec::new())
    } else {
        let world = World::compile(&args.manifests, &args.flags.routing()?)?;
        let explanation = explain(&world.snapshot, &question, &Services::default()).await;
        let refused = refused(&world, &explanation.host);
        (explanation, refused)
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{explanation}")?;
    for line in refused {
        writeln!(out, "  note        {line}")?;
    }
    Ok(if explanation.error.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Args {
    fn question(&self) -> anyhow::Result<Question> {
        let (host, path) = split(&self.url);
        let mut question = Question::new(host, path).with_context(|| format!("{path:?} is not a valid path"))?;
        question.method = self.method.clone();
        question.client = self.ip;
        question.web_socket = self.web_socket || ["ws://", "wss://"].iter().any(|scheme| self.url.starts_with(scheme));
        for header in &self.header {
            question.add_header(header).map_err(anyhow::Error::msg)?;
        }
        if let Some(token) = &self.bearer {
            let line = format!("authorization: Bearer {token}");
            question.add_header(&line).map_err(anyhow::Error::msg)?;
        }
        Ok(question)
    }
}

async fn ask(admin: &http::Uri, question: &Question) -> anyhow::Result<Explanation> {
    let (Some("http"), Some(authority)) = (admin.scheme_str(), admin.authority()) else {
        bail!("--admin takes a URL like http://127.0.0.1:9090");
    };
    let question = question.to_query();
    let answer = client::get(
        authority.as_str(),
        authority.as_str(),
        &format!("/debug/why?{question}"),
    )
    .await
    .context("is Postern running? (give its admin port with --admin, or use manifests with --manifests)")?;
    match answer.status() {
        StatusCode::OK => Ok(serde_json::from_slice(answer.body()).context("the answer does not come from Postern")?),
        StatusCode::NOT_FOUND => {
            bail!("{authority} serves its debug pages to loopback clients only: forward its port to this machine")
        }
        status => bail!(
            "{authority} answered {status}: {}",
            String::from_utf8_lossy(answer.body()).trim_end()
        ),
    }
}

/// What is wrong with the objects that claim this host.
fn refused(world: &World, host: &str) -> Vec<String> {
    let mut claimants: Vec<_> = world.compiled.claimants(host).collect();
    claimants.sort();
    let reports = claimants.into_iter().filter_map(|id| world.compiled.report(id));
    let findings = reports.flat_map(|report| report.findings().iter().map(move |finding| (&report.id.key, finding)));
    findings
        .filter(|(_, finding)| !check::is_good(finding))
        .map(|(key, finding)| format!("{key}: {}: {}", finding.reason, finding.message))
        .collect()
}

/// Host (perhaps with a port), path and query of what people paste: with or without scheme and fragment.
fn split(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or_default();
    match rest.find(['/', '?']) {
        Some(end) if rest[end..].starts_with('/') => rest.split_at(end),
        // The query of a host alone is of no matter to any rule on paths, and "/" is where it goes.
        Some(end) => (&rest[..end], "/"),
        None => (rest, "/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_as_people_write_it() {
        for (url, expected) in [
            ("a.example", ("a.example", "/")),
            ("a.example:8080", ("a.example:8080", "/")),
            ("a.example/b/c", ("a.example", "/b/c")),
            (
                "wss://a.example/b?next=http://c/d#e",
                ("a.example", "/b?next=http://c/d"),
            ),
            ("a.example?b=c/d", ("a.example", "/")),
        ] {
            assert_eq!(split(url), expected, "{url}");
        }
    }
}

//! `postern check FILES`: compile manifests offline and show the conditions that a cluster would show.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::offline::{self, World};
use crate::compile::policy::budget::MAX_NAMESPACE;
use crate::compile::problem::Finding;
use crate::compile::report::{Counts, Details, Report};
use crate::condition::ConditionType;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Manifests (YAML or JSON) or folders of them, including the Secrets and ConfigMaps that they refer to
    #[arg(required = true, value_name = "FILES")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    flags: offline::Flags,
}

/// Fails if any Deployment or SentinelPolicy is not fully accepted, any document is unreadable, or there is nothing to check.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let routing = args.flags.routing()?;
    let world = World::compile(&args.paths, &routing)?;
    let mut out = std::io::stdout().lock();
    for problem in &world.problems {
        writeln!(out, "{problem}\n")?;
    }
    for id in &world.objects {
        match world.compiled.report(id) {
            Some(report) => show(&mut out, report)?,
            None => writeln!(
                out,
                "{}\n  not served: its className is not {}\n",
                id.key, routing.class
            )?,
        }
    }
    let (objects, policies): (Vec<_>, Vec<_>) = world.compiled.reports().partition(|report| report.routes().is_some());
    for policy in &policies {
        show(&mut out, policy)?;
    }
    for (namespace, bytes) in world.compiled.policy_memory() {
        let (taken, bound) = (bytes.div_ceil(1024), MAX_NAMESPACE / 1024);
        writeln!(
            out,
            "the SentinelPolicies of namespace {namespace} take {taken} KiB of memory, of {bound} KiB that they may take\n"
        )?;
    }
    let faulty = world.compiled.reports().filter(|report| !is_fine(report)).count();
    let count = objects.len();
    let plural = if count == 1 { "" } else { "s" };
    write!(out, "{count} Deployment{plural}")?;
    match policies.len() {
        0 => {}
        1 => write!(out, " and 1 SentinelPolicy")?,
        policies => write!(out, " and {policies} SentinelPolicies")?,
    }
    write!(out, " checked: ")?;
    match (count, faulty) {
        (0, 0) => write!(out, "there is nothing to serve")?,
        (_, 0) => write!(out, "all fully accepted")?,
        (_, faulty) => write!(out, "{faulty} not fully accepted")?,
    }
    match world.problems.len() {
        0 => writeln!(out)?,
        problems => writeln!(out, "; problems in the files: {problems}")?,
    }
    let namespaces: BTreeSet<_> = objects.iter().map(|report| report.id.namespace()).collect();
    if namespaces.len() > 1 && routing.hostname_grants.is_none() {
        writeln!(
            out,
            "note: Deployments are of {} namespaces and hostnameGrants is not set, so the first to list a hostname has it",
            namespaces.len()
        )?;
    }
    let fine = count > 0 && faulty == 0 && world.problems.is_empty();
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    match &report.details {
        Details::Routes(details) => {
            writeln!(out, "{}", report.id.key)?;
            writeln!(out, "  hostnames         {}", details.hostnames.join(", "))?;
            let Counts { ready, total } = details.endpoints;
            writeln!(out, "  endpoints         {ready} ready of {total}")?;
            for certificate in &details.certificates {
                let names = certificate.hostnames.join(", ");
                writeln!(out, "  certificate       Secret {} for {names}", certificate.secret)?;
            }
        }
        Details::Policy(details) => {
            writeln!(out, "{}", report.id)?;
            writeln!(out, "  rules             {} enabled", details.rules)?;
            writeln!(out, "  targets           {}", details.targets)?;
        }
    }
    show_conditions(out, report.findings())
}

fn show_conditions(out: &mut impl Write, conditions: &[Finding]) -> std::io::Result<()> {
    for finding in conditions {
        let (name, status, reason) = (
            finding.r#type.to_string(),
            if finding.status { "True" } else { "False" },
            finding.reason.to_string(),
        );
        writeln!(out, "  {name:<16}  {status:<5}  {reason:<18}  {}", finding.message)?;
    }
    writeln!(out)
}

fn is_fine(report: &Report) -> bool {
    report.findings().iter().all(is_good)
}

/// PartiallyInvalid is good when False, the others when True. CertificateExpiring takes a clock: no report has it.
pub fn is_good(finding: &Finding) -> bool {
    finding.status != (finding.r#type == ConditionType::PartiallyInvalid)
}

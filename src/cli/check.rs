//! `postern check FILES`: compile manifests offline and show the conditions that a cluster would show.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::offline::{self, World};
use crate::api::condition::ConditionType;
use crate::compile::policy::report::PolicyReport;
use crate::compile::problem::Finding;
use crate::compile::report::Report;

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
    let mut faulty = 0;
    for deployment in &world.deployments {
        match world.reports.get(&deployment.key) {
            Some(report) => {
                show(&mut out, report)?;
                faulty += usize::from(!is_fine(report));
            }
            None => writeln!(
                out,
                "{}\n  not served: its className is not {}\n",
                deployment.key, routing.class
            )?,
        }
    }
    for policy in &world.policies {
        show_policy(&mut out, policy)?;
        faulty += usize::from(!policy.conditions.iter().all(is_good));
    }
    let count = world.reports.len();
    let plural = if count == 1 { "" } else { "s" };
    write!(out, "{count} Deployment{plural}")?;
    match world.policies.len() {
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
    let fine = count > 0 && faulty == 0 && world.problems.is_empty();
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    writeln!(out, "{}", report.id.key)?;
    writeln!(out, "  hostnames         {}", report.hostnames.join(", "))?;
    writeln!(
        out,
        "  endpoints         {} ready of {}",
        report.endpoints.ready, report.endpoints.total
    )?;
    for certificate in &report.certificates {
        let names = certificate.hostnames.join(", ");
        writeln!(out, "  certificate       Secret {} for {names}", certificate.secret)?;
    }
    show_conditions(out, &report.conditions)
}

fn show_policy(out: &mut impl Write, report: &PolicyReport) -> std::io::Result<()> {
    writeln!(out, "{}", report.id)?;
    writeln!(out, "  rules             {} enabled", report.rules)?;
    writeln!(out, "  targets           {}", report.targets)?;
    show_conditions(out, &report.conditions)
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
    report.conditions.iter().all(is_good)
}

/// PartiallyInvalid is good when False, the others when True. CertificateExpiring takes a clock: no report has it.
pub fn is_good(finding: &Finding) -> bool {
    finding.status != (finding.r#type == ConditionType::PartiallyInvalid)
}

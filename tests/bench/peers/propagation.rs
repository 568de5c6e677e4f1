//! How long an edit takes among many Deployments: from the file's rename until a GET is answered by it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::asker::{Answer, Asker};
use super::backend;
use super::histogram::Histogram;
use super::manifests;
use super::process::Process;
use super::proxy;
use super::report;

const PATIENCE: Duration = Duration::from_secs(60);
/// Between two edits, so that each is seen alone.
const PAUSE: Duration = Duration::from_millis(30);
/// Between two GETs that ask whether an edit is served.
const POLL: Duration = Duration::from_micros(200);
const BYSTANDER: Duration = Duration::from_millis(2);

#[derive(Clone, Copy)]
enum Layout {
    FileEach,
    OneFile,
}

#[derive(Clone, Copy)]
enum Edit {
    /// A hostname is replaced by a new one.
    Hostname,
    /// The only endpoint moves to another port.
    Endpoint,
}

/// Two addresses of one app, told apart by their bodies.
#[derive(Clone, Copy)]
struct Apps {
    before: SocketAddr,
    after: SocketAddr,
}

pub fn measure(before: SocketAddr, after: SocketAddr, quick: bool) -> anyhow::Result<()> {
    let apps = Apps { before, after };
    let deployments = if quick { 1000 } else { 10_000 };
    let head = [
        "edit",
        "edits",
        "p50 ms",
        "p99 ms",
        "max ms",
        "its own metric, p50 / p99 ms",
        "requests failed",
    ];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    let mut failed = 0;
    for (layout, edits) in [
        (Layout::FileEach, if quick { 40 } else { 200 }),
        (Layout::OneFile, if quick { 5 } else { 20 }),
    ] {
        let mut world = World::start(layout, deployments, apps)?;
        for edit in [Edit::Hostname, Edit::Endpoint] {
            let (line, bad) = world.edits(edit, edits)?;
            table.push(line);
            failed += bad;
        }
    }
    report::table(&table);
    println!(
        "{deployments} Deployments, each with a Service and an EndpointSlice, in a folder. From the rename of the edited file\n\
         to the first GET served by it, asked every {POLL:?} on one connection. Its own metric: from the event at the watch.\n\
         Failed: an answer of 5xx, or other than 200 from unrelated hosts, which are asked every {BYSTANDER:?} meanwhile.\n"
    );
    ensure!(failed == 0, "{failed} requests failed during the edits");
    Ok(())
}

/// Postern on a folder of many Deployments, and what the folder says now.
struct World {
    /// First, so that it ends before its folder goes.
    process: Process,
    layout: Layout,
    apps: Apps,
    folder: TempDir,
    texts: BTreeMap<usize, String>,
    http: SocketAddr,
    admin: SocketAddr,
}

impl World {
    fn start(layout: Layout, deployments: usize, apps: Apps) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        let texts: BTreeMap<usize, String> = (0..deployments)
            .map(|i| (i, manifests::app(&name(i), &hostname(i), apps.before)))
            .collect();
        match layout {
            Layout::FileEach => {
                for (i, text) in &texts {
                    std::fs::write(manifests.join(format!("{}.yaml", name(*i))), text)?;
                }
            }
            Layout::OneFile => std::fs::write(manifests.join("all.yaml"), one_file(&texts))?,
        }
        let (http, admin) = (proxy::free_address()?, proxy::free_address()?);
        let mut process = proxy::postern(
            &manifests,
            &proxy::Kind::Postern.postern_binary()?,
            http,
            None,
            admin,
            "off",
        )?;
        proxy::wait_served(&mut process, http, &hostname(deployments - 1))?;
        Ok(Self {
            process,
            layout,
            apps,
            folder,
            texts,
            http,
            admin,
        })
    }

    /// Returns the line of the table, and how many requests failed.
    fn edits(&mut self, edit: Edit, edits: usize) -> anyhow::Result<(Vec<String>, u64)> {
        // A quarter of the Deployments for each kind of edit, none edited twice; the rest for the bystander.
        let quarter = self.texts.len() / 4;
        let first = match edit {
            Edit::Hostname => 0,
            Edit::Endpoint => quarter,
        };
        let bystander = Bystander::start(self.http, 2 * quarter..self.texts.len());
        let mut asker = Asker::connect(self.http)?;
        let mut own = self.histogram()?;
        let (mut times, mut failed) = (Vec::new(), 0);
        for i in 0..edits {
            ensure!(!self.process.exited()?, "Postern ended");
            // 7919 is prime: all different, and far from each other.
            let target = first + i * 7919 % quarter;
            let (host, app) = match edit {
                Edit::Hostname => (format!("edited-{target}.example"), self.apps.before),
                Edit::Endpoint => (hostname(target), self.apps.after),
            };
            let start = self.write(target, manifests::app(&name(target), &host, app))?;
            failed += until_served(&mut asker, &host, app)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            thread::sleep(PAUSE);
        }
        failed += bystander.stop()?;
        own = self.histogram()?.since(&own);
        times.sort_by(f64::total_cmp);
        let at = |share| report::quantile(&times, share).map_or_else(String::new, |ms| format!("{ms:.1}"));
        let edit = match edit {
            Edit::Hostname => "hostname",
            Edit::Endpoint => "endpoint",
        };
        let layout = match self.layout {
            Layout::FileEach => "one file each",
            Layout::OneFile => "all in one file",
        };
        let own = format!("{} / {}", own.quantile(0.5), own.quantile(0.99));
        let line = [
            format!("{edit}, {layout}"),
            edits.to_string(),
            at(0.5),
            at(0.99),
            at(1.0),
            own,
            failed.to_string(),
        ];
        Ok((line.to_vec(), failed))
    }

    /// Replaces one Deployment's manifest, as an editor does, and returns when.
    fn write(&mut self, target: usize, text: String) -> anyhow::Result<Instant> {
        let (file, text) = match self.layout {
            Layout::FileEach => (name(target), text),
            Layout::OneFile => {
                self.texts.insert(target, text);
                ("all".to_owned(), one_file(&self.texts))
            }
        };
        let new = self.folder.path().join("new");
        std::fs::write(&new, text)?;
        let start = Instant::now();
        std::fs::rename(new, self.folder.path().join("manifests").join(format!("{file}.yaml")))?;
        Ok(start)
    }

    fn histogram(&self) -> anyhow::Result<Histogram> {
        let metrics = Asker::connect(self.admin)?.get("localhost", "/metrics")?.body;
        Histogram::parse(&metrics, "postern_propagation_seconds").context("no postern_propagation_seconds in /metrics")
    }
}

/// Asks until `app` answers for `host`, and counts the 5xx on the way: 404, or the former app, only mean not yet.
fn until_served(asker: &mut Asker, host: &str, app: SocketAddr) -> anyhow::Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    let mut failed = 0;
    loop {
        let Answer { status, body } = asker.get(host, "/")?;
        if status == 200 && body == backend::body(app) {
            return Ok(failed);
        }
        failed += u64::from(status >= 500);
        if Instant::now() > deadline {
            bail!("{host} was not served within {PATIENCE:?}; last answer {status}");
        }
        thread::sleep(POLL);
    }
}

/// Asks hosts whose manifests nobody edits.
struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<u64>>,
}

impl Bystander {
    fn start(http: SocketAddr, hosts: std::ops::Range<usize>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut asker = Asker::connect(http)?;
            let mut failed = 0;
            for i in hosts.cycle() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                failed += u64::from(asker.get(&hostname(i), "/")?.status != 200);
                thread::sleep(BYSTANDER);
            }
            Ok(failed)
        });
        Self { stop, thread }
    }

    fn stop(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the bystander panicked")?
    }
}

fn name(i: usize) -> String {
    format!("app-{i}")
}

fn hostname(i: usize) -> String {
    format!("app-{i}.example")
}

fn one_file(texts: &BTreeMap<usize, String>) -> String {
    texts.values().map(String::as_str).collect::<Vec<_>>().join("---\n")
}

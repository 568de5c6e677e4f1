//! Own children, and what they cost by /proc: CPU time, resident memory, descriptors left.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// One tick of utime and stime: USER_HZ is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);
const GRACE: Duration = Duration::from_secs(5);

/// A child that ends with its owner: by SIGTERM when dropped, also when the bench itself is killed.
pub struct Process(Child);

impl Process {
    pub fn spawn(program: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", program]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("start {program}"))?))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn exited(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // By the shell: the standard library only knows SIGKILL, which would leave nginx's workers behind.
        let _ = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.id())])
            .status();
        let deadline = Instant::now() + GRACE;
        while !self.exited().unwrap_or(true) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This very program in another role: it obeys lines, answers with lines, and ends when its input does.
pub struct Role {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Role {
    pub fn spawn(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, input, output })
    }

    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.input.as_ref().context("input is closed")?, "{line}")?;
        Ok(())
    }

    pub fn hear(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("a process of the bench ended early");
        }
        Ok(line)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

/// User and system time of a process, its descendants, and those of them that have ended.
pub fn cpu(root: u32) -> anyhow::Result<Duration> {
    Ok(tree(root)?.values().map(|stat| stat.cpu).sum())
}

/// VmRSS of a process and its descendants, in KiB.
pub fn resident(root: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in tree(root)?.keys() {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        sum += line.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(sum)
}

/// Busy time of all cores together.
pub fn busy() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u32> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split(' ')
        .flat_map(str::parse)
        .collect();
    // user nice system idle iowait irq softirq
    let [user, nice, system, _, _, irq, softirq, ..] = fields[..] else {
        bail!("/proc/stat has another form")
    };
    Ok(TICK * (user + nice + system + irq + softirq))
}

/// How many descriptors one process may have.
pub fn descriptors() -> anyhow::Result<usize> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .context("no descriptor limit")?;
    Ok(line.split_whitespace().next().context("no descriptor limit")?.parse()?)
}

struct Stat {
    parent: u32,
    cpu: Duration,
}

fn tree(root: u32) -> anyhow::Result<BTreeMap<u32, Stat>> {
    let mut all: BTreeMap<u32, Stat> = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        // A process may end between the listing and the reading.
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat"))
        {
            all.insert(pid, stat(&text).context("/proc/PID/stat has another form")?);
        }
    }
    let mut kept = BTreeMap::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        kept.insert(pid, all.remove(&pid).with_context(|| format!("process {pid} is gone"))?);
        next.extend(
            all.iter()
                .filter(|(_, stat)| stat.parent == pid)
                .map(|(&child, _)| child),
        );
    }
    Ok(kept)
}

fn stat(text: &str) -> Option<Stat> {
    // The name stands in brackets and may hold blanks; the state comes next.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u32 = fields.get(11..15)?.iter().flat_map(|field| field.parse::<u32>()).sum();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        cpu: TICK * ticks,
    })
}

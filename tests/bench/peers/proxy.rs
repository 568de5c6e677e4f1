//! The proxies side by side: each set to do the same work for one hostname and one app, two workers each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use tempfile::TempDir;

use super::certificate::{self, Certificate};
use super::process::Process;
use super::{manifests, settings, wire};

const START: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Nginx,
    Haproxy,
    /// Without an access log, as the others.
    Postern,
    /// Another build of Postern, the program that POSTERN_BEFORE names: what a change costs shows in one run.
    PosternBefore,
    /// With the access log that it keeps unasked.
    PosternLogging,
    /// With nginx' usual access log.
    NginxLogging,
}

/// A running proxy that answers. Ends when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    pub process: Process,
    _folder: TempDir,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Postern => "postern",
            Self::PosternBefore => "postern, before",
            Self::PosternLogging => "postern, logging",
            Self::NginxLogging => "nginx, logging",
        }
    }

    /// The one that Cargo built for this bench, or another one that the environment names.
    pub fn postern_binary(self) -> anyhow::Result<String> {
        match self {
            Self::PosternBefore => std::env::var("POSTERN_BEFORE").context("POSTERN_BEFORE names no program"),
            _ => Ok(std::env::var("POSTERN_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_postern").to_owned())),
        }
    }

    /// RFC 8441.
    pub fn has_sockets_over_http2(self) -> bool {
        !matches!(self, Self::Nginx | Self::NginxLogging)
    }

    /// What it says of its own version.
    pub fn version(self) -> anyhow::Result<String> {
        let (program, flag) = match self {
            Self::Nginx | Self::NginxLogging => ("nginx".to_owned(), "-v"),
            Self::Haproxy => ("haproxy".to_owned(), "-v"),
            Self::Postern | Self::PosternBefore | Self::PosternLogging => (self.postern_binary()?, "--version"),
        };
        let output = Command::new(&program).arg(flag).output();
        let output =
            output.with_context(|| format!("{program} is not here; on Debian: apt-get install nginx-light haproxy"))?;
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned())
    }

    /// With a certificate, clients are to come over TLS.
    pub fn start(self, app: SocketAddr, certificate: Option<&Certificate>) -> anyhow::Result<Proxy> {
        let folder = tempfile::tempdir()?;
        let http = free_address()?;
        let https = certificate.map(|_| free_address()).transpose()?;
        if let Some(certificate) = certificate {
            write(&folder, settings::PEM, &certificate.pem())?;
        }
        let process = match self {
            Self::Nginx | Self::NginxLogging => {
                let logs = self == Self::NginxLogging;
                let path = write(
                    &folder,
                    "nginx.conf",
                    &settings::nginx(http, https, app, folder.path(), logs),
                )?;
                Process::spawn(
                    "nginx",
                    &["-p".into(), folder.path().display().to_string(), "-c".into(), path],
                )?
            }
            Self::Haproxy => {
                let path = write(
                    &folder,
                    "haproxy.cfg",
                    &settings::haproxy(http, https, app, folder.path()),
                )?;
                Process::spawn("haproxy", &["-f".into(), path])?
            }
            Self::Postern | Self::PosternBefore | Self::PosternLogging => {
                write(&folder, "bench.yaml", &manifests::app("bench", wire::HOST, app))?;
                if let Some(certificate) = certificate {
                    write(&folder, "certificate.yaml", &certificate.secret())?;
                }
                let log = if self == Self::PosternLogging { "all" } else { "off" };
                let binary = self.postern_binary()?;
                postern(folder.path(), &binary, http, https, free_address()?, log)?
            }
        };
        let mut proxy = Proxy {
            address: https.unwrap_or(http),
            process,
            _folder: folder,
        };
        wait_served(&mut proxy.process, http, wire::HOST).with_context(|| format!("{} does not serve", self.name()))?;
        Ok(proxy)
    }
}

/// Waits until a GET is answered with 200.
pub fn wait_served(process: &mut Process, address: SocketAddr, host: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    loop {
        let mut answer = [0; 12];
        let asked = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(START))?;
            stream.write_all(&wire::get(host))?;
            stream.read_exact(&mut answer)
        });
        if asked.is_ok() && answer.ends_with(b"200") {
            return Ok(());
        }
        if process.exited()? {
            bail!("it ended at its start");
        }
        if Instant::now() > deadline {
            bail!(
                "no 200 within {START:?}, last: {asked:?} {}",
                String::from_utf8_lossy(&answer)
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Postern on a folder of manifests. With an address for TLS, these have the certificate as well.
pub fn postern(
    folder: &Path,
    binary: &str,
    http: SocketAddr,
    https: Option<SocketAddr>,
    admin: SocketAddr,
    access_log: &str,
) -> anyhow::Result<Process> {
    let default = https.map_or_else(String::new, |_| {
        format!("--default-tls-secret {} ", certificate::SECRET)
    });
    let https = https.map_or_else(free_address, Ok)?;
    let flags = format!(
        "run --http-address {http} --https-address {https} --admin-address {admin} {default}--workers 2 --log error \
         --access-log {access_log} \
         --shutdown-delay 0s --drain-deadline 0s"
    );
    let mut arguments: Vec<String> = flags.split(' ').map(str::to_owned).collect();
    arguments.extend(["--manifests".to_owned(), folder.display().to_string()]);
    Process::spawn(binary, &arguments)
}

/// A port that was free a moment ago: not every proxy can be told to pick one and say which.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn write(folder: &TempDir, name: &str, text: &str) -> anyhow::Result<String> {
    let path = folder.path().join(name);
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

//! The proxies side by side: each set to do the same work for one hostname and one app, two workers each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use tempfile::TempDir;

use super::certs::Authority;
use super::client::Workload;
use super::dial::Over;
use super::manifests;
use super::process::{Process, Role};
use super::wire;

/// Of the file with the authority that clients trust.
const AUTHORITY: &str = "authority.pem";

const START: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Nginx,
    Haproxy,
    Postern,
}

/// A running proxy that answers. Ends when dropped.
pub struct Proxy {
    pub kind: Kind,
    address: SocketAddr,
    tls: SocketAddr,
    pub process: Process,
    folder: TempDir,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Postern => "postern",
        }
    }

    /// What it says of its own version.
    pub fn version(self) -> anyhow::Result<String> {
        let (program, flag) = match self {
            Self::Nginx => ("nginx".to_owned(), "-v"),
            Self::Haproxy => ("haproxy".to_owned(), "-v"),
            Self::Postern => (postern_binary(), "--version"),
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

    /// nginx has no RFC 8441.
    pub fn speaks(self, over: Over) -> bool {
        over != Over::Http2 || self != Self::Nginx
    }

    pub fn start(self, app: SocketAddr) -> anyhow::Result<Proxy> {
        let folder = tempfile::tempdir()?;
        let (address, tls) = (free_address()?, free_address()?);
        let authority = Authority::new("bench");
        let leaf = authority.server(&[wire::HOST]);
        write(&folder, AUTHORITY, &authority.pem())?;
        let process = match self {
            Self::Nginx => {
                let path = write(&folder, "nginx.conf", &nginx(address, tls, app, folder.path()))?;
                write(&folder, "chain.pem", &leaf.certificate)?;
                write(&folder, "key.pem", &leaf.key)?;
                Process::spawn(
                    "nginx",
                    &["-p".into(), folder.path().display().to_string(), "-c".into(), path],
                )?
            }
            Self::Haproxy => {
                let pem = write(&folder, "bench.pem", &format!("{}{}", leaf.certificate, leaf.key))?;
                let path = write(&folder, "haproxy.cfg", &haproxy(address, tls, &pem, app))?;
                Process::spawn("haproxy", &["-f".into(), path])?
            }
            Self::Postern => {
                let secret = leaf.secret("bench", "default");
                let app = manifests::app("bench", wire::HOST, app);
                write(&folder, "bench.yaml", &format!("{app}---\n{secret}\n"))?;
                postern(folder.path(), address, tls, free_address()?)?
            }
        };
        let mut proxy = Proxy {
            kind: self,
            address,
            tls,
            process,
            folder,
        };
        proxy.wait(wire::HOST)?;
        Ok(proxy)
    }
}

impl Proxy {
    pub fn client(&self, workload: Workload) -> anyhow::Result<Role> {
        let target = match workload.over {
            Over::Plain => self.address,
            Over::Tls | Over::Resumed | Over::Http2 => self.tls,
        };
        let authority = self.folder.path().join(AUTHORITY).display().to_string();
        let workload = serde_json::to_string(&workload)?;
        Role::spawn(&["client", &target.to_string(), &authority, &workload])
    }

    fn wait(&mut self, host: &str) -> anyhow::Result<()> {
        wait_served(&mut self.process, self.address, host)
            .with_context(|| format!("{} does not serve", self.kind.name()))
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

/// Postern as it ships, on a folder of manifests.
pub fn postern(folder: &Path, http: SocketAddr, https: SocketAddr, admin: SocketAddr) -> anyhow::Result<Process> {
    let flags = format!(
        "run --http-address {http} --https-address {https} --admin-address {admin} --default-tls-secret bench/default --workers 2 --log error --shutdown-delay 0s --drain-deadline 0s"
    );
    let mut arguments: Vec<String> = flags.split(' ').map(str::to_owned).collect();
    arguments.extend(["--manifests".to_owned(), folder.display().to_string()]);
    Process::spawn(&postern_binary(), &arguments)
}

/// The one that Cargo built for this bench, or another to compare with.
fn postern_binary() -> String {
    std::env::var("POSTERN_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_postern").to_owned())
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

/// With the headers that an ingress sends to its app, as Postern sends them unasked.
fn nginx(listen: SocketAddr, tls: SocketAddr, app: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream app {{ server {app}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {listen} backlog=4096;
    listen {tls} ssl backlog=4096;
    ssl_certificate {folder}/chain.pem;
    ssl_certificate_key {folder}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets on;
    server_name {host};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Real-Ip $remote_addr;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Deployment-Id bench;
      add_header X-Request-Id $request_id;
    }}
  }}
}}
",
        host = wire::HOST
    )
}

fn haproxy(listen: SocketAddr, tls: SocketAddr, pem: &str, app: SocketAddr) -> String {
    format!(
        "global
  nbthread 2
  maxconn 9500
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  http-reuse always
frontend in
  bind {listen} backlog 4096
  bind {tls} backlog 4096 ssl crt {pem} alpn h2,http/1.1
  acl bench req.hdr(host) -i {host}
  unique-id-format %[uuid]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Real-Ip %[src]
  http-request set-header X-Request-Id %[unique-id]
  http-request set-header X-Deployment-Id bench
  http-response set-header X-Request-Id %[unique-id]
  use_backend app if bench
backend app
  server app {app} pool-max-conn 256
",
        host = wire::HOST
    )
}

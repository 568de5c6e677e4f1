//! A real ACME server, what it takes names for, and the load balancer at which it looks for challenges.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::certs::Authority;
use crate::support::control_plane::ControlPlane;
use crate::support::postern::Postern;
use crate::support::process::{Process, RunFolder, free_port, wait_until};

pub struct Pebble {
    directory: String,
    ca: PathBuf,
    pub balancer: Balancer,
    _processes: [Process; 2],
    _run: RunFolder,
}

impl Pebble {
    /// Issues certificates for so many seconds.
    pub async fn start(validity: u32) -> Self {
        let control_plane = ControlPlane::shared().await.expect("a control plane");
        let binaries = control_plane.binaries();
        let run = RunFolder::create().expect("a folder");
        let balancer = Balancer::start().await;
        let authority = Authority::new("vouches for the ACME server");
        let leaf = authority.server(&["127.0.0.1"]);
        let (port, names_port) = (free_port().expect("a port"), free_port().expect("a port"));
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "certificate": run.path("server.pem"),
            "privateKey": run.path("server-key.pem"),
            "httpPort": balancer.address.port(),
            "tlsPort": 1,
            "keyAlgorithm": "ecdsa",
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"only": {"description": "the only one", "validityPeriod": validity}},
        }});
        for (name, content) in [
            ("ca.pem", authority.pem()),
            ("server.pem", leaf.certificate),
            ("server-key.pem", leaf.key),
            ("config.json", config.to_string()),
        ] {
            run.write(name, content.as_bytes()).expect("writes");
        }
        let mut names = binaries.pebble_names();
        names.args([
            "-http01",
            "",
            "-https01",
            "",
            "-doh",
            "",
            "-tlsalpn01",
            "",
            "-management",
            "",
        ]);
        names.args(["-defaultIPv6", "", "-dnsserver", &format!("127.0.0.1:{names_port}")]);
        let mut server = binaries.pebble();
        // Each order proves its hostname anew. That requests fail for a bad nonce now and then is left as it is.
        server.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        server.arg("-config").arg(run.path("config.json"));
        server.args(["-dnsserver", &format!("127.0.0.1:{names_port}")]);
        let processes = [
            Process::spawn("pebble-names", names, &run).expect("starts"),
            Process::spawn("pebble", server, &run).expect("starts"),
        ];
        let running: Vec<_> = processes.iter().collect();
        let listens = wait_until("pebble listens", &running, Duration::from_secs(20), async || {
            TcpStream::connect(("127.0.0.1", names_port)).await?;
            TcpStream::connect(("127.0.0.1", port)).await?;
            Ok(())
        });
        listens.await.expect("listens");
        Self {
            directory: format!("https://127.0.0.1:{port}/dir"),
            ca: run.path("ca.pem"),
            balancer,
            _processes: processes,
            _run: run,
        }
    }

    /// What `run` needs to order here.
    pub fn flags(&self) -> [&str; 6] {
        let ca = self.ca.to_str().expect("UTF-8");
        let (directory, email) = (self.directory.as_str(), "ops@example.com");
        ["--acme-directory", directory, "--acme-ca", ca, "--acme-email", email]
    }
}

/// Hands each connection to the next target; while there is none, it holds them.
pub struct Balancer {
    address: SocketAddr,
    targets: watch::Sender<Vec<SocketAddr>>,
    /// Which target got each connection; None while it is held.
    connections: Arc<Mutex<Vec<Option<SocketAddr>>>>,
}

impl Balancer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        let (targets, changes) = watch::channel(Vec::<SocketAddr>::new());
        let connections = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let number = {
                    let mut seen = seen.lock().expect("nobody panics here");
                    seen.push(None);
                    seen.len() - 1
                };
                let (mut changes, seen) = (changes.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let target = match changes.wait_for(|targets| !targets.is_empty()).await {
                        Ok(targets) => targets[number % targets.len()],
                        Err(_) => return,
                    };
                    seen.lock().expect("nobody panics here")[number] = Some(target);
                    if let Ok(mut far) = TcpStream::connect(target).await {
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self {
            address,
            targets,
            connections,
        }
    }

    pub fn to(&self, replicas: &[&Postern]) {
        self.to_addresses(replicas.iter().map(|replica| replica.http).collect());
    }

    /// None: connections are held.
    pub fn to_addresses(&self, targets: Vec<SocketAddr>) {
        self.targets.send_replace(targets);
    }

    pub fn connections(&self) -> usize {
        self.connections.lock().expect("nobody panics here").len()
    }

    pub fn has_reached(&self, replica: &Postern) -> bool {
        let connections = self.connections.lock().expect("nobody panics here");
        connections.contains(&Some(replica.http))
    }
}

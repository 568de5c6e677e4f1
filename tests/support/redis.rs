//! A real redis-server as a child process: on a port that stays its own through a restart, and to be paused, killed and
//! flushed. What it keeps it keeps in memory.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::certs::Authority;
use super::process::free_port;
use super::{eventually, within};

pub struct Redis {
    pub port: u16,
    /// With the password, where there is one, as `--redis-credentials` takes it.
    pub folder: TempDir,
    password: Option<&'static str>,
    /// It takes no connection without TLS, so that its own words go another way.
    tls: bool,
    child: Option<Child>,
}

impl Redis {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::with(folder, None, false).await
    }

    /// By TLS alone, for 127.0.0.1, with a password of its user.
    pub async fn secured(authority: &Authority, username: &str, password: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writes");
        let leaf = authority.server(&["127.0.0.1"]);
        write("tls.crt", &leaf.certificate);
        write("tls.key", &leaf.key);
        write("ca.crt", &authority.pem());
        write("username", username);
        write("password", &format!("{password}\n"));
        write(
            "users.acl",
            &format!("user default off\nuser {username} on >{password} ~postern:* +@all\n"),
        );
        Self::with(folder, Some(password), true).await
    }

    async fn with(folder: TempDir, password: Option<&'static str>, tls: bool) -> Self {
        let mut redis = Self {
            port: free_port().expect("a port"),
            folder,
            password,
            tls,
            child: None,
        };
        redis.restart().await;
        redis
    }

    /// Starts it, with nothing in it. It must not run.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let port = self.port.to_string();
        // It ends with whoever starts it, be he killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server"]);
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
        ]);
        command.arg("--dir").arg(self.folder.path());
        if self.tls {
            command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
            for (flag, file) in [
                ("--tls-cert-file", "tls.crt"),
                ("--tls-key-file", "tls.key"),
                ("--tls-ca-cert-file", "ca.crt"),
                ("--aclfile", "users.acl"),
            ] {
                command.arg(flag).arg(self.path(file));
            }
        } else {
            command.args(["--port", &port]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("setpriv runs");
        self.child = Some(child);
        let port = self.port;
        eventually("redis-server listens", || async move {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
    }

    /// At once, as a crash would end it.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
    }

    /// It keeps its connections and takes new ones, and answers to none.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// One command, whose whole answer is awaited up to its first line.
    pub async fn say(&self, command: &str) -> String {
        assert!(!self.tls && self.password.is_none(), "it is asked in plaintext");
        let talk = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("connects");
            stream
                .write_all(format!("{command}\r\n").as_bytes())
                .await
                .expect("sends");
            stream.write_all(b"QUIT\r\n").await.expect("sends");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        within("redis answers", talk).await
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

//! Headless Chromium, driven over its debugging pipe: NUL-terminated JSON (the Chrome DevTools Protocol).

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::browser::{PATIENCE, echo, open, protocol, trust};
use super::certs::Authority;

/// A browser with one page. Dropping it ends all its processes.
pub struct Chromium {
    child: Child,
    pipe: Option<ChildStdin>,
    messages: UnboundedReceiver<Value>,
    session: Value,
    last: u64,
    /// What the page has told without being asked.
    events: Vec<Value>,
    _home: TempDir,
}

impl Chromium {
    /// Every host's port 443 is that address.
    pub async fn start(authority: &Authority, https: SocketAddr) -> Self {
        let home = tempfile::tempdir().expect("makes a folder");
        trust(authority, &home.path().join(".pki/nssdb"));
        let mut command = Command::new("sh");
        // The pipe is descriptors 3 and 4.
        command.args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "chromium"]);
        command.args(["--headless=new", "--remote-debugging-pipe", "--disable-gpu"]);
        // In a container there are neither namespaces to give away nor a large /dev/shm.
        command.args(["--no-sandbox", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--disable-background-networking", "--no-proxy-server"]);
        command.arg(format!("--host-resolver-rules=MAP *:443 {https}"));
        command.arg(format!("--user-data-dir={}", home.path().join("profile").display()));
        command.env("HOME", home.path());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("starts");
        let pipe = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().expect("is piped"));
        let (sender, messages) = unbounded_channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|count| count > 0) {
                let parsed = serde_json::from_slice(message.strip_suffix(&[0]).unwrap_or(&message));
                if sender.send(parsed.expect("JSON")).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            child,
            pipe,
            messages,
            session: Value::Null,
            last: 0,
            events: Vec::new(),
            _home: home,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", target).await;
        browser.session = attached["sessionId"].clone();
        browser.call("Network.enable", json!({})).await;
        browser.call("Page.enable", json!({})).await;
        browser
    }

    /// Opens a page and waits until it is there; the protocol that brought it: `http/1.1` or `h2`.
    pub async fn visit(&mut self, host: &str) -> String {
        self.events.clear();
        let url = format!("https://{host}/");
        let gone = self.call("Page.navigate", json!({"url": url})).await;
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        self.event("Page.loadEventFired").await;
        let response = self.event("Network.responseReceived").await;
        protocol(&response["response"]["protocol"])
    }

    /// Opens a socket from the page, sends a text and gets its answer: that, and the protocol that carried it.
    pub async fn echo(&mut self, host: &str, text: &str) -> (String, String) {
        self.events.clear();
        let answer = self.evaluate(&echo(&format!("wss://{host}/ws"), text)).await;
        let opened = self.event("Network.webSocketHandshakeResponseReceived").await;
        let protocol = match opened["response"]["status"].as_u64() {
            Some(101) => "http/1.1",
            // Extended CONNECT: its success is 200 (RFC 8441 section 5).
            Some(200) => "h2",
            _ => panic!("{opened}"),
        };
        (answer.as_str().expect("a text").to_owned(), protocol.to_owned())
    }

    /// Opens a socket that offers subprotocols: `{protocol, first}`, the chosen one and the first message; or `{closed}`, the
    /// code that a page is told.
    pub async fn open(&mut self, host: &str, offered: &[&str]) -> Value {
        self.evaluate(&open(&format!("wss://{host}/ws"), offered)).await
    }

    async fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.call("Runtime.evaluate", parameters).await;
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// The parameters of an event that has come or will.
    async fn event(&mut self, name: &str) -> Value {
        loop {
            if let Some(event) = self.events.iter().find(|event| event["method"] == name) {
                return event["params"].clone();
            }
            let event = self.next().await;
            self.events.push(event);
        }
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut call = json!({"id": self.last, "method": method, "params": parameters});
        if !self.session.is_null() {
            call["sessionId"] = self.session.clone();
        }
        let message = [call.to_string().as_bytes(), &[0]].concat();
        let pipe = self.pipe.as_mut().expect("is open");
        pipe.write_all(&message).expect("the browser is there");
        loop {
            let message = self.next().await;
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    async fn next(&mut self) -> Value {
        match tokio::time::timeout(PATIENCE, self.messages.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) => panic!("the browser has ended; on Debian: apt-get install chromium"),
            Err(_) => panic!("the browser says nothing; so far: {:?}", self.events),
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // All its processes end with its pipe.
        drop(self.pipe.take());
        let start = std::time::Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

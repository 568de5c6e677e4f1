//! Headless Firefox, driven over WebDriver BiDi: JSON on a WebSocket.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::browser::{PATIENCE, echo, protocol, trust};
use super::certs::Authority;

/// A browser with one page. Dropping it ends all its processes.
pub struct Firefox {
    child: Child,
    socket: WebSocketStream<TcpStream>,
    /// Firefox maps names to loopback, and no ports.
    port: u16,
    page: Value,
    last: u64,
    events: Vec<Value>,
    _home: TempDir,
}

impl Firefox {
    /// That host lies on loopback, at the port of that address.
    pub async fn start(authority: &Authority, https: SocketAddr, host: &str) -> Self {
        let home = tempfile::tempdir().expect("makes a folder");
        let profile = home.path().join("profile");
        trust(authority, &profile);
        let settings = format!("user_pref(\"network.dns.localDomains\", \"{host}\");\n");
        std::fs::write(profile.join("user.js"), settings).expect("writes");
        let mut command = Command::new("firefox-esr");
        command
            .args(["--headless", "--remote-debugging-port=0", "--profile"])
            .arg(&profile);
        command.env("HOME", home.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .expect("firefox is not here; on Debian: apt-get install firefox-esr");
        let stderr = child.stderr.take().expect("is piped");
        let (sender, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut sender = Some(sender);
            // To its end: a browser that cannot write its log stands still.
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("WebDriver BiDi listening on ws://")
                    && let Some(sender) = sender.take()
                {
                    let _ = sender.send(address.to_owned());
                }
            }
        });
        let address = tokio::time::timeout(PATIENCE, told).await;
        let address = address
            .expect("the browser starts in time")
            .expect("the browser starts");
        let stream = TcpStream::connect(&address).await.expect("connects");
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/session"), stream)
            .await
            .expect("opens a socket");
        let mut firefox = Self {
            child,
            socket,
            port: https.port(),
            page: Value::Null,
            last: 0,
            events: Vec::new(),
            _home: home,
        };
        firefox.call("session.new", json!({"capabilities": {}})).await;
        let events = json!({"events": ["network.responseStarted"]});
        firefox.call("session.subscribe", events).await;
        let tree = firefox.call("browsingContext.getTree", json!({})).await;
        firefox.page = tree["contexts"][0]["context"].clone();
        firefox
    }

    /// Opens a page and waits until it is there; the protocol that brought it: `http/1.1` or `h2`.
    pub async fn visit(&mut self, host: &str) -> String {
        let url = format!("https://{host}:{}/", self.port);
        let page = json!({"context": self.page, "url": url, "wait": "complete"});
        self.call("browsingContext.navigate", page).await;
        self.protocol_of(&url).await
    }

    /// Opens a socket from the page, sends a text and gets its answer: that, and the protocol that carried it.
    pub async fn echo(&mut self, host: &str, text: &str) -> (String, String) {
        let url = format!("wss://{host}:{}/ws", self.port);
        let target = json!({"context": self.page});
        let script = json!({"expression": echo(&url, text), "target": target, "awaitPromise": true});
        let result = self.call("script.evaluate", script).await;
        assert_eq!(result["type"], "success", "{result}");
        let answer = result["result"]["value"].as_str().expect("a text").to_owned();
        // Firefox tells of the handshake as of any request.
        let protocol = self.protocol_of(&url.replacen("wss", "https", 1)).await;
        (answer, protocol)
    }

    async fn protocol_of(&mut self, url: &str) -> String {
        loop {
            let response = self
                .events
                .iter()
                .find(|event| event["params"]["request"]["url"] == url);
            if let Some(response) = response {
                return protocol(&response["params"]["response"]["protocol"]);
            }
            let event = self.next().await;
            self.events.push(event);
        }
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let call = json!({"id": self.last, "method": method, "params": parameters});
        self.socket.send(Message::text(call.to_string())).await.expect("sends");
        loop {
            let message = self.next().await;
            if message["id"] == self.last {
                assert_eq!(message["type"], "success", "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => return serde_json::from_str(&text).expect("JSON"),
                Ok(Some(Ok(_))) => {}
                Ok(ended) => panic!("the browser has ended: {ended:?}"),
                Err(_) => panic!("the browser says nothing; so far: {:?}", self.events),
            }
        }
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        // Its other processes end with the first.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

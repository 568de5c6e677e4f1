//! What the browsers of the tests have in common: the store with the authority they trust, and the socket they open.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::certs::Authority;

/// A browser takes its time to start, above all several of them on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a certificate store of NSS with the authority in it.
pub fn trust(authority: &Authority, store: &Path) {
    std::fs::create_dir_all(store).expect("makes a folder");
    let file = tempfile::NamedTempFile::new().expect("makes a file");
    std::fs::write(file.path(), authority.pem()).expect("writes");
    let store = format!("sql:{}", store.display());
    let file = file.path().display().to_string();
    certutil(&["-d", &store, "-N", "--empty-password"]);
    certutil(&["-d", &store, "-A", "-t", "C,,", "-n", "test", "-i", &file]);
}

fn certutil(arguments: &[&str]) {
    let output = Command::new("certutil").args(arguments).output();
    let output = output.expect("certutil is not here; on Debian: apt-get install libnss3-tools");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// JavaScript: a promise of the first message on a new socket that has sent a text.
pub fn echo(url: &str, text: &str) -> String {
    let (url, text) = (json!(url), json!(text));
    format!(
        "new Promise((done, failed) => {{
           const socket = new WebSocket({url});
           socket.onopen = () => socket.send({text});
           socket.onmessage = message => {{ done(message.data); socket.close(); }};
           socket.onclose = closed => failed(new Error('closed with ' + closed.code));
         }})"
    )
}

/// JavaScript: a promise of the chosen subprotocol and the first message of a new socket, or of the code it is closed with.
pub fn open(url: &str, offered: &[&str]) -> String {
    let (url, offered) = (json!(url), json!(offered));
    format!(
        "new Promise(done => {{
           const socket = new WebSocket({url}, {offered});
           socket.onmessage = message => {{ done({{protocol: socket.protocol, first: message.data}}); socket.close(); }};
           socket.onclose = closed => done({{closed: closed.code}});
         }})"
    )
}

/// `http/1.1` or `h2`.
pub fn protocol(value: &Value) -> String {
    value.as_str().expect("a protocol").to_owned()
}

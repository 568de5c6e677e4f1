//! Handshakes that are slow, broken, huge or many: each costs itself alone, for a bounded time, and open sockets go on.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::certs::{Authority, secret};
use crate::support::front::{Front, Transport};
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::tls::Client;
use crate::support::wire::{End, Wire};
use crate::support::{eventually, noise, within};
use crate::tls::ask;

const HOST: &str = "app.example.test";
/// A handshake record of TLS 1.2's wire version; its length follows.
const RECORD: [u8; 3] = [22, 3, 3];
const CLIENT_HELLO: u8 = 1;

/// Postern with an open socket, which must echo to the end.
struct Bench {
    front: Front,
    socket: Wire,
    _backend: Backend,
}

impl Bench {
    async fn start(flags: &[&str]) -> Self {
        let backend = Backend::echoing().await;
        let site = Site::new("app", HOST).to(backend.address);
        let front = Front::start_with(Transport::Tls, &[site], flags).await;
        let socket = front.open(HOST, "/").await;
        Self {
            front,
            socket,
            _backend: backend,
        }
    }

    fn address(&self) -> SocketAddr {
        self.front.postern.https
    }

    async fn still_echoes(&mut self) {
        self.socket.send("still here?").await;
        assert_eq!(self.socket.exactly(11).await, b"still here?");
        self.front.open(HOST, "/").await;
    }
}

/// A ClientHello as rustls writes it, in as many records as its settings make of it.
fn hello(config: Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from(HOST).expect("a name");
    let mut connection = ClientConnection::new(config, name).expect("begins");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("writes");
    bytes
}

fn record(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short record");
    [&RECORD[..], &length.to_be_bytes(), payload].concat()
}

async fn connect(to: SocketAddr) -> TcpStream {
    let stream = within("connect", TcpStream::connect(to)).await.expect("connects");
    stream.set_nodelay(true).expect("sets TCP_NODELAY");
    stream
}

#[tokio::test]
async fn handshake_that_does_not_begin_is_given_up() {
    let mut bench = Bench::start(&["--tls-handshake-timeout", "1s"]).await;
    let start = Instant::now();
    let mut silent = Wire::new(connect(bench.address()).await);
    silent.rest().await;
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    bench.still_echoes().await;
}

#[tokio::test]
async fn handshake_byte_by_byte_gets_no_longer_time() {
    let mut bench = Bench::start(&["--tls-handshake-timeout", "1s"]).await;
    let bytes = hello(Client::of(&bench.front.authority).config());
    let start = Instant::now();
    let mut wire = Wire::new(connect(bench.address()).await);
    // All of it would take 10 s and more.
    for byte in &bytes {
        if !wire.try_send([*byte]).await || !wire.quiet_for(Duration::from_millis(50)).await {
            break;
        }
    }
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    bench.still_echoes().await;
}

#[tokio::test]
async fn timeout_of_handshakes_changes_with_the_settings() {
    let postern = Postern::start_configured(&[], &json!({"tlsHandshakeTimeout": "1h"})).await;
    let mut early = Wire::new(connect(postern.https).await);
    postern.configure(&json!({"tlsHandshakeTimeout": "1s"}));
    let cut = async || {
        let mut wire = Wire::new(connect(postern.https).await);
        !wire.quiet_for(Duration::from_secs(3)).await
    };
    eventually("handshakes are given up early", cut).await;
    // One that has begun goes by what it began with.
    assert!(early.quiet_for(Duration::from_secs(2)).await);
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so() {
    let mut bench = Bench::start(&[]).await;
    for method in ["GET", "POST", "OPTIONS"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
        let mut wire = Wire::new(connect(bench.address()).await);
        wire.send(request).await;
        let answer = wire.answer().await;
        assert_eq!((method, answer.status()), (method, 400));
        assert_eq!(answer.head.get("connection"), Some("close"));
        let text = answer.text().to_ascii_lowercase();
        assert!(text.contains("https"), "{text}");
        assert_eq!(wire.rest().await, (Vec::new(), End::Fin));
    }
    bench.still_echoes().await;
}

#[tokio::test]
async fn garbage_is_hung_up_on() {
    let mut bench = Bench::start(&[]).await;
    let mut inputs: Vec<Vec<u8>> = (1..20).map(|seed| noise(500, seed)).collect();
    inputs.extend([
        vec![0; 64],
        vec![0xFF; 64 * 1024],
        // An alert, application data and a change of ciphers where a ClientHello belongs.
        vec![21, 3, 3, 0, 2, 2, 40],
        vec![23, 3, 3, 0, 4, 1, 2, 3, 4],
        vec![20, 3, 3, 0, 1, 1],
        // A ClientHello without content, and one with a length that its content has not.
        record(&[CLIENT_HELLO, 0, 0, 0]),
        record(&[CLIENT_HELLO, 0, 0, 8, 3, 3, 1, 2, 3, 4, 5, 6]),
        // An empty handshake record (RFC 8446 section 5.1 forbids it).
        record(&[]),
        // SSL 2.0's hello.
        vec![0x80, 0x2E, 1, 0, 2, 0, 21, 0, 0, 0, 16],
    ]);
    for input in inputs {
        let mut stream = connect(bench.address()).await;
        let _ = stream.write_all(&input).await;
        // Some of it could be the beginning of something.
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = within("the end", stream.read_to_end(&mut answer)).await;
        // At most an alert; what looks like the beginning of plaintext HTTP is told in plaintext.
        let told = answer.is_empty() || answer[0] == 21 || answer.starts_with(b"HTTP/1.1 400 ");
        assert!(told, "{answer:?}");
    }
    bench.still_echoes().await;
}

#[tokio::test]
async fn client_hello_that_claims_to_be_huge_is_hung_up_on() {
    let mut bench = Bench::start(&[]).await;
    // 16 MiB announced, sent in records of the largest size.
    let first = record(&[&[CLIENT_HELLO, 0xFF, 0xFF, 0xFF, 3, 3][..], &noise(16_000, 1)].concat());
    let more = record(&noise(16_000, 2));
    let mut stream = connect(bench.address()).await;
    let mut sent = 0;
    let flood = async {
        let mut bytes = first.as_slice();
        while stream.write_all(bytes).await.is_ok() {
            sent += bytes.len();
            bytes = &more;
        }
    };
    within("the server hangs up", flood).await;
    // The kernel's buffers take some MiB; what counts is that the server stopped reading.
    assert!(sent < 16 << 20, "the server took {sent} bytes");
    bench.still_echoes().await;
}

#[tokio::test]
async fn client_hello_in_fragments_is_understood() {
    let mut bench = Bench::start(&[]).await;
    for version in [&TLS12, &TLS13] {
        let client = Client::speaking(&bench.front.authority, &[version]);
        let mut config = ClientConfig::clone(&client.config());
        // Records of 32 bytes: the hello takes a dozen.
        config.max_fragment_size = Some(37);
        assert!(hello(Arc::new(config.clone())).len() > 37 * 3);
        let name = ServerName::try_from(HOST).expect("a name");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = within("a handshake", connector.connect(name, connect(bench.address()).await)).await;
        let mut wire = Wire::tls(stream.expect("a handshake"));
        wire.send(crate::support::ws::handshake(HOST, "/", "")).await;
        assert_eq!(wire.head().await.status(), 101);
    }
    bench.still_echoes().await;
}

#[tokio::test]
async fn client_hello_byte_by_byte_is_understood() {
    let mut bench = Bench::start(&[]).await;
    let bytes = hello(Client::of(&bench.front.authority).config());
    let mut stream = connect(bench.address()).await;
    for byte in bytes {
        stream.write_all(&[byte]).await.expect("sends");
        tokio::task::yield_now().await;
    }
    let mut answer = [0; 6];
    within("an answer", stream.read_exact(&mut answer))
        .await
        .expect("an answer");
    // A handshake record with a ServerHello.
    assert_eq!((answer[0], answer[5]), (22, 2));
    bench.still_echoes().await;
}

#[tokio::test]
async fn renegotiation_is_refused() {
    let mut bench = Bench::start(&[]).await;
    let address = bench.address().to_string();
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, "-servername", HOST, "-tls1_2"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("openssl is installed");
        let mut input = child.stdin.take().expect("is piped");
        // A line that begins with R asks for a renegotiation.
        input.write_all(b"R\n").expect("writes");
        // It ends by itself when it is refused; else with its input.
        let waiting = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(5));
            drop(input);
        });
        let output = child.wait_with_output().expect("ends");
        drop(waiting);
        [output.stdout, output.stderr].concat()
    })
    .await
    .expect("runs");
    let text = String::from_utf8_lossy(&output);
    assert!(text.contains("RENEGOTIATING"), "{text}");
    // OpenSSL prints the chain anew for each handshake.
    let (first, second) = text.split_once("RENEGOTIATING").unwrap_or_default();
    assert!(
        first.contains("verify return") && !second.contains("verify return"),
        "{text}"
    );
    assert!(second.contains("error:"), "{text}");
    bench.still_echoes().await;
}

#[tokio::test]
async fn flood_of_handshakes_cuts_no_socket_and_leaves_nothing_behind() {
    let mut bench = Bench::start(&["--tls-handshake-timeout", "2s"]).await;
    let held = bench.front.postern.descriptors();
    let address = bench.address();
    let bytes = hello(Client::of(&bench.front.authority).config());
    // Half of them go away in mid-handshake, half stay there.
    let mut stuck = Vec::new();
    for i in 0..400 {
        let mut stream = connect(address).await;
        stream.write_all(&bytes).await.expect("sends");
        if i % 2 == 0 {
            stuck.push(stream);
        }
        if i % 100 == 0 {
            bench.still_echoes().await;
        }
    }
    let client = Client::of(&bench.front.authority);
    let whole: Vec<_> = (0..200)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.try_connect(address, HOST).await.is_ok() })
        })
        .collect();
    bench.still_echoes().await;
    for handshake in whole {
        assert!(handshake.await.expect("runs"), "a whole handshake failed");
    }
    // The stuck ones are given up by the server, not let go by the client.
    let given_back = async || bench.front.postern.descriptors() <= held + 20;
    eventually("descriptors are back", given_back).await;
    drop(stuck);
    bench.still_echoes().await;
}

#[tokio::test]
async fn private_keys_are_never_told() {
    let authority = Authority::new("authority");
    let backend = Backend::saying("ok").await;
    let (good, bad) = (authority.server(&[HOST]), authority.rsa_server(&["bad.test"]));
    let client_key = authority.client("alice");
    let sites = [
        Site::new("app", HOST)
            .to(backend.address)
            .tls(&good)
            .spec(json!({"clientTls": {"caRef": {"kind": "ConfigMap", "name": "ca"}, "mode": "Optional"}}))
            .with(authority.config_map("default", "ca")),
        // The certificate and the key have changed places: an error that quotes its input would tell it.
        Site::new("swapped", "bad.test")
            .to(backend.address)
            .spec(json!({"tls": [{"secretName": "swapped"}]}))
            .with(secret("default", "swapped", &bad.key, &bad.certificate)),
        Site::new("cut", "cut.test")
            .to(backend.address)
            .spec(json!({"tls": [{"secretName": "cut"}]}))
            .with(secret(
                "default",
                "cut",
                &bad.certificate,
                &bad.key[..bad.key.len() / 2],
            )),
        // Not even a Secret: what an error says of an object that cannot be decoded.
        Site::new("odd", "odd.test").to(backend.address).with(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "odd", "namespace": "default"},
            "data": {"tls.key": [good.key], "tls.crt": 5},
        })),
    ];
    let flags = ["--lenient", "--log", "trace", "--default-tls-secret", "default/app"];
    let postern = Postern::start_with(&sites, &flags).await;
    for version in [&TLS12, &TLS13] {
        let client = Client::speaking(&authority, &[version]).showing(&client_key);
        let mut wire = client.connect(postern.https, HOST).await;
        assert_eq!(ask(&mut wire, HOST).await.status(), 200);
    }
    let mut told = postern.log().join("\n");
    assert!(told.len() > 1000, "nothing was logged");
    for page in ["/debug/snapshot", "/debug/config", "/metrics"] {
        let answer = postern.ask_admin(page).await;
        assert_eq!((page, answer.status()), (page, 200));
        told.push_str(&answer.text());
    }
    for host in [HOST, "bad.test", "cut.test", "odd.test"] {
        let answer = postern.ask_admin(&format!("/debug/why?host={host}&path=/")).await;
        assert_eq!((host, answer.status()), (host, 200));
        told.push_str(&answer.text());
        let mut wire = Client::careless().connect(postern.https, host).await;
        told.push_str(&ask(&mut wire, host).await.text());
    }
    let folder = tempfile::tempdir().expect("makes a folder");
    let manifests: String = sites.iter().map(Site::manifest).collect();
    std::fs::write(folder.path().join("all.yaml"), manifests).expect("writes");
    let mut check = Command::new(env!("CARGO_BIN_EXE_postern"));
    let output = check.arg("check").arg(folder.path()).output().expect("runs");
    told.push_str(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    for name in ["swapped", "cut", "odd"] {
        assert!(told.contains(name), "nothing is told of {name}");
    }
    for key in [&good.key, &bad.key] {
        for trace in traces(key) {
            assert!(!told.contains(&trace), "{trace} of a private key is told");
        }
    }
}

/// Parts of a key as a log could have them: of its PEM, of its Secret's base64, of its bytes in hex and as a list.
fn traces(key: &str) -> Vec<String> {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let lines: Vec<&str> = key.lines().collect();
    let body = lines[1..lines.len() - 1].concat();
    let der = BASE64_STANDARD.decode(&body).expect("PEM");
    // What is the same in all keys comes first: the algorithm.
    let secret = &der[40..52];
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = secret.iter().map(u8::to_string).collect();
    let encoded = BASE64_STANDARD.encode(key);
    vec![
        body[56..76].to_owned(),
        encoded[120..150].to_owned(),
        hex.to_uppercase(),
        hex,
        list.join(", "),
        list.join(","),
    ]
}

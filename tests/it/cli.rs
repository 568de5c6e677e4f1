//! The binary as a person or a kubelet runs it: what it prints, serves and exits with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A limit for what a test waits for; nothing takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(30);

const SHOP: &str = "\
apiVersion: postern.dev/v1alpha1
kind: Deployment
metadata: {name: shop, namespace: acme}
spec:
  hostnames: [shop.example]
  service: {name: shop, port: http}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: acme}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, namespace: acme, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
ports: [{name: http, port: 3000}]
endpoints: [{addresses: [127.0.0.1]}]
";

/// Ends with the test, whatever became of it.
struct Running {
    child: Child,
    log: Receiver<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Serves a folder, on ports that are free.
    fn on(folder: &Path, flags: &[&str]) -> Self {
        let ports = [
            "--http-address=127.0.0.1:0",
            "--https-address=127.0.0.1:0",
            "--admin-address=127.0.0.1:0",
        ];
        Self::start(&[&["run", "--manifests", text(folder)], &ports[..], flags].concat())
    }

    fn start(arguments: &[&str]) -> Self {
        let mut child = postern(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = sync_channel(1024);
        std::thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| lines.send(line))
        });
        Self { child, log }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        eventually("the process ends", || self.child.try_wait().unwrap()).code()
    }

    /// The next log record with this message.
    fn record(&mut self, message: &str) -> Value {
        loop {
            let line = self
                .log
                .recv_timeout(LIMIT)
                .unwrap_or_else(|_| panic!("no record {message:?}"));
            let record: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            if record["message"] == message {
                return record;
            }
        }
    }
}

fn postern(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = postern(arguments).output().unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap(),
    )
}

fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        match check() {
            Some(value) => return value,
            None => assert!(Instant::now() < end, "not within {LIMIT:?}: {what}"),
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Status line, headers and body of a GET.
fn get(address: &str, target: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn manifests(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.yaml"), text).unwrap();
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn try_shows_a_request_and_a_socket_and_leaves_nothing_behind() {
    let (code, output) = run(&["try", "--once"]);
    assert_eq!(code, Some(0), "{output}");
    for line in [
        "< HTTP/1.1 200 OK",
        "x-deployment-id: hello",
        "< HTTP/1.1 101 Switching Protocols",
        "< echo: hello, socket",
        "> GET wss://localhost:",
        "ca.crt",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
    let manifest = output
        .split_whitespace()
        .find(|word| word.ends_with("hello.yaml"))
        .unwrap();
    assert!(!Path::new(manifest).parent().unwrap().exists(), "{manifest}");
}

#[test]
fn run_is_ready_answers_why_and_stops_in_order() {
    let folder = manifests(SHOP);
    let mut postern = Running::on(folder.path(), &["--shutdown-delay", "0s"]);
    let listening = postern.record("listening");
    let admin = listening["admin"].as_str().unwrap();
    eventually("ready", || {
        get(admin, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    let (code, output) = run(&["why", "shop.example/cart", "--admin", &format!("http://{admin}")]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("acme/shop:80, weight 1, 127.0.0.1:3000"), "{output}");
    let (code, output) = run(&["why", "other.example", "--admin", &format!("http://{admin}")]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("404 routing:host_not_found"), "{output}");

    postern.signal("TERM");
    assert_eq!(postern.exit_code(), Some(0));
}

/// The chart's appVersion is the image's tag.
#[test]
fn the_version_is_the_same_wherever_it_is_told() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(&["--version"]), (Some(0), format!("postern {version}\n")));
    let folder = manifests(SHOP);
    let mut postern = Running::on(folder.path(), &[]);
    let listening = postern.record("listening");
    let metrics = get(listening["admin"].as_str().unwrap(), "/metrics").unwrap();
    let line = format!("postern_build_info{{version=\"{version}\"}} 1\n");
    assert!(metrics.contains(&line), "{metrics}");
    let chart = std::fs::read_to_string(crate::support::chart::folder().join("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    assert_eq!(chart["appVersion"], version);
}

#[test]
fn run_follows_its_settings_file() {
    let folder = manifests(SHOP);
    let settings = folder.path().join("settings");
    let write = |log: &str| {
        let manifests = text(folder.path());
        let addresses = "httpAddress: 127.0.0.1:0\nhttpsAddress: 127.0.0.1:0\nadminAddress: 127.0.0.1:0";
        std::fs::write(&settings, format!("manifests: {manifests}\n{addresses}\nlog: {log}\n")).unwrap();
    };
    write("info");
    let mut postern = Running::start(&["run", "--config", text(&settings)]);
    postern.record("listening");
    write("nonsense=nonsense=nonsense");
    postern.record("invalid settings file: the previous settings stay in force");
    write("info,hyper=debug");
    let changed = postern.record("log levels changed");
    assert_eq!(changed["levels"], "info,hyper=debug");
}

/// Nothing was ever good there, so nothing could stand in: the app would be served without its policy.
#[test]
fn run_refuses_files_that_it_does_not_understand_unless_it_is_lenient() {
    let folder = manifests(SHOP);
    std::fs::write(folder.path().join("guard.yaml"), "kind: SentinelPolicy\nspec: [\n").unwrap();
    std::fs::write(
        folder.path().join("typo.yaml"),
        SHOP.replace("shop", "typo").replace("hostnames", "hostname"),
    )
    .unwrap();
    let ports = [
        "--http-address=127.0.0.1:0",
        "--https-address=127.0.0.1:0",
        "--admin-address=127.0.0.1:0",
    ];
    let (code, output) = run(&[&["run", "--manifests", text(folder.path())], &ports[..]].concat());
    assert_eq!(code, Some(1), "{output}");
    for told in [
        "guard.yaml:",
        "typo.yaml:1: Deployment acme/typo: unknown fields: spec.hostname",
        "--lenient",
    ] {
        assert!(output.contains(told), "{told}: {output}");
    }
    assert!(!output.contains("listening"), "{output}");

    let mut postern = Running::on(folder.path(), &["--lenient"]);
    postern.record("invalid manifest: nothing stands in for it");
    let admin = postern.record("listening")["admin"].as_str().unwrap().to_owned();
    eventually("ready", || {
        get(&admin, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = manifests(SHOP);
    let mut postern = Running::on(folder.path(), &["--shutdown-delay", "1h"]);
    postern.record("listening");
    postern.signal("TERM");
    postern.record("stopping; another signal stops at once");
    postern.signal("INT");
    assert_eq!(postern.exit_code(), Some(1));
}

#[test]
fn an_address_in_use_and_a_broken_settings_file_are_clear_errors() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = manifests(SHOP);
    let (code, output) = run(&[
        "run",
        "--manifests",
        text(folder.path()),
        "--http-address",
        &address,
        "--https-address",
        "127.0.0.1:0",
    ]);
    assert_eq!(code, Some(1));
    assert!(
        output.contains(&format!("error: cannot listen on {address}")),
        "{output}"
    );

    let settings = folder.path().join("settings");
    std::fs::write(&settings, "shutdownDely: 5s\n").unwrap();
    let (code, output) = run(&["run", "--config", text(&settings)]);
    assert_eq!(code, Some(1));
    assert!(
        output.contains("error: settings file") && output.contains("shutdownDely"),
        "{output}"
    );
}

#[test]
fn check_accepts_what_is_whole() {
    let folder = manifests(SHOP);
    let (code, output) = run(&["check", text(folder.path())]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 ready of 1"), "{output}");
    assert!(
        output.ends_with("1 Deployment checked: all fully accepted\n"),
        "{output}"
    );
}

/// It is no fault of the manifests: who may use which names is for the installation to say.
#[test]
fn check_notes_that_names_of_several_namespaces_are_not_granted() {
    let other = SHOP.replace("acme", "rival").replace("shop.example", "rival.example");
    let folder = manifests(&format!("{SHOP}---\n{other}"));
    let note = "note: Deployments are of 2 namespaces and hostnameGrants is not set";
    let (code, output) = run(&["check", text(folder.path())]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(note), "{output}");
    let settings = folder.path().join("settings");
    std::fs::write(
        &settings,
        "hostnameGrants: {acme: [shop.example], rival: [rival.example]}",
    )
    .unwrap();
    let (code, output) = run(&["check", text(folder.path()), "--config", text(&settings)]);
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains("note:"), "{output}");
    let (_, output) = run(&["check", text(manifests(SHOP).path())]);
    assert!(!output.contains("note:"), "{output}");
}

#[test]
fn check_fails_for_anything_that_is_not() {
    let cases = [
        (
            SHOP.replace("name: shop, port: http", "name: shop, port: grpc"),
            "PortNotFound",
        ),
        (SHOP.replace("shop.example", "shop_example"), "Invalid"),
        (
            SHOP.replace("hostnames: [shop.example]", "hostnames: shop.example"),
            "Invalid",
        ),
        (
            SHOP.replace("metadata: {name: shop, namespace: acme}\nspec:\n  ports", "metadata: {"),
            "app.yaml: line",
        ),
        (format!("{SHOP}---\n{SHOP}"), "is already defined in"),
        (String::new(), "there is nothing to serve"),
        (
            SHOP.replace("hostnames", "className: other\n  hostnames"),
            "not served: its className is not postern",
        ),
    ];
    for (manifest, expected) in cases {
        let folder = manifests(&manifest);
        let (code, output) = run(&["check", text(folder.path())]);
        assert_eq!(code, Some(1), "{expected}: {output}");
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

#[test]
fn why_tells_from_manifests_who_owns_a_host() {
    let claim = SHOP.replace("acme", "rival");
    let folder = manifests(&format!("{SHOP}---\n{claim}"));
    let (code, output) = run(&[
        "why",
        "https://SHOP.example:443/cart?a=b",
        "--manifests",
        text(folder.path()),
    ]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("deployment  acme/shop"), "{output}");
    assert!(output.contains("rival/shop: HostnameConflict"), "{output}");
}

const GUARD: &str = "\
apiVersion: postern.dev/v1alpha1
kind: SentinelPolicy
metadata: {name: guard, namespace: acme}
spec:
  targetRefs: [{name: shop}]
  rules:
  - {name: no-admin, match: [{path: {prefix: /admin}}, {remoteIp: [10.0.0.0/8], not: true}], firewall: {action: Deny}}
  - {name: pages, match: [{webSocket: true}], origin: {allowed: [same-host], allowMissing: false}}
  - {name: keys, apiKey: {secretSelector: {}, from: [{bearer: {}}, {query: {name: key}}]}}
  - {name: dark, mode: Shadow, match: [{method: [PUT]}], firewall: {action: Deny}}
  - {name: limit, rateLimit: {limit: 1, window: 1h}}
---
apiVersion: v1
kind: Secret
metadata: {name: alice, namespace: acme, labels: {postern.dev/use: api-key}}
stringData: {key: sesame}
";

#[test]
fn why_tells_what_each_rule_makes_of_a_request() {
    let folder = manifests(&format!("{SHOP}---\n{GUARD}"));
    let why = |arguments: &[&str]| {
        let all = [&["why"], arguments, &["--manifests", text(folder.path())]].concat();
        let (code, output) = run(&all);
        assert!(!output.contains("sesame"), "{output}");
        let rules = output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("rule        acme/guard/"));
        (code, rules.map(str::to_owned).collect::<Vec<_>>().join("; "))
    };
    let refused = "no-admin (firewall) refuses: 403 client:firewall_denied";
    assert_eq!(why(&["shop.example/admin"]), (Some(1), refused.to_owned()));
    assert_eq!(
        why(&["shop.example/x/%61dmin/../../admin"]),
        (Some(1), refused.to_owned())
    );
    let (code, rules) = why(&[
        "wss://shop.example/admin",
        "--ip",
        "10.1.2.3",
        "--header",
        "Origin: https://shop.example",
    ]);
    assert_eq!(code, Some(1));
    assert_eq!(
        rules,
        "no-admin (firewall) does not apply; pages (origin) passes; keys (apiKey) refuses: 401 client:missing_credentials"
    );
    let passes = "no-admin (firewall) does not apply; pages (origin) does not apply; keys (apiKey) passes, and authenticates the client; \
                  dark (firewall, in Shadow mode) refuses: 403 client:firewall_denied; limit (rateLimit) is evaluated for real requests only";
    for arguments in [
        &["shop.example", "--bearer", "sesame", "--method", "PUT"][..],
        &["shop.example/?key=sesame", "--method", "PUT"],
    ] {
        // Asked again and again, nothing is taken from the limit.
        for _ in 0..3 {
            assert_eq!(why(arguments), (Some(0), passes.to_owned()));
        }
    }
    let (_, rules) = why(&["shop.example/a%2Fb", "--bearer", "sesame"]);
    assert_eq!(rules, "", "no rule is asked about a path that is refused by itself");
}

const OPEN: &str = "\
apiVersion: postern.dev/v1alpha1
kind: SentinelPolicy
metadata: {name: guard, namespace: acme}
spec:
  targetRefs: [{name: shop}]
  rules:
  - {name: free, match: [{path: {prefix: /free}}, {method: [GET]}], firewall: {action: Allow}}
  - {name: users, match: [{cookie: {name: guest, present: false}}], apiKey: {secretSelector: {}, from: [{bearer: {}}]}}
  - {name: pages, cors: {origins: [\"https://page.test\"]}}
  - {name: off, enabled: false, firewall: {action: Deny}}
  - {name: sockets, connectionLimit: {max: 1}}
  - {name: log, logging: {query: true}}
";

#[test]
fn why_tells_of_what_ends_a_policy_and_of_preflights() {
    let folder = manifests(&format!("{SHOP}---\n{OPEN}"));
    let why = |arguments: &[&str]| {
        let all = [&["why"], arguments, &["--manifests", text(folder.path())]].concat();
        let (_, output) = run(&all);
        let rules = output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("rule        acme/guard/"));
        rules.map(str::to_owned).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(
        why(&["shop.example/free/x"]),
        "free (firewall) passes, and skips the rest of its policy"
    );
    assert_eq!(
        why(&["shop.example/free/x", "--method", "get"]),
        "free (firewall) does not apply; users (apiKey) refuses: 401 client:missing_credentials"
    );
    assert_eq!(
        why(&["shop.example", "--header", "Cookie: guest"]),
        "free (firewall) does not apply; users (apiKey) does not apply; pages (cors) passes; \
         sockets (connectionLimit) is evaluated for real requests only; log (logging) passes"
    );
    let preflight = ["Origin: https://page.test", "Access-Control-Request-Method: PUT"];
    let [origin, method] = preflight.map(|header| ["--header", header]);
    let asked = [&["shop.example", "--method", "OPTIONS"][..], &origin, &method].concat();
    assert_eq!(
        why(&asked),
        "free (firewall) does not apply; pages (cors) answers the preflight"
    );
}

#[test]
fn check_tells_of_policies() {
    let folder = manifests(&format!("{SHOP}---\n{GUARD}"));
    let (code, output) = run(&["check", text(folder.path())]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 Deployment and 1 SentinelPolicy checked"), "{output}");
    let broken = GUARD.replace("[same-host]", "[\"https://a b\"]");
    let folder = manifests(&format!("{SHOP}---\n{broken}"));
    let (code, output) = run(&["check", text(folder.path())]);
    assert_eq!(code, Some(1), "{output}");
    for told in ["spec.rules[1].origin.allowed", "503 policy_invalid", "InvalidPolicy"] {
        assert!(output.contains(told), "{told}: {output}");
    }
}

#[test]
fn crds_prints_what_kubectl_applies_and_bears_a_closed_pipe() {
    let (code, output) = run(&["crds"]);
    assert_eq!(code, Some(0));
    assert!(output.contains("kind: CustomResourceDefinition"), "{output}");

    let mut child = postern(&["crds"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stderr).unwrap()),
        (Some(0), String::new())
    );
}

#[tokio::test]
async fn echo_answers_http_and_sockets_of_text_and_binary() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    let mut app = Running::start(&["echo", "--address", "127.0.0.1:0"]);
    let mut line = String::new();
    BufReader::new(app.child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
    let answer = get(&address, "/a?b=c").unwrap();
    assert!(
        answer.contains("\r\n\r\nGET /a?b=c HTTP/1.1\n") && answer.contains(&format!("host: {address}\n")),
        "{answer}"
    );

    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/"))
        .await
        .unwrap();
    socket.send(Message::text("hi")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("echo: hi"));
    socket.send(Message::binary(vec![0, 255])).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::binary(b"echo: \x00\xff".to_vec())
    );
}

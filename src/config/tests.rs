use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use tokio::sync::watch::Receiver;
use tokio::time::timeout;

use super::watch::Watched;
use super::*;
use crate::hostname::HostName;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(line: &[&str]) -> Args {
    Cli::parse_from([&["postern"], line].concat()).args
}

fn with_file(text: &str) -> Result<Settings, Invalid> {
    Flags::default().overlaid(text)?.settings()
}

fn message(text: &str) -> String {
    with_file(text).unwrap_err().to_string()
}

#[test]
fn flags_have_the_documented_defaults() {
    let flags = args(&[]).flags;
    assert_eq!(flags, Flags::default());
    let settings = flags.settings().unwrap();
    assert_eq!(settings.listen.http.unwrap().port(), 8080);
    assert_eq!(settings.listen.https.port(), 8443);
    assert_eq!(settings.listen.admin.port(), 9090);
    assert!(settings.listen.http.unwrap().ip().is_unspecified());
    assert_eq!(settings.shutdown_delay, Duration::from_secs(5));
    assert_eq!(settings.drain_deadline, Duration::from_secs(45));
    assert_eq!(&*settings.routing.class, "postern");
    assert!(settings.routing.selectorless_services);
    assert_eq!(
        settings.source,
        Source::Cluster {
            kubeconfig: None,
            state_dir: None,
        }
    );
}

#[test]
fn the_plaintext_port_redirects_in_a_cluster_and_serves_a_folder_unless_told_otherwise() {
    let redirects = |text: &str| with_file(text).unwrap().listener.redirect;
    assert!(redirects("{}"));
    assert!(!redirects("manifests: /some/folder"));
    assert!(!redirects("http: serve"));
    assert!(redirects("{http: redirect, manifests: /some/folder}"));
    assert_eq!(with_file("http: 'off'").unwrap().listen.http, None);
}

#[test]
fn settings_of_the_listeners_are_checked() {
    for (text, cause) in [
        ("trustedProxies: [10.0.0.0/33]", "neither a network nor an address"),
        ("allowEgress: [nowhere]", "neither a network nor an address"),
        ("proxyProtocol: true", "needs trustedProxies"),
        ("http2MaxStreams: 0", "between 1 and 1000"),
        ("tlsHandshakeTimeout: 0s", "between 1s and 1h"),
        ("keepAliveTimeout: 2h", "between 1s and 1h"),
        ("hsts: includeSubDomains", "needs one max-age"),
        ("hsts: max-age=1; max-age=2", "needs one max-age"),
        ("hsts: max-age=1; nonsense", "is not a value such as"),
        ("defaultTlsSecret: [wildcard]", "is not <namespace>/<name>"),
        ("tlsMinVersion: '1.1'", "tlsMinVersion"),
    ] {
        assert!(message(text).contains(cause), "{text}: {}", message(text));
    }
}

#[test]
fn every_flag_is_a_key_and_an_environment_variable_and_says_truly_whether_it_is_hot() {
    let command = Cli::command();
    let keys = serde_json::to_value(Flags::default()).unwrap();
    for key in keys.as_object().unwrap().keys().filter(|key| *key != "hostnameGrants") {
        let kebab: String = key
            .chars()
            .flat_map(|c| {
                if c.is_uppercase() {
                    vec!['-', c.to_ascii_lowercase()]
                } else {
                    vec![c]
                }
            })
            .collect();
        let flag = command
            .get_arguments()
            .find(|flag| flag.get_long() == Some(&kebab))
            .unwrap_or_else(|| panic!("--{kebab}"));
        let variable = format!("POSTERN_{}", kebab.replace('-', "_").to_uppercase());
        assert_eq!(flag.get_env().unwrap(), variable.as_str());
        let hot = flag.get_help_heading().unwrap().starts_with("Hot");
        assert_eq!(hot, HOT.contains(&key.as_str()), "{key}");
    }
}

#[test]
fn a_lenient_start_is_asked_for_by_the_bare_flag() {
    assert!(args(&["--lenient", "--class", "edge"]).flags.lenient);
    assert!(!args(&["--lenient=false"]).flags.lenient);
}

#[test]
fn the_file_wins_over_flags_and_leaves_the_rest() {
    let flags = args(&["--class", "edge", "--shutdown-delay", "1s", "--watch-namespaces", "a,b"]).flags;
    let settings = flags
        .overlaid("shutdownDelay: 1m30s\nworkers: 3\nmanifests: apps\n")
        .unwrap()
        .settings()
        .unwrap();
    assert_eq!(settings.shutdown_delay, Duration::from_secs(90));
    assert_eq!(settings.workers.get(), 3);
    assert_eq!(
        settings.source,
        Source::Manifests {
            folder: "apps".into(),
            lenient: false
        }
    );
    assert_eq!(&*settings.routing.class, "edge");
    assert_eq!(settings.watch_namespaces, ["a", "b"]);
}

#[test]
fn an_unknown_key_is_an_error_that_names_it_and_the_known_ones() {
    let message = message("shutdownDely: 5s\n");
    assert!(message.contains("\"shutdownDely\""), "{message}");
    assert!(message.contains("`shutdownDelay`"), "{message}");
}

#[test]
fn a_wrong_value_is_an_error_that_names_its_key() {
    for (text, key) in [
        ("class: x\ndrainDeadline: 5 minutes\n", "drainDeadline"),
        ("httpAddress: 8080\n", "httpAddress"),
        ("workers: 0\n", "workers"),
        ("logFormat: xml\n", "logFormat"),
        ("log: 'a=b=c'\n", "log"),
        ("apexDomain: '*.example.com'\n", "apexDomain"),
        ("apexDomain: 'under_score.com'\n", "apexDomain"),
        ("hostnameGrants: {acme: ['*.*.example.com']}\n", "hostnameGrants.acme"),
        ("watchNamespaces: ['']\n", "watchNamespaces"),
        ("manifests: a\nkubeconfig: b\n", "manifests"),
        ("lenient: true\n", "lenient"),
        ("manifests: a\nstateDir: b\n", "stateDir"),
    ] {
        let message = message(text);
        assert!(message.contains(&format!("key {key:?}")), "{text}: {message}");
    }
}

#[test]
fn an_empty_file_is_an_unfinished_save_and_an_empty_map_sets_nothing() {
    assert_eq!(with_file("\n"), Err(Invalid::Empty));
    assert_eq!(with_file("# nothing yet\n"), Flags::default().settings());
    assert_eq!(with_file("{}"), Flags::default().settings());
}

#[test]
fn grants_are_parsed() {
    let settings = with_file("hostnameGrants: {acme: ['*.Acme.example', acme.tld]}\n").unwrap();
    let grants = settings.routing.hostname_grants.unwrap();
    let names = [
        HostName::Wildcard("acme.example".into()),
        HostName::Exact("acme.tld".into()),
    ];
    assert_eq!(grants["acme"], names);
}

#[test]
fn local_endpoints_are_refused_in_a_cluster_alone() {
    assert!(with_file("{}").unwrap().routing.endpoints.refuse_local);
    assert!(!with_file("manifests: apps").unwrap().routing.endpoints.refuse_local);
}

#[test]
fn settings_print_as_json() {
    let json = serde_json::to_value(with_file("manifests: apps").unwrap()).unwrap();
    assert_eq!(json["shutdownDelay"], "5s");
    assert_eq!(json["source"]["manifests"]["folder"], "apps");
    assert_eq!(json["routing"]["class"], "postern");
}

#[tokio::test]
async fn a_file_that_is_wrong_at_start_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    assert!(watch(in_file(&path)).unwrap_err().to_string().contains("config.yaml"));
    std::fs::write(&path, "nonsense: 1\n").unwrap();
    assert!(watch(in_file(&path)).unwrap_err().to_string().contains("config.yaml"));
}

#[tokio::test]
async fn hot_keys_apply_and_others_wait_for_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, "shutdownDelay: 1s\nclass: one\n").unwrap();
    let mut settings = watch(in_file(&path)).unwrap();

    std::fs::write(&path, "shutdownDelay: 2s\nclass: two\napexDomain: example.app\n").unwrap();
    changed(&mut settings).await;
    let now = settings.borrow().clone();
    assert_eq!(now.shutdown_delay, Duration::from_secs(2));
    assert_eq!(now.routing.apex_domain, Some(HostName::Exact("example.app".into())));
    assert_eq!(&*now.routing.class, "one");

    // A key taken out of the file falls back to the flag.
    std::fs::write(&path, "shutdownDelay: 2s\n").unwrap();
    changed(&mut settings).await;
    assert_eq!(settings.borrow().routing.apex_domain, None);
}

#[tokio::test]
async fn a_broken_edit_changes_nothing_and_the_next_good_one_applies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, "shutdownDelay: 1s\n").unwrap();
    let flags = Flags::default();
    let running = flags.overlaid("shutdownDelay: 1s\n").unwrap();
    let (sender, receiver) = tokio::sync::watch::channel(Arc::new(running.settings().unwrap()));
    let mut watched = Watched::new(path.clone(), flags, running);

    for broken in ["shutdownDelay: soon\n", "log: info\nnope: 1\n", "", "[", "- a list\n"] {
        std::fs::write(&path, broken).unwrap();
        watched.reread(&sender);
        assert!(!receiver.has_changed().unwrap(), "{broken}");
    }
    std::fs::remove_file(&path).unwrap();
    watched.reread(&sender);
    assert!(!receiver.has_changed().unwrap());

    std::fs::write(&path, "shutdownDelay: 3s\n").unwrap();
    watched.reread(&sender);
    assert!(receiver.has_changed().unwrap());
    assert_eq!(receiver.borrow().shutdown_delay, Duration::from_secs(3));
}

#[tokio::test]
async fn a_renamed_save_and_a_swapped_config_map_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |name: &str, text: &str| {
        let data = folder.path().join(name);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("config.yaml"), text).unwrap();
        std::os::unix::fs::symlink(name, folder.path().join("..next")).unwrap();
        std::fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
    };
    mount("..1", "shutdownDelay: 1s\n");
    let path = folder.path().join("config.yaml");
    std::os::unix::fs::symlink("..data/config.yaml", &path).unwrap();
    let mut settings = watch(in_file(&path)).unwrap();

    mount("..2", "shutdownDelay: 2s\n");
    changed(&mut settings).await;
    assert_eq!(settings.borrow().shutdown_delay, Duration::from_secs(2));

    let saved = folder.path().join("config.yaml~");
    std::fs::write(&saved, "shutdownDelay: 3s\n").unwrap();
    std::fs::rename(&saved, &path).unwrap();
    changed(&mut settings).await;
    assert_eq!(settings.borrow().shutdown_delay, Duration::from_secs(3));
}

fn in_file(path: &Path) -> Args {
    Args {
        config: Some(path.to_owned()),
        flags: Flags::default(),
    }
}

/// Shorter than the rereading that would find the edit without any event.
async fn changed(settings: &mut Receiver<Arc<Settings>>) {
    timeout(Duration::from_secs(8), settings.changed())
        .await
        .expect("an edit applies")
        .unwrap();
}

#[test]
fn no_more_addresses_are_published_than_a_status_holds() {
    let list = |count| {
        let items: Vec<_> = (0..count).map(|nth| format!("10.0.0.{nth}")).collect();
        with_file(&format!("publishAddress: [{}]", items.join(", ")))
    };
    assert_eq!(list(16).unwrap().publish_addresses.len(), 16);
    assert!(list(17).is_err());
}

#[test]
fn an_acme_directory_is_an_https_url_and_a_contact_one_address() {
    let acme = with_file("acmeEmail: ops@example.com\nacmeCa: /etc/ca.pem")
        .unwrap()
        .acme;
    assert_eq!(acme.directory, "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!(acme.email.as_deref(), Some("ops@example.com"));
    assert_eq!(acme.ca.as_deref(), Some(Path::new("/etc/ca.pem")));
    for directory in [
        "",
        "http://acme.example.com",
        "acme.example.com/directory",
        "https:///directory",
    ] {
        let message = message(&format!("acmeDirectory: {directory:?}"));
        assert!(message.contains("acmeDirectory"), "{directory}: {message}");
    }
    for email in [
        "",
        "ops",
        "@example.com",
        "ops@",
        "a@b@c",
        "a@b.c,d@e.f",
        "a b@c.d",
        "a@b.c?subject=x",
    ] {
        let message = message(&format!("acmeEmail: {email:?}"));
        assert!(message.contains("acmeEmail"), "{email}: {message}");
    }
}

#[test]
fn a_redis_url_is_an_address_without_credentials() {
    let store = |text: &str| with_file(text).unwrap().store.unwrap();
    let plain = store("redisUrl: redis://redis.example");
    assert_eq!(
        (plain.tls, &*plain.host, plain.port, plain.database),
        (false, "redis.example", 6379, 0)
    );
    let tls = store("{redisUrl: 'rediss://[::1]:6380/3', redisCredentials: /etc/redis}");
    assert_eq!((tls.tls, &*tls.host, tls.port, tls.database), (true, "::1", 6380, 3));
    assert_eq!(tls.credentials.as_deref(), Some(Path::new("/etc/redis")));
    assert!(
        with_file("redisUrl: redis://redis.example")
            .unwrap()
            .routing
            .shared_store
    );
    assert!(with_file("log: info").unwrap().store.is_none());

    let refused = [
        "",
        "redis.example:6379",
        "http://redis.example",
        "redis://",
        "redis://redis.example/x",
        "redis://redis.example/70000",
        "redis://redis.example?db=1",
        "redis://:hunter2@redis.example",
    ];
    for url in refused {
        let message = message(&format!("redisUrl: {url:?}"));
        assert!(
            message.contains("redisUrl") && !message.contains("hunter2"),
            "{url}: {message}"
        );
    }
    assert!(message("redisCredentials: /etc/redis").contains("needs redisUrl"));
}

//! What the apiserver accepts, refuses, fills in and prints, by the CRD alone.

mod policy;

use http::Request;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, NamespaceResourceScope};
use kube::{Api, Resource};
use postern::api::deployment;
use postern::api::deployment::{Deployment, DeploymentSpec};
use postern::api::policy::SentinelPolicy;
use serde_json::{Value, json};

use crate::cluster::{Cluster, applying};
use crate::support::documentation::{blocks, pages};

fn valid() -> Value {
    json!({"hostnames": ["a.example.com"], "service": {"name": "app", "port": 80}})
}

/// The API without our types: they could not even say what is wrong.
fn untyped<K>(cluster: &Cluster) -> Api<DynamicObject>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let kind = ApiResource::erase::<K>(&());
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind)
}

fn raw(cluster: &Cluster) -> Api<DynamicObject> {
    untyped::<Deployment>(cluster)
}

fn of_kind(kind: &str, name: &str, spec: Value) -> DynamicObject {
    let object = json!({"apiVersion": "postern.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(object).expect("an object")
}

fn object(name: &str, spec: Value) -> DynamicObject {
    of_kind("Deployment", name, spec)
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

async fn accepts(api: &Api<DynamicObject>, object: &DynamicObject) {
    let created = api.create(&dry_run(), object).await;
    assert!(created.is_ok(), "{}: {}", object.data, created.unwrap_err());
}

/// That the apiserver names this field and gives this reason.
async fn refuses(api: &Api<DynamicObject>, object: &DynamicObject, field: &str, reason: &str) {
    match api.create(&dry_run(), object).await {
        Ok(_) => panic!("accepted: {}", object.data),
        Err(kube::Error::Api(status)) => {
            let causes = status
                .details
                .as_ref()
                .map(|details| details.causes.as_slice())
                .unwrap_or_default();
            let named = causes
                .iter()
                .any(|cause| cause.field == field && cause.message.contains(reason));
            assert!(
                named,
                "{}: neither {field:?} nor {reason:?} in {causes:#?}",
                object.data
            );
        }
        Err(error) => panic!("{}: {error}", object.data),
    }
}

/// What `kubectl get` prints: its columns' definitions, and the cells of the only object.
async fn table(cluster: &Cluster, plural: &str) -> (Vec<Value>, Vec<Value>) {
    let path = format!("/apis/postern.dev/v1alpha1/namespaces/{}/{plural}", cluster.namespace);
    let request = Request::get(path).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table: Value = cluster
        .client
        .request(request.body(Vec::new()).expect("a request"))
        .await
        .expect("a table");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    (list(&table["columnDefinitions"]), list(&table["rows"][0]["cells"]))
}

/// The valid spec with fields changed; null takes one away.
fn with(change: Value) -> Value {
    changed(valid(), change)
}

fn changed(mut spec: Value, change: Value) -> Value {
    let (Some(fields), Value::Object(change)) = (spec.as_object_mut(), change) else {
        panic!("not maps")
    };
    for (name, value) in change {
        match value {
            Value::Null => fields.remove(&name),
            value => fields.insert(name, value),
        };
    }
    spec
}

fn list(length: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..length).map(item).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_served_is_accepted() {
    let cluster = Cluster::shared("accepted").await;
    let backend = |index: usize| json!({"service": {"name": format!("app-{index}"), "port": 80}});
    let accepted = [
        json!({}),
        json!({"hostnames": null}),
        json!({"hostnames": list(16, |i| json!(format!("h{i}.example.com")))}),
        json!({"hostnames": ["*.example.com", "A.Example.COM.", "localhost", "xn--bcher-kva.example", "1.2.3.4"]}),
        json!({"hostnames": [format!("{}.example.com", "a".repeat(63))]}),
        json!({"service": {"name": "app", "port": "http"}}),
        json!({"service": {"name": "app", "port": "8-a--b"}}),
        json!({"service": {"name": "app", "port": "p".repeat(63)}}),
        json!({"service": {"name": "1app", "port": 65535}}),
        json!({"service": null, "backends": list(16, backend)}),
        json!({"service": null, "backends": [{"service": {"name": "a", "port": 1}, "weight": 0}, {"service": {"name": "b", "port": 1}, "weight": 1000}]}),
        json!({"backends": []}),
        json!({"paths": list(32, |i| json!({"path": format!("/{i}")}))}),
        json!({"paths": [{"path": "/"}, {"path": "/", "type": "Exact"}, {"path": "/a%20b/~c;d=e@f:g"}]}),
        json!({"service": null, "paths": [{"path": "/a", "service": {"name": "a", "port": 80}}, {"path": "/b", "backends": [backend(0)]}]}),
        json!({"deploymentId": "d_12 3/a"}),
        json!({"policies": list(16, |i| json!(format!("policy-{i}"))), "ambiguousPaths": "Pass"}),
        json!({"state": "Stopped"}),
        json!({"timeouts": {"connect": "250ms", "dialBudget": "1h2m3s4ms", "response": "0s", "idle": "99999h", "total": "15m"}}),
        json!({"balancing": {"strategy": "RoundRobin"}}),
        json!({"webSocket": {"handshakeTimeout": "1m"}}),
        json!({"className": "internal-2"}),
        json!({"tls": [{"secretName": "a"}, {"acme": {}}, {"hostnames": ["a.example.com"], "secretName": "b.c"}]}),
        json!({"hostnames": ["*.a.test", "b.test"], "tls": [{"hostnames": ["*.a.test"], "secretName": "a"}, {"hostnames": ["b.test"], "acme": {}}]}),
        json!({"hostnames": null, "tls": [{"acme": {}}]}),
        json!({
            "hostnames": list(16, |i| json!(format!("h{i}.example.com"))),
            "tls": list(16, |_| json!({"secretName": "a", "hostnames": list(16, |i| json!(format!("h{i}.example.com")))})),
        }),
        json!({"clientTls": {"caRef": {"kind": "ConfigMap", "name": "ca"}}}),
        json!({"clientTls": {"caRef": {"kind": "Secret", "name": "ca"}, "mode": "Optional"}}),
        json!({"upstreamTls": {}}),
        json!({"upstreamTls": {"caRef": {"kind": "Secret", "name": "ca"}, "serverName": "app.internal", "clientCertificateRef": {"name": "me"}}}),
    ];
    for change in accepted {
        accepts(&raw(&cluster), &object("a", with(change))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_refused_and_the_field_is_named() {
    let cluster = Cluster::shared("refused").await;
    let backend = json!({"service": {"name": "app", "port": 80}});
    let service = json!({"name": "app", "port": 80});
    let port = |port: Value| json!({"service": {"name": "app", "port": port}});
    let path = |path: &str| json!({"paths": [{"path": path}]});
    let hostname = |name: &str| json!({"hostnames": [name]});
    let refused = [
        (
            json!({"service": null}),
            "spec",
            "set service or backends, or list paths that each set their own",
        ),
        (
            json!({"service": null, "backends": []}),
            "spec",
            "set service or backends",
        ),
        (
            json!({"service": null, "paths": [{"path": "/a", "service": service}, {"path": "/b"}]}),
            "spec",
            "set service or backends",
        ),
        (
            json!({"backends": [backend]}),
            "spec",
            "service and backends are mutually exclusive",
        ),
        (
            json!({"paths": [{"path": "/", "service": service, "backends": [backend]}]}),
            "spec.paths[0]",
            "service and backends are mutually exclusive",
        ),
        (
            json!({"service": null, "backends": list(17, |_| backend.clone())}),
            "spec.backends",
            "Too many",
        ),
        (
            json!({"service": null, "backends": [{"service": service, "weight": 1001}]}),
            "spec.backends[0].weight",
            "1000",
        ),
        (
            json!({"service": null, "backends": [{"service": service, "weight": -1}]}),
            "spec.backends[0].weight",
            "0",
        ),
        (port(json!(0)), "spec.service.port", "1"),
        (port(json!(65536)), "spec.service.port", "65535"),
        (port(json!("80")), "spec.service.port", "match"),
        (port(json!("Http")), "spec.service.port", "match"),
        (port(json!("a-")), "spec.service.port", "match"),
        (port(json!("p".repeat(64))), "spec.service.port", "63"),
        (port(json!(1.5)), "spec.service.port", "integer"),
        (port(json!(null)), "spec.service.port", "Required"),
        (
            json!({"service": {"name": "a.b", "port": 80}}),
            "spec.service.name",
            "match",
        ),
        (
            json!({"service": {"name": "a".repeat(64), "port": 80}}),
            "spec.service.name",
            "63",
        ),
        (hostname(""), "spec.hostnames[0]", "1"),
        (hostname("a_b.example.com"), "spec.hostnames", "consists of labels"),
        (hostname("-a.example.com"), "spec.hostnames", "consists of labels"),
        (hostname("a..example.com"), "spec.hostnames", "consists of labels"),
        (hostname("*"), "spec.hostnames", "consists of labels"),
        (hostname("a.*.example.com"), "spec.hostnames", "consists of labels"),
        (hostname("*a.example.com"), "spec.hostnames", "consists of labels"),
        (hostname("*.*.example.com"), "spec.hostnames", "consists of labels"),
        (hostname("example.com:8080"), "spec.hostnames", "consists of labels"),
        (hostname("https://example.com"), "spec.hostnames", "consists of labels"),
        (hostname("bücher.example"), "spec.hostnames", "consists of labels"),
        (hostname("a.example.com\n"), "spec.hostnames", "consists of labels"),
        (
            hostname(&format!("{}.example.com", "a".repeat(64))),
            "spec.hostnames",
            "consists of labels",
        ),
        (hostname(&"a.".repeat(127)), "spec.hostnames[0]", "253"),
        (
            json!({"hostnames": list(17, |i| json!(format!("h{i}.example.com")))}),
            "spec.hostnames",
            "Too many",
        ),
        (
            json!({"hostnames": ["a.example.com", "a.example.com"]}),
            "spec.hostnames[1]",
            "Duplicate",
        ),
        (path(""), "spec.paths[0].path", "1"),
        (path("a"), "spec.paths[0].path", "must begin with /"),
        (path("/a?b"), "spec.paths[0].path", "percent-encode"),
        (path("/a#b"), "spec.paths[0].path", "percent-encode"),
        (path("/a b"), "spec.paths[0].path", "percent-encode"),
        (path("/ä"), "spec.paths[0].path", "percent-encode"),
        (path("/a\n"), "spec.paths[0].path", "percent-encode"),
        (path(&format!("/{}", "a".repeat(1024))), "spec.paths[0].path", "1024"),
        (
            json!({"paths": list(33, |i| json!({"path": format!("/{i}")}))}),
            "spec.paths",
            "Too many",
        ),
        (
            json!({"paths": [{"path": "/a"}, {"path": "/a", "type": "Prefix"}]}),
            "spec.paths[1]",
            "Duplicate",
        ),
        (
            json!({"paths": [{"path": "/a", "type": "Regex"}]}),
            "spec.paths[0].type",
            "Unsupported",
        ),
        (json!({"deploymentId": ""}), "spec.deploymentId", "1"),
        (json!({"deploymentId": "a\r\nb: c"}), "spec.deploymentId", "match"),
        (json!({"deploymentId": "a".repeat(254)}), "spec.deploymentId", "253"),
        (json!({"state": "Paused"}), "spec.state", "Unsupported"),
        (
            json!({"policies": list(17, |i| json!(format!("policy-{i}")))}),
            "spec.policies",
            "Too many",
        ),
        (json!({"policies": ["a", "a"]}), "spec.policies[1]", "Duplicate"),
        (json!({"policies": ["other/a"]}), "spec.policies[0]", "match"),
        (json!({"ambiguousPaths": "Allow"}), "spec.ambiguousPaths", "Unsupported"),
        (
            json!({"balancing": {"strategy": "Hash"}}),
            "spec.balancing.strategy",
            "Unsupported",
        ),
        (json!({"timeouts": {"connect": "2"}}), "spec.timeouts.connect", "match"),
        (
            json!({"timeouts": {"connect": "1.5s"}}),
            "spec.timeouts.connect",
            "match",
        ),
        (
            json!({"timeouts": {"connect": "-1s"}}),
            "spec.timeouts.connect",
            "match",
        ),
        (
            json!({"timeouts": {"total": "100000s"}}),
            "spec.timeouts.total",
            "match",
        ),
        (
            json!({"webSocket": {"handshakeTimeout": "1d"}}),
            "spec.webSocket.handshakeTimeout",
            "match",
        ),
        (json!({"className": "Internal"}), "spec.className", "match"),
        (
            json!({"tls": [{}]}),
            "spec.tls[0]",
            "exactly one of secretName and acme",
        ),
        (
            json!({"tls": [{"secretName": "a", "acme": {}}]}),
            "spec.tls[0]",
            "exactly one of secretName and acme",
        ),
        (
            json!({"hostnames": ["*.a.test"], "tls": [{"hostnames": ["*.a.test"], "acme": {}}]}),
            "spec.tls[0]",
            "acme cannot issue wildcard certificates",
        ),
        (
            json!({"hostnames": ["a.test", "*.a.test"], "tls": [{"acme": {}}]}),
            "spec",
            "acme cannot issue wildcard certificates",
        ),
        (
            json!({"tls": [{"hostnames": ["b.example.com"], "secretName": "a"}]}),
            "spec",
            "every hostname in tls must also be listed in spec.hostnames",
        ),
        (
            json!({"hostnames": null, "tls": [{"hostnames": ["b.example.com"], "acme": {}}]}),
            "spec",
            "every hostname in tls must also be listed in spec.hostnames",
        ),
        (
            json!({"tls": list(17, |_| json!({"secretName": "a"}))}),
            "spec.tls",
            "Too many",
        ),
        (json!({"tls": [{"secretName": "A"}]}), "spec.tls[0].secretName", "match"),
        (
            json!({"tls": [{"secretName": "a", "hostnames": ["a.example.com", "a.example.com"]}]}),
            "spec.tls[0].hostnames[1]",
            "Duplicate",
        ),
        (json!({"clientTls": {}}), "spec.clientTls.caRef", "Required"),
        (
            json!({"clientTls": {"caRef": {"kind": "Service", "name": "a"}}}),
            "spec.clientTls.caRef.kind",
            "Unsupported",
        ),
        (
            json!({"clientTls": {"caRef": {"kind": "Secret", "name": "a"}, "mode": "Off"}}),
            "spec.clientTls.mode",
            "Unsupported",
        ),
        (
            json!({"upstreamTls": {"serverName": "a b"}}),
            "spec.upstreamTls.serverName",
            "match",
        ),
        (
            json!({"upstreamTls": {"clientCertificateRef": {}}}),
            "spec.upstreamTls.clientCertificateRef.name",
            "Required",
        ),
    ];
    for (change, field, reason) in refused {
        refuses(&raw(&cluster), &object("a", with(change)), field, reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn class_name_is_immutable_and_all_else_can_be_changed() {
    let cluster = Cluster::shared("immutable").await;
    let api = raw(&cluster);
    api.create(&PostParams::default(), &object("a", valid()))
        .await
        .expect("creates");
    let patch = |spec: Value| {
        let api = api.clone();
        async move {
            api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": spec})))
                .await
        }
    };
    let error = patch(json!({"className": "other"}))
        .await
        .expect_err("className has changed");
    assert!(error.to_string().contains("className is immutable"), "{error}");
    patch(json!({"hostnames": ["b.example.com"], "service": {"name": "b", "port": "http"}, "state": "Stopped"}))
        .await
        .expect("changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_filled_in_and_are_those_of_the_code() {
    let cluster = Cluster::shared("defaults").await;
    let created = raw(&cluster)
        .create(
            &PostParams::default(),
            &object("a", with(json!({"paths": [{"path": "/"}]}))),
        )
        .await;
    let filled = created.expect("creates").data["spec"].take();
    assert_eq!(filled["className"], "postern");
    assert_eq!(filled["paths"][0]["type"], "Prefix");
    let ours: DeploymentSpec = serde_json::from_value(valid()).expect("decodes");
    for field in [
        "className",
        "state",
        "timeouts",
        "balancing",
        "webSocket",
        "ambiguousPaths",
    ] {
        assert_eq!(
            filled[field],
            serde_json::to_value(&ours).expect("encodes")[field],
            "{field}"
        );
        assert!(!filled[field].is_null(), "{field}");
    }
    let decoded: DeploymentSpec = serde_json::from_value(filled).expect("decodes");
    assert_eq!(decoded.timeouts, deployment::Timeouts::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_twice_changes_nothing_and_managers_share_paths() {
    let cluster = Cluster::shared("apply").await;
    let api = raw(&cluster);
    let apply = |manager: &'static str, spec: Value| {
        let api = api.clone();
        async move {
            let patch = Patch::Apply(object("a", spec));
            api.patch("a", &PatchParams::apply(manager), &patch).await
        }
    };
    let spec = with(json!({"paths": [{"path": "/a"}], "hostnames": ["a.example.com", "b.example.com"]}));
    let first = apply("one", spec.clone()).await.expect("applies");
    let second = apply("one", spec).await.expect("applies");
    assert_eq!(first.metadata.resource_version, second.metadata.resource_version);

    let theirs = json!({"paths": [{"path": "/b"}], "hostnames": ["c.example.com"]});
    let both = apply("two", theirs).await.expect("applies beside the other");
    let paths: Vec<_> = both.data["spec"]["paths"]
        .as_array()
        .expect("paths")
        .iter()
        .map(|path| path["path"].clone())
        .collect();
    assert_eq!(paths, ["/a", "/b"]);
    assert_eq!(
        both.data["spec"]["hostnames"],
        json!(["a.example.com", "b.example.com", "c.example.com"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_refused_by_a_strict_client() {
    let cluster = Cluster::shared("strict").await;
    let params = PatchParams {
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..applying()
    };
    let patch = Patch::Apply(object("a", with(json!({"timeouts": {"conect": "1s"}}))));
    let error = raw(&cluster)
        .patch("a", &params, &patch)
        .await
        .expect_err("an unknown field");
    assert!(error.to_string().contains("conect"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_tell_hosts_service_endpoints_and_what_is_wrong() {
    let cluster = Cluster::shared("columns").await;
    let api = raw(&cluster);
    api.create(&PostParams::default(), &object("a", valid()))
        .await
        .expect("creates");
    let condition = |name: &str, status: &str, reason: &str| json!({"type": name, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {
        "conditions": [
            condition("Accepted", "True", "Accepted"),
            condition("ResolvedRefs", "False", "ServiceNotFound"),
            condition("Programmed", "True", "Programmed"),
        ],
        "endpoints": {"ready": 2, "total": 3},
        "hostnames": ["a.example.com", "a-n.example.app"],
    }});
    api.patch_status("a", &PatchParams::default(), &Patch::Merge(status))
        .await
        .expect("writes the status");

    let (columns, cells) = table(&cluster, "deployments").await;
    let names: Vec<_> = columns.iter().map(|column| &column["name"]).collect();
    assert_eq!(
        names,
        ["Name", "Hosts", "Service", "Endpoints", "Programmed", "Reason", "Age"]
    );
    assert_eq!(columns[5]["priority"], 1, "the reason only with -o wide");
    assert_eq!(cells[0], "a");
    assert_eq!(cells[1], r#"["a.example.com","a-n.example.app"]"#);
    assert_eq!(
        (&cells[2], &cells[3], &cells[4]),
        (&json!("app"), &json!(2), &json!("True"))
    );
    assert_eq!(cells[5], "ServiceNotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_objects_of_the_documentation_are_accepted() {
    let cluster = Cluster::shared("documentation").await;
    let pages = pages();
    let ours = |block: &&str| block.contains("apiVersion: postern.dev/");
    let documents = pages
        .iter()
        .flat_map(|(_, text)| blocks(text, "yaml"))
        .flat_map(|block| block.split("\n---\n"))
        .filter(ours);
    let mut count = 0;
    for document in documents {
        let mut object: DynamicObject = serde_saphyr::from_str(document).expect("an object");
        object.metadata.namespace = None;
        let kind = object.types.as_ref().map(|types| types.kind.as_str());
        let api = match kind {
            Some("Deployment") => raw(&cluster),
            Some("SentinelPolicy") => untyped::<SentinelPolicy>(&cluster),
            other => panic!("the documentation knows a kind {other:?}"),
        };
        let strict = PatchParams {
            dry_run: true,
            field_validation: Some(kube::api::ValidationDirective::Strict),
            ..applying()
        };
        let name = object.metadata.name.clone().expect("a name");
        let applied = api.patch(&name, &strict, &Patch::Apply(&object)).await;
        assert!(applied.is_ok(), "{document}: {}", applied.unwrap_err());
        count += 1;
    }
    assert!(count > 0, "the documentation shows no object");
}

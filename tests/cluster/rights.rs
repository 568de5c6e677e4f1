//! What Postern may do in the cluster, and what an uninstalled release leaves.

use std::collections::BTreeSet;

use crate::support::eventually_within;
use crate::world::{APPS, LONG, NAMESPACE, World, helm, kubectl, logs, release};

/// What may be done, of all that is not everybody's: as `kubectl auth can-i --list` has it.
fn rights(account: &str, namespace: &str) -> BTreeSet<String> {
    let list = |who: &[&str]| -> BTreeSet<String> {
        let arguments = [&["auth", "can-i", "--list", "-n", namespace, "--no-headers"], who].concat();
        let lines = kubectl(&arguments);
        lines
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    let account = format!("system:serviceaccount:{account}");
    let anybody = list(&[
        "--as",
        "system:serviceaccount:nowhere:nobody",
        "--as-group",
        "system:serviceaccounts",
        "--as-group",
        "system:authenticated",
    ]);
    let own = list(&[
        "--as",
        &account,
        "--as-group",
        "system:serviceaccounts",
        "--as-group",
        "system:authenticated",
    ]);
    own.difference(&anybody).cloned().collect()
}

fn denied() -> Vec<String> {
    let logs = logs();
    let denied = logs.lines().filter(|line| line.contains("forbidden"));
    denied.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_may_do_what_postern_does_and_no_more() {
    let world = World::with(&["rbac.acme=false"]).await;
    world.settled().await;
    let elsewhere = [
        "configmaps [] [] [list watch]",
        "deployments.postern.dev [] [] [list watch]",
        "deployments.postern.dev/status [] [] [patch]",
        "endpointslices.discovery.k8s.io [] [] [list watch]",
        "events.events.k8s.io [] [] [create patch]",
        "secrets [] [] [list watch]",
        "sentinelpolicies.postern.dev [] [] [list watch]",
        "sentinelpolicies.postern.dev/status [] [] [patch]",
        "services [] [] [list watch]",
    ];
    let elsewhere: BTreeSet<_> = elsewhere.map(str::to_owned).into();
    assert_eq!(rights("postern-system:postern", APPS), elsewhere);
    let mut at_home = elsewhere;
    at_home.insert("leases.coordination.k8s.io [] [] [create]".to_owned());
    at_home.insert("leases.coordination.k8s.io [] [postern-postern] [get update]".to_owned());
    assert_eq!(rights("postern-system:postern", NAMESPACE), at_home);
    eventually_within(LONG, "one leads with these rights", async || {
        world.leader().await.is_some()
    })
    .await;
    assert_eq!(denied(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespaced_installation_has_no_right_elsewhere() {
    let world = World::with(&["watchNamespaces={apps}", "http=serve"]).await;
    world.settled().await;
    assert_eq!(rights("postern-system:postern", "default"), BTreeSet::new());
    let to = world.http().await;
    eventually_within(LONG, "it serves its namespace", async || {
        crate::support::wire::get(to, crate::world::HOST, "/").await.status() == 200
    })
    .await;
    assert_eq!(denied(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uninstalled_release_leaves_the_crds_and_the_users_objects() {
    let _world = World::with(&[]).await;
    let all = || -> BTreeSet<String> {
        let kinds = kubectl(&["api-resources", "--verbs=list", "-o", "name"]);
        // What comes and goes by itself.
        let passing = [
            "events",
            "events.events.k8s.io",
            "endpoints",
            "endpointslices.discovery.k8s.io",
            "leases.coordination.k8s.io",
        ];
        let kinds: Vec<_> = kinds.lines().filter(|kind| !passing.contains(kind)).collect();
        let found = kubectl(&[
            "get",
            &kinds.join(","),
            "-A",
            "--ignore-not-found",
            "-o",
            "jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}",
        ]);
        found.lines().map(str::to_owned).collect()
    };
    let with = all();
    helm(&["uninstall", "postern", "--namespace", NAMESPACE, "--wait"]);
    let ours = |object: &&String| object.to_lowercase().contains("postern");
    let left = |objects: &BTreeSet<String>| objects.iter().filter(ours).cloned().collect::<BTreeSet<_>>();
    let kept = [
        "CustomResourceDefinition//deployments.postern.dev",
        "CustomResourceDefinition//sentinelpolicies.postern.dev",
        "Namespace//postern-system",
    ];
    // The namespace is the one that helm was told to make, with what every namespace has; the last follows from the CRDs.
    let everywhere = [
        "ConfigMap/postern-system/kube-root-ca.crt",
        "ServiceAccount/postern-system/default",
        "APIService//v1alpha1.postern.dev",
    ];
    let expected: BTreeSet<_> = kept.iter().chain(&everywhere).map(|name| (*name).to_owned()).collect();
    eventually_within(LONG, "nothing else is left", async || left(&all()) == expected).await;
    assert!(
        with.contains("Deployment/apps/app") && all().contains("Deployment/apps/app"),
        "the users' objects stay"
    );
    let object = kubectl(&["get", "deployments.postern.dev", "app", "-n", APPS, "-o", "name"]);
    assert_eq!(object.trim(), "deployment.postern.dev/app");
    // And the next release takes the CRDs over.
    release("postern", NAMESPACE, &[]);
}

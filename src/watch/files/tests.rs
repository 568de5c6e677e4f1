use super::*;

fn keys(text: &str) -> Vec<String> {
    parse(text)
        .into_iter()
        .map(|object| match object {
            Ok(Object::Deployment(object)) => format!("deployment {}", object.key),
            Ok(Object::SentinelPolicy(object)) => format!("policy {}", object.key),
            Ok(Object::Service(object)) => format!("service {}", object.key),
            Ok(Object::EndpointSlice(object)) => format!("slice {}", object.key),
            Ok(Object::Secret(object)) => format!("secret {}", object.key),
            Ok(Object::ConfigMap(object)) => format!("config map {}", object.key),
            Err(error) => format!("error {error}"),
        })
        .collect()
}

const DEPLOYMENT: &str = "
apiVersion: postern.dev/v1alpha1
kind: Deployment
metadata: {name: a}
spec: {hostnames: [a.example.com], service: {name: a, port: 80}}
";

#[test]
fn documents_lists_and_json_are_read_and_other_kinds_passed_over() {
    let text = format!(
        "# a comment\n---{DEPLOYMENT}--- # another\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  \
         metadata: {{name: s, namespace: n}}\n- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}}}\n...\n---\n\
         {{\"apiVersion\": \"discovery.k8s.io/v1\", \"kind\": \"EndpointSlice\", \"addressType\": \"IPv4\",\n\
         \"metadata\": {{\"name\": \"e\", \"labels\": {{\"kubernetes.io/service-name\": \"s\"}}}}, \"endpoints\": []}}\n"
    );
    assert_eq!(keys(&text), ["deployment default/a", "service n/s", "slice default/e"]);
}

#[test]
fn one_broken_document_costs_itself_and_its_line_is_named() {
    let text = format!(
        "{DEPLOYMENT}---\na: [\n---{}",
        DEPLOYMENT.replace("name: a}", "name: b}")
    );
    let keys = keys(&text);
    assert_eq!(
        (keys.len(), &*keys[0], &*keys[2]),
        (3, "deployment default/a", "deployment default/b")
    );
    let line: usize = keys[1]
        .strip_prefix("error line ")
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((6..=8).contains(&line), "{}", keys[1]);
}

#[test]
fn a_dashed_line_within_a_word_starts_no_document() {
    let texts: Vec<_> = documents("a: |\n  x\n---x\nb: 1\n--- {c: 2}\n---")
        .map(|d| (d.line, d.text))
        .collect();
    assert_eq!(texts, [(1, "a: |\n  x\n---x\nb: 1\n"), (5, "--- {c: 2}\n")]);
}

/// YAML 1.2 section 5.4.
#[test]
fn every_line_break_of_yaml_is_one() {
    let places: Vec<_> = documents("a: 1\r\nb: 2\r--- 3\n\r---\nc: 4")
        .map(|d| (d.line, d.text))
        .collect();
    assert_eq!(places, [(1, "a: 1\r\nb: 2\r"), (3, "--- 3\n\r"), (5, "---\nc: 4")]);
}

#[test]
fn unknown_fields_are_named_with_their_path() {
    let text = DEPLOYMENT.replace(
        "spec: {",
        "spec: {timeouts: {conect: 1s}, paths: [{path: /, servise: 1}], ",
    );
    let Ok(Object::Deployment(deployment)) = parse(&text).remove(0) else {
        panic!("no Deployment")
    };
    let told = Object::Deployment(deployment).undecodable().unwrap();
    assert_eq!(&*told, "unknown fields: spec.paths[0].servise, spec.timeouts.conect");
}

#[test]
fn a_wrong_type_is_named_with_its_path() {
    let text = DEPLOYMENT.replace("port: 80", "port: [80]");
    let Ok(Object::Deployment(deployment)) = parse(&text).remove(0) else {
        panic!("no Deployment")
    };
    assert!(deployment.spec.unwrap_err().error.starts_with("spec.service.port: "));
}

#[test]
fn what_an_apiserver_would_fill_in_is_filled_in() {
    let Ok(Object::Deployment(deployment)) = parse(DEPLOYMENT).remove(0) else {
        panic!("no Deployment")
    };
    assert_eq!((&*deployment.uid, deployment.created), ("file:default/a", 0));
    assert_eq!(deployment.spec.unwrap().class_name, "postern");
}

#[test]
fn what_is_no_object_says_so() {
    for (text, reason) in [
        (
            "a: 1",
            "line 1: not a Kubernetes object: apiVersion and kind are missing",
        ),
        (
            "kind: Deployment\napiVersion: postern.dev/v9",
            "line 1: postern.dev/v9 Deployment is unknown; supported are Deployment and SentinelPolicy of postern.dev/v1alpha1",
        ),
        ("kind: Service\napiVersion: v1", "line 1: metadata is missing"),
        (
            "kind: Service\napiVersion: v1\nmetadata: {name: A}",
            "line 1: metadata: \"default\"/\"A\" is not a valid namespace and name",
        ),
        (
            "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {ports: 1}",
            "line 1: Service default/a: spec.ports: invalid type: integer `1`, expected a sequence",
        ),
        (
            "kind: Secret\napiVersion: v1\nmetadata: {name: a}\ntype: kubernetes.io/tls\ndata: {tls.key: aHVzaA=}",
            "line 1: Secret default/a: data.tls.key: cannot be decoded",
        ),
    ] {
        assert_eq!(keys(text), [format!("error {reason}")]);
    }
}

proptest::proptest! {
    /// Whatever an editor saves half way: no panic, and every document is either understood or answered for.
    #[test]
    fn no_text_makes_it_panic(noise in "\\PC{0,40}|[-:{}\\[\\]#&*!|>'\"\\n \t%@`a0]{0,60}", at in 0..200_usize, cut in 0..200_usize) {
        let text = DEPLOYMENT.repeat(2).replacen("\napi", "\n---\napi", 2);
        let (at, cut) = (at.min(text.len()), cut.min(text.len()));
        parse(&noise);
        parse(&format!("{}{noise}{}", &text[..at], &text[at.max(cut)..]));
    }
}

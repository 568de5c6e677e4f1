//! `basicAuth`: users of an htpasswd file, and what a flood of guesses costs whom.

use argon2::password_hash::CustomizedPasswordHasher;
use argon2::{Argon2, Params};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::front::{Front, Transport};
use crate::support::guarded::{Guarded, HOST, backend, policy, secret, site};
use crate::support::site::Site;
use crate::support::wire::{Answer, ask};

over_each! {
    users_pass_with_their_password_and_nobody_else_does,
    what_is_no_single_user_and_password_is_refused,
    the_app_sees_the_password_only_where_the_rule_says_so,
}

const MISSING: (u16, &str) = (401, "client:missing_credentials");
const INVALID: (u16, &str) = (401, "client:invalid_credentials");
/// As the log tells of each.
const HASHED: &str = "hashed a password";

fn rules(fields: Value) -> Value {
    let mut rule = json!({"secretRef": {"name": "users"}});
    rule.as_object_mut()
        .expect("is one")
        .extend(fields.as_object().expect("fields").clone());
    json!([{"name": "users", "basicAuth": rule}])
}

fn bcrypt(password: &str, cost: u32) -> String {
    bcrypt::hash(password, cost).expect("a hash")
}

fn argon2(password: &str, algorithm: &str, memory: u32) -> String {
    let params = Params::new(memory, 1, 1, None).expect("parameters");
    let salt = b"0123456789abcdef";
    let hash = Argon2::default().hash_password_customized(password.as_bytes(), salt, Some(algorithm), Some(19), params);
    hash.expect("a hash").to_string()
}

fn users(htpasswd: &str) -> Value {
    secret("htpasswd", "users", json!({"auth": htpasswd}))
}

fn basic(pair: impl AsRef<[u8]>) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair))
}

fn subject(head: &crate::support::head::Head) -> String {
    let told = head.get("x-postern-principal").expect("a principal");
    let told: Value = serde_json::from_str(told).expect("JSON");
    told["subject"].as_str().expect("a subject").to_owned()
}

fn challenged(answers: &[Answer], realm: &str) {
    for answer in answers {
        let challenge = format!(r#"Basic realm="{realm}", charset="UTF-8""#);
        assert_eq!(
            answer.head.get("www-authenticate"),
            Some(challenge.as_str()),
            "{answer:?}"
        );
    }
}

async fn users_pass_with_their_password_and_nobody_else_does(over: Transport) {
    let htpasswd = format!(
        "# staff\r\nann:{}\r\n\r\nbob:{}:a comment\ncid:{}\nd\u{f6}rte:{}\n",
        bcrypt("sesame: 1", 4).replacen("$2b$", "$2y$", 1),
        argon2("sesame-2", "argon2id", 64),
        argon2("sesame-3", "argon2i", 64),
        bcrypt("\u{fc}ber", 4),
    );
    let guarded = Guarded::start_with(over, site(rules(json!({}))).with(users(&htpasswd)), &[]).await;
    for (user, password) in [
        ("ann", "sesame: 1"),
        ("bob", "sesame-2"),
        ("cid", "sesame-3"),
        ("d\u{f6}rte", "\u{fc}ber"),
    ] {
        for head in guarded.passes("/", &basic(format!("{user}:{password}"))).await {
            assert_eq!(subject(&head), user);
        }
        for wrong in ["", "sesame", "SESAME: 1", "\u{fc}ber ", "sesame-22"] {
            let answers = guarded
                .refuses("/", &basic(format!("{user}:{wrong}")), INVALID.0, INVALID.1)
                .await;
            challenged(&answers, "postern");
        }
    }
    for pair in [
        "eve:sesame-2",
        "Ann:sesame: 1",
        "ann :sesame: 1",
        ":sesame-2",
        "#:x",
        "bob:sesame-3",
        "# staff:",
    ] {
        let answers = guarded.refuses("/", &basic(pair), INVALID.0, INVALID.1).await;
        challenged(&answers, "postern");
    }
    let answers = guarded.refuses("/", "", MISSING.0, MISSING.1).await;
    challenged(&answers, "postern");
}

async fn what_is_no_single_user_and_password_is_refused(over: Transport) {
    let htpasswd = format!("ann:{}\n", bcrypt("sesame", 4));
    let site = site(rules(json!({"realm": "the staff"}))).with(users(&htpasswd));
    let guarded = Guarded::start_with(over, site, &[]).await;
    let right = basic("ann:sesame");
    let value = right.trim_start_matches("Authorization: ").trim_end();
    let lower = right.replace("Basic", "bASIC");
    let unpadded = right.replace('=', "");
    let twice = right.clone() + &right;
    for more in [&right, &lower, &unpadded, &twice] {
        guarded.passes("/", more).await;
    }
    for more in [
        "Authorization: Basic\r\n",
        "Authorization: Basic ann:sesame\r\n",
        "Authorization: Basic !!!\r\n",
        &format!("Authorization: {value} {value}\r\n"),
        &format!("Authorization: {value}, {value}\r\n"),
        &(right.clone() + &basic("ann:wrong")),
        &(right.clone() + "Authorization: Bearer x\r\n"),
        &basic("annsesame"),
        &basic("ann:sesame\0"),
        &basic("ann:sesame\n"),
        &basic(b"ann\xff:sesame"),
        &basic(format!("ann:{}", "x".repeat(9000))),
    ] {
        let answers = guarded.refuses("/", more, INVALID.0, INVALID.1).await;
        challenged(&answers, "the staff");
    }
    let elsewhere = right.replace("Authorization", "Proxy-Authorization");
    let bearer = right.replace("Basic", "Bearer");
    for more in [&*elsewhere, &*bearer, "Cookie: Authorization=x\r\n"] {
        let answers = guarded.refuses("/", more, MISSING.0, MISSING.1).await;
        challenged(&answers, "the staff");
    }
}

async fn the_app_sees_the_password_only_where_the_rule_says_so(over: Transport) {
    let htpasswd = format!("ann:{}\n", bcrypt("sesame", 4));
    for (fields, seen) in [
        (json!({}), true),
        (json!({"forward": true}), true),
        (json!({"forward": false}), false),
    ] {
        let guarded = Guarded::start_with(over, site(rules(fields)).with(users(&htpasswd)), &[]).await;
        let more = basic("ann:sesame");
        for head in guarded.passes("/?a", &(more.clone() + "Cookie: a=b\r\n")).await {
            let line = head
                .get("authorization")
                .map(|value| format!("Authorization: {value}\r\n"));
            assert_eq!(line, seen.then(|| more.clone()));
            assert_eq!((head.target(), head.get("cookie")), ("/?a", Some("a=b")));
        }
    }
}

#[tokio::test]
async fn unusable_lines_cost_their_users_alone() {
    let good = bcrypt("sesame", 4);
    let htpasswd = format!(
        "plain:sesame\nsha:{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nmd5:$apr1$00000000$iKGQ6GgUPpNh3cp6VJTHP/\n\
         crypt:rqXexS6ZhobKA\ncut:{}\ncostly:$2b$15${}\nnothing\n:{good}\nhuge:{}\nann:{good}\nann:{}\n",
        &good[..40],
        &good[7..],
        argon2("sesame", "argon2id", 64).replace("m=64", "m=999999"),
        bcrypt("other", 4),
    );
    let guarded = Guarded::start_with(Transport::Plain, site(rules(json!({}))).with(users(&htpasswd)), &[]).await;
    for head in guarded.passes("/", &basic("ann:sesame")).await {
        assert_eq!(subject(&head), "ann");
    }
    for pair in [
        "plain:sesame",
        "sha:sesame",
        "md5:sesame",
        "crypt:sesame",
        "cut:sesame",
        "costly:sesame",
        "nothing:sesame",
        ":sesame",
        "huge:sesame",
        "ann:other",
        "plain:",
        "nothing:",
    ] {
        guarded.refuses("/", &basic(pair), INVALID.0, INVALID.1).await;
    }
}

#[tokio::test]
async fn a_file_without_users_lets_nobody_in_and_none_at_all_serves_nobody() {
    for htpasswd in ["", "# nobody\n", "plain:sesame\n"] {
        let guarded = Guarded::start_with(Transport::Plain, site(rules(json!({}))).with(users(htpasswd)), &[]).await;
        for more in [basic("plain:sesame"), basic(":")] {
            guarded.refuses("/", &more, INVALID.0, INVALID.1).await;
        }
        guarded.refuses("/", "", MISSING.0, MISSING.1).await;
    }
    let unlabelled = secret(
        "api-key",
        "users",
        json!({"auth": format!("ann:{}", bcrypt("sesame", 4))}),
    );
    for site in [site(rules(json!({}))), site(rules(json!({}))).with(unlabelled)] {
        let guarded = Guarded::start_with(Transport::Plain, site, &[]).await;
        guarded
            .refuses("/", &basic("ann:sesame"), 503, "config:policy_invalid")
            .await;
    }
}

#[tokio::test]
async fn a_changed_password_counts_at_once_though_the_old_one_was_remembered() {
    let of = |password: &str| site(rules(json!({}))).with(users(&format!("ann:{}\n", bcrypt(password, 4))));
    let guarded = Guarded::start_with(Transport::Plain, of("sesame-1"), &[]).await;
    guarded.passes("/", &basic("ann:sesame-1")).await;
    guarded.refuses("/", &basic("ann:sesame-2"), INVALID.0, INVALID.1).await;
    guarded.front.postern.apply(&of("sesame-2").to(guarded.backend.address));
    let asked = async |password: &str| guarded.get("/", &basic(format!("ann:{password}"))).await.status();
    eventually("the new password passes", async || asked("sesame-2").await == 200).await;
    guarded.refuses("/", &basic("ann:sesame-1"), INVALID.0, INVALID.1).await;
    // And users may be taken away or locked, the last of them as well.
    let edit = |htpasswd: &str| {
        let site = site(rules(json!({}))).with(users(htpasswd));
        guarded.front.postern.apply(&site.to(guarded.backend.address));
    };
    edit(&format!("bob:{}\n", bcrypt("sesame-2", 4)));
    eventually("the user is gone", async || asked("sesame-2").await == 401).await;
    let bob = basic("bob:sesame-2");
    for revoked in ["", &format!("bob:!{}\n", bcrypt("sesame-2", 4))] {
        guarded.passes("/", &bob).await;
        edit(revoked);
        eventually("nobody is left", async || guarded.get("/", &bob).await.status() == 401).await;
        guarded.refuses("/", &bob, INVALID.0, INVALID.1).await;
        edit(&format!("bob:{}\n", bcrypt("sesame-2", 4)));
        eventually("he is back", async || guarded.get("/", &bob).await.status() == 200).await;
    }
}

fn hashes(front: &Front) -> usize {
    front.postern.log().iter().filter(|line| line.contains(HASHED)).count()
}

#[tokio::test]
async fn a_password_is_hashed_once_for_many_requests() {
    let htpasswd = format!(
        "ann:{}\nbob:{}\n",
        bcrypt("sesame", 4),
        argon2("sesame", "argon2id", 64)
    );
    let site = site(rules(json!({}))).with(users(&htpasswd));
    let guarded = Guarded::start_with(Transport::Plain, site, &["--log", "info,postern=debug"]).await;
    let front = &guarded.front;
    let asks = |more: String| {
        let asks = (0..32).map(move |_| {
            let more = more.clone();
            async move { front.ask(Method::GET, HOST, "/", &more, b"").await.status() }
        });
        join_all(asks)
    };
    for (hashed, user) in [(1, "ann"), (2, "bob")] {
        assert_eq!(asks(basic(format!("{user}:sesame"))).await, [200; 32]);
        guarded.passes("/", &basic(format!("{user}:sesame"))).await;
        eventually("the log tells of each hash", async || hashes(front) == hashed).await;
    }
    // A wrong one, for a while, too; and an unknown user costs as much as a known one.
    for (hashed, pair) in [(3, "ann:wrong"), (4, "eve:wrong")] {
        assert_eq!(asks(basic(pair)).await, [401; 32]);
        eventually("the log tells of each hash", async || hashes(front) == hashed).await;
    }
    // What is no password is not hashed.
    guarded
        .refuses("/", "Authorization: Basic !\r\n", INVALID.0, INVALID.1)
        .await;
    guarded.refuses("/", "", MISSING.0, MISSING.1).await;
    guarded.passes("/", &basic("ann:sesame")).await;
    assert_eq!(hashes(front), 4);
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_delays_no_other_host() {
    let backend = backend().await;
    let named = |name: &str, host: &str, guard: Value| {
        let mut policy = policy(&format!("guard-{name}"), guard);
        policy["spec"]["targetRefs"] = json!([{"name": name}]);
        Site::new(name, host).to(backend.address).with(policy)
    };
    let file = |name: &str, cost: u32| {
        secret(
            "htpasswd",
            name,
            json!({"auth": format!("ann:{}\n", bcrypt("sesame", cost))}),
        )
    };
    let by = |name: &str| json!([{"name": "users", "basicAuth": {"secretRef": {"name": name}}}]);
    let sites = [
        named("flooded", "flooded.test", by("slow")).with(file("slow", 8)),
        named("beside", "beside.test", by("quick")).with(file("quick", 4)),
        Site::new("open", "open.test").to(backend.address),
    ];
    let front = Front::start_with(Transport::Plain, &sites, &["--log", "info,postern=debug"]).await;
    let to = front.address();
    let flood: Vec<_> = (0..256)
        .map(|guess| {
            let more = basic(format!("ann:guess {guess}"));
            tokio::spawn(async move {
                ask(to, format!("GET / HTTP/1.1\r\nHost: flooded.test\r\n{more}\r\n"))
                    .await
                    .status()
            })
        })
        .collect();
    eventually("the flood is on", async || hashes(&front) > 0).await;
    // One after the other, each has to be answered.
    for round in 0..6 {
        assert_eq!(front.get("open.test", "/").await.status(), 200);
        let more = basic(format!("ann:{}", if round % 2 == 0 { "sesame" } else { "wrong" }));
        let answer = front.ask(Method::GET, "beside.test", "/", &more, b"").await;
        assert_eq!(answer.status(), if round % 2 == 0 { 200 } else { 401 });
    }
    let waiting = flood.iter().filter(|guess| !guess.is_finished()).count();
    assert!(waiting > 0, "the flood was over before all others were answered");
    for guess in flood {
        // Those whose turn does not come in time are told that it was too long.
        assert!(matches!(guess.await.expect("ends"), 401 | 503));
    }
    assert_eq!(front.get("open.test", "/").await.status(), 200);
}

use argon2::password_hash::CustomizedPasswordHasher;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::policy::credentials::tests::Head;

fn bcrypt(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

fn argon2(password: &str, algorithm: &str) -> String {
    let params = Params::new(64, 1, 1, None).unwrap();
    let hash = Argon2::default().hash_password_customized(
        password.as_bytes(),
        b"0123456789abcdef",
        Some(algorithm),
        Some(19),
        params,
    );
    hash.unwrap().to_string()
}

fn rule(htpasswd: &str) -> BasicAuth {
    let (users, unusable) = Users::read(htpasswd.as_bytes());
    assert_eq!(unusable, []);
    BasicAuth::new(Arc::new(users), "staff", true)
}

async fn check(rule: &BasicAuth, state: &RuleState, authorization: &[&str]) -> Result<String, Reason> {
    let lines: Vec<_> = authorization.iter().map(|line| ("authorization", *line)).collect();
    let head = Head::new("/", &lines);
    let checked = rule.check(&head.request(), &"acme".into(), state).await;
    match checked {
        Ok(authenticated) => Ok(authenticated.principal.subject().to_owned()),
        Err(refusal) => {
            let challenge = refusal.headers.get(WWW_AUTHENTICATE).unwrap();
            assert_eq!(challenge, r#"Basic realm="staff", charset="UTF-8""#);
            Err(refusal.reason)
        }
    }
}

fn basic(pair: &[u8]) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

#[tokio::test]
async fn bcrypt_and_argon2_are_verified() {
    let mut htpasswd = "# staff\r\n\n".to_owned();
    for (name, prefix) in [("a", "$2a$"), ("b", "$2b$"), ("y", "$2y$")] {
        htpasswd += &format!("{name}:{}\r\n", bcrypt("se:cret").replacen("$2b$", prefix, 1));
    }
    for (name, algorithm) in [("id", "argon2id"), ("i", "argon2i"), ("d", "argon2d")] {
        htpasswd += &format!("{name}:{}:a comment\n", argon2("se:cret", algorithm));
    }
    let (rule, state) = (rule(&htpasswd), RuleState::default());
    for name in ["a", "b", "y", "id", "i", "d"] {
        let right = check(&rule, &state, &[&basic(format!("{name}:se:cret").as_bytes())]).await;
        assert_eq!(right.as_deref(), Ok(name));
        for wrong in [":se:cre", ":", ":se:crett", ":SE:CRET", ":se"] {
            let wrong = check(&rule, &state, &[&basic(format!("{name}{wrong}").as_bytes())]).await;
            assert_eq!(wrong, Err(Reason::InvalidCredentials), "{name}");
        }
    }
}

#[tokio::test]
async fn known_hashes_of_other_tools_are_understood() {
    // Published vectors: of crypt_blowfish, and of the reference implementation of argon2.
    let htpasswd = "ann:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n\
        bob:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let (rule, state) = (rule(htpasswd), RuleState::default());
    assert_eq!(check(&rule, &state, &[&basic(b"ann:U*U")]).await.as_deref(), Ok("ann"));
    assert_eq!(
        check(&rule, &state, &[&basic(b"bob:password")]).await.as_deref(),
        Ok("bob")
    );
}

#[tokio::test]
async fn what_is_no_pair_is_missing_or_invalid() {
    let (rule, state) = (rule(&format!("ann:{}", bcrypt("a"))), RuleState::default());
    let right = basic(b"ann:a");
    for missing in [&[][..], &["Bearer abc"], &["Basicabc"]] {
        assert_eq!(
            check(&rule, &state, missing).await,
            Err(Reason::MissingCredentials),
            "{missing:?}"
        );
    }
    let (no_colon, control, not_utf8) = (basic(b"ann"), basic(b"ann:a\0"), basic(b"\xff:a"));
    let long = basic(&[b'a'; credentials::MAX_LENGTH]);
    for invalid in [
        &["Basic"][..],
        &["Basic !"],
        &["Basic \u{e9}"],
        &[&no_colon],
        &[&control],
        &[&not_utf8],
        &[&long],
        &[&right, "Bearer abc"],
        &[&right, &no_colon],
    ] {
        assert_eq!(
            check(&rule, &state, invalid).await,
            Err(Reason::InvalidCredentials),
            "{invalid:?}"
        );
    }
    let unpadded = right.trim_end_matches('=').replacen("Basic", "bAsIc", 1);
    assert_eq!(check(&rule, &state, &[&unpadded]).await.as_deref(), Ok("ann"));
}

#[tokio::test]
async fn a_user_who_is_unknown_is_nobody_even_with_the_decoys_password() {
    let (rule, state) = (rule(&format!("ann:{}", bcrypt("a"))), RuleState::default());
    for _ in 0..2 {
        assert_eq!(
            check(&rule, &state, &[&basic(b"bob:a")]).await,
            Err(Reason::InvalidCredentials)
        );
    }
    assert_eq!(check(&rule, &state, &[&basic(b"ann:a")]).await.as_deref(), Ok("ann"));
    let nobody = BasicAuth::new(Arc::new(Users::read(b"").0), "staff", true);
    assert_eq!(
        check(&nobody, &state, &[&basic(b"ann:a")]).await,
        Err(Reason::InvalidCredentials)
    );
}

/// Were it the costliest, whoever is refused sooner would be known to exist.
#[test]
fn the_hash_of_an_unknown_user_costs_what_some_users_does_and_always_the_same() {
    let costs = [4, 5, 6];
    let lines = costs.map(|cost| format!("user{cost}:{}\n", bcrypt::hash("a", cost).unwrap()));
    let read = || Users::read(lines.concat().as_bytes()).0;
    let (users, again) = (read(), read());
    let mut times = [0; 3];
    for number in 0..300 {
        let name = format!("nobody{number}");
        let decoy = users.decoy(&name).unwrap();
        let at = costs.iter().position(|cost| decoy.text.contains(&format!("$0{cost}$")));
        times[at.unwrap()] += 1;
        assert_eq!(again.decoy(&name).unwrap().text, decoy.text);
    }
    assert!(times.iter().all(|times| *times > 50), "{times:?}");
    assert!(Users::read(b"").0.decoy("ann").is_none());
}

#[tokio::test]
async fn a_changed_password_counts_at_once() {
    let state = RuleState::default();
    let (before, after) = (
        rule(&format!("ann:{}", bcrypt("a"))),
        rule(&format!("ann:{}", bcrypt("b"))),
    );
    assert!(check(&before, &state, &[&basic(b"ann:a")]).await.is_ok());
    assert!(check(&before, &state, &[&basic(b"ann:b")]).await.is_err());
    assert!(check(&after, &state, &[&basic(b"ann:a")]).await.is_err());
    assert!(check(&after, &state, &[&basic(b"ann:b")]).await.is_ok());
}

#[test]
fn a_line_that_is_of_no_use_costs_its_user_alone() {
    let good = bcrypt("a");
    let costly = good.replacen("$04$", "$15$", 1);
    let cheap = good.replacen("$04$", "$03$", 1);
    let argon2 =
        |params: &str| format!("$argon2id$v=19${params}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4");
    let lines = [
        (format!("ann:{good}"), None),
        ("no-colon".to_owned(), Some(Problem::Malformed)),
        (format!(":{good}"), Some(Problem::Malformed)),
        (format!("ann:{good}"), Some(Problem::Repeated)),
        (
            "md5:$apr1$abcdefgh$0123456789abcdefghijkl".to_owned(),
            Some(Problem::Scheme),
        ),
        (
            "sha1:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(),
            Some(Problem::Scheme),
        ),
        ("crypt:rqXexS6ZhobKA".to_owned(), Some(Problem::Scheme)),
        ("plain:secret".to_owned(), Some(Problem::Scheme)),
        ("none:".to_owned(), Some(Problem::Scheme)),
        (format!("x:{}", good.replacen("$2b$", "$2x$", 1)), Some(Problem::Scheme)),
        ("cut:$2b$04$abc".to_owned(), Some(Problem::Malformed)),
        (format!("costly:{costly}"), Some(Problem::BcryptCost)),
        (format!("cheap:{cheap}"), Some(Problem::Malformed)),
        (
            format!("memory:{}", argon2("m=65537,t=1,p=1")),
            Some(Problem::Argon2Cost),
        ),
        (format!("passes:{}", argon2("m=64,t=11,p=1")), Some(Problem::Argon2Cost)),
        (format!("lanes:{}", argon2("m=256,t=1,p=17")), Some(Problem::Argon2Cost)),
        (format!("little:{}", argon2("m=1,t=1,p=1")), Some(Problem::Malformed)),
        (
            format!("old:{}", argon2("m=64,t=1,p=1").replacen("v=19$", "", 1)),
            Some(Problem::Malformed),
        ),
        ("salt:$argon2id$v=19$m=64,t=1,p=1".to_owned(), Some(Problem::Malformed)),
        (format!("bob:{}", argon2("m=65536,t=10,p=4")), None),
    ];
    let text: Vec<_> = lines.iter().map(|(line, _)| line.as_str()).collect();
    let (users, unusable) = Users::read(text.join("\n").as_bytes());
    let expected = lines.iter().zip(1..).filter_map(|((_, problem), number)| {
        let problem = (*problem)?;
        Some(UnusableLine { number, problem })
    });
    assert_eq!(unusable, Vec::from_iter(expected));
    let mut names: Vec<_> = users.by_name.keys().map(|name| &**name).collect();
    names.sort_unstable();
    assert_eq!(names, ["ann", "bob"]);
    let told: Vec<_> = unusable.iter().map(ToString::to_string).collect();
    assert_eq!(told[0], "line 2: not of the form user:hash");
    assert!(!told.join("").contains(&good[10..]) && !told.join("").contains("secret"));
}

#[test]
fn no_user_and_no_hash_is_printed() {
    let hash = bcrypt("a");
    let rule = rule(&format!("ann:{hash}"));
    let shown = format!("{rule:?}{}", serde_json::to_string(&rule).unwrap());
    assert!(!shown.contains("ann") && !shown.contains(&hash[8..]), "{shown}");
    assert!(shown.contains(r#""count":1"#));
}

#[tokio::test]
async fn the_app_sees_no_password_where_it_is_not_forwarded() {
    let (users, _) = Users::read(format!("ann:{}", bcrypt("a")).as_bytes());
    let users = Arc::new(users);
    for (forward, left) in [(true, 2), (false, 1)] {
        let rule = BasicAuth::new(users.clone(), "staff", forward);
        let head = Head::new("/", &[("authorization", &basic(b"ann:a")), ("a", "b")]);
        let found = rule
            .check(&head.request(), &"acme".into(), &RuleState::default())
            .await
            .unwrap();
        let mut headers = head.request().headers.clone();
        found.credential.strip_headers(&mut headers);
        assert_eq!(headers.len(), left);
    }
}

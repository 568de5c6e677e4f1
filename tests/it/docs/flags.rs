//! Every setting of `postern run`: as `--help` has it, with what the settings file calls it.

use std::collections::BTreeSet;

use clap::{Arg, Args, Command};
use postern::config;
use postern::config::{Flags, HOT};
use serde_json::Value;

use super::{assert_table, code};

#[test]
fn settings_are_those_of_the_code() {
    let command = config::Args::augment_args(Command::new("run"));
    let mut keys = BTreeSet::new();
    let rows: Vec<_> = command
        .get_arguments()
        .map(|flag| {
            let id = flag.get_id().as_str();
            let key = (id != "config").then(|| camel_case(id));
            keys.extend(key.clone());
            row(flag, key.as_deref())
        })
        .chain([in_the_file_alone("hostnameGrants")])
        .collect();
    keys.insert("hostnameGrants".to_owned());
    let Ok(Value::Object(known)) = serde_json::to_value(Flags::default()) else {
        panic!("the settings are a map")
    };
    assert_eq!(keys, known.keys().cloned().collect());
    let head = ["flag", "environment", "key", "default", "hot", "description"];
    assert_table("flags.md", "flags", head, rows);
}

fn row(flag: &Arg, key: Option<&str>) -> [String; 6] {
    let long = flag.get_long().expect("has a name");
    let environment = flag.get_env().and_then(|name| name.to_str()).expect("has a variable");
    let help = flag.get_help().expect("has a help").to_string();
    // Where a default is no plain value, the help ends with it.
    let (help, told) = match help.strip_suffix(']').and_then(|help| help.rsplit_once(" [default: ")) {
        Some((help, default)) => (help.to_owned(), Some(default.to_owned())),
        None => (help, None),
    };
    let plain = flag
        .get_default_values()
        .first()
        .and_then(|value| value.to_str())
        .map(code);
    let default = told.or(plain).unwrap_or_else(|| "none".to_owned());
    let values: Vec<_> = flag
        .get_possible_values()
        .iter()
        .map(|value| code(value.get_name()))
        .collect();
    let values = match values.is_empty() || values == ["`true`", "`false`"] {
        true => String::new(),
        false => format!(". One of {}", values.join(", ")),
    };
    let value = flag
        .get_value_names()
        .and_then(|names| names.first())
        .map(|name| format!(" {name}"));
    [
        code(&format!("--{long}{}", value.unwrap_or_default())),
        code(environment),
        key.map(code).unwrap_or_default(),
        default,
        hot(key),
        format!("{help}{values}").replace('<', "\\<"),
    ]
}

fn in_the_file_alone(key: &str) -> [String; 6] {
    [
        String::new(),
        String::new(),
        code(key),
        "none: the oldest claim to a name wins".to_owned(),
        hot(Some(key)),
        "The hostnames that each namespace may use, as a map of lists: `acme: [chat.example.com, \"*.preview.example.com\"]`. With \
         it, a name that is not granted is HostnameNotAllowed"
            .to_owned(),
    ]
}

fn hot(key: Option<&str>) -> String {
    match key.is_some_and(|key| HOT.contains(&key)) {
        true => "yes".to_owned(),
        false => String::new(),
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| {
        let (initial, rest) = word.split_at(1);
        text + &initial.to_uppercase() + rest
    })
}

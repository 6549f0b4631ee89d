//! `config/corespan.toml` is the manual: what it says of keys and defaults must be so.

use std::collections::BTreeSet;

use super::*;
use crate::subject::TopicSettings;

const MANUAL: &str = include_str!("../../config/corespan.toml");

/// The manual with every default in force.
fn uncommented() -> String {
    let is_key = |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase()));
    MANUAL.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

fn parse(text: &str) -> Config {
    Config::parse(text, "corespan.toml", "").unwrap_or_else(|error| panic!("{error}"))
}

/// A configuration without its traces of where it was read.
fn meaning(mut config: Config) -> String {
    config.effective.clear();
    format!("{config:#?}")
}

#[test]
fn the_file_as_shipped_is_right() {
    parse(MANUAL);
}

#[test]
fn documented_defaults_are_the_defaults_of_the_code() {
    assert_eq!(meaning(parse(&uncommented())), meaning(parse(MANUAL)));
}

#[test]
fn every_key_is_in_the_manual_and_the_manual_has_no_other() {
    let given = |config: &Config| -> BTreeSet<String> {
        config.effective.iter().filter(|effective| effective.origin.is_some()).map(|effective| effective.key.clone()).collect()
    };
    let config = parse(&uncommented());
    let all: BTreeSet<String> = config.effective.iter().map(|effective| effective.key.clone()).collect();
    assert_eq!(given(&config), all);
    assert!(MANUAL.contains("\"topics.regex\" = "));
    // Topics' keys are examples, with their defaults.
    let start = MANUAL.find("#   [topic.").unwrap();
    let example: String = MANUAL[start..].lines().take_while(|line| line.starts_with('#')).fold(String::new(), |text, line| {
        let line = line.trim_start_matches("#   ");
        let is_setting =
            line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase()));
        if is_setting { text + line + "\n" } else { text }
    });
    let config = parse(&format!("{MANUAL}\n{example}"));
    assert_eq!(config.topics.len(), 1);
    assert_eq!(config.topic("vehicles"), TopicSettings::default());
    let keys = config.effective.iter().filter(|effective| effective.key.starts_with("topic."));
    assert!(keys.clone().count() == 3 && keys.clone().all(|effective| effective.origin.is_some()), "{example}");
}

#[test]
fn documented_ranges_are_those_of_the_code() {
    // `A to B` of the explanation above a key: both ends are taken, and what is beyond is not.
    let range = regex::Regex::new(r"\b(\d+[A-Za-z]*) to (\d+[A-Za-z]*)\b").unwrap();
    let (mut table, mut prose, mut checked) = (String::new(), String::new(), 0);
    for line in MANUAL.lines() {
        if let Some(header) = line.strip_prefix('[') {
            table = format!("{}.", header.trim_end_matches(']'));
            prose.clear();
        } else if let Some(rest) = line.strip_prefix('#').filter(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase())) {
            let key = format!("{table}{}", rest.split_once(" = ").unwrap().0);
            let Some(found) = range.captures(&prose) else {
                prose.clear();
                continue;
            };
            let try_value = |value: &str| {
                let value = if value.bytes().all(|byte| byte.is_ascii_digit()) { value.to_owned() } else { format!("{value:?}") };
                // Quoted, for TOML allows a dotted key and a table of the same name only once.
                let table_form = format!("{key:?} = {value}\n");
                // Relations to other keys are not ranges.
                match Config::parse(&format!("{table_form}{MANUAL}"), "f", "") {
                    Ok(_) => true,
                    Err(error) => !error.to_string().contains(&format!("{key} = {value} is not allowed")),
                }
            };
            // Only keys that take numbers, sizes or times have ranges; "shards" takes other forms too.
            assert!(try_value(&found[1]) && try_value(&found[2]), "{key}: {}", &found[0]);
            let number: u128 = found[2].chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
            let unit: String = found[2].chars().skip_while(char::is_ascii_digit).collect();
            assert!(!try_value(&format!("{}{unit}", number + 1)), "{key} takes more than {}", &found[2]);
            checked += 1;
            prose.clear();
        } else if let Some(rest) = line.strip_prefix("# ") {
            prose.push(' ');
            prose.push_str(rest);
        } else {
            prose.clear();
        }
    }
    assert!(checked >= 18, "{checked}");
}

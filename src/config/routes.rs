//! `[[route]]` and `[[expose]]`: subjects that lead to other topics than their own.

use super::reader::Reader;
use crate::kafka::TopicChoice;
use crate::subject::name::is_topic;
use crate::subject::publish_rule::is_internal;
use crate::subject::{Destination, Exposures, Route, Routes, SubjectPattern, Template};

/// Blocks of a kind at most: every command about a subject is compared with all of them.
const BLOCKS_MAX: usize = 64;

/// Reads every `[[route]]`.
pub(super) fn read_routes(reader: &mut Reader) -> Routes {
    let mut routes: Vec<Route> = Vec::new();
    for number in numbers(reader, "route") {
        let table = format!("route.{number}");
        let also = reader.flag(&format!("{table}.also"), false);
        let Some(destination) = read_destination(reader, &table) else { continue };
        if let Some(place) = routes.iter().position(|other| other.destination == destination) {
            let text = format!("{table} says the same as route.{}; remove one of them", place + 1);
            reader.problem(reader.origin_read(&format!("{table}.subject")), text);
        }
        routes.push(Route { destination, also });
    }
    Routes(routes)
}

/// Reads every `[[expose]]`.
pub(super) fn read_exposures(reader: &mut Reader, consumed: &TopicChoice) -> Exposures {
    let mut exposures: Vec<Destination> = Vec::new();
    for number in numbers(reader, "expose") {
        let table = format!("expose.{number}");
        let Some(destination) = read_destination(reader, &table) else { continue };
        let key = format!("{table}.subject");
        if let Some(place) = exposures.iter().position(|other| other.pattern == destination.pattern) {
            let text = format!(
                "{key} = \"{}\" is that of expose.{} too, and the first counts; remove one of them",
                destination.pattern,
                place + 1
            );
            reader.problem(reader.origin_read(&key), text);
        }
        if let (Some(topic), TopicChoice::Listed(listed)) = (destination.topic.literal(), consumed)
            && !listed.iter().any(|consumed| consumed == topic)
        {
            let text =
                format!("{table}.topic = \"{topic}\" is not consumed, so there is nothing of it to show; add it to kafka.consumer.topics");
            reader.problem(reader.origin_read(&format!("{table}.topic")), text);
        }
        exposures.push(destination);
    }
    Exposures(exposures)
}

fn numbers(reader: &mut Reader, kind: &str) -> Vec<usize> {
    for key in ["subject", "topic", "key"] {
        reader.know(&format!("{kind}.1.{key}"));
    }
    let given: Vec<usize> = (1..=BLOCKS_MAX).filter(|number| reader.has_below(&format!("{kind}.{number}"))).collect();
    let over = format!("{kind}.{}", BLOCKS_MAX + 1);
    if reader.has_below(&over) {
        let text = format!("there are more than {BLOCKS_MAX} [[{kind}]]; make one pattern of several, as in /orders/{{region}}/new");
        reader.problem(reader.origin_below(&over), text);
        for number in BLOCKS_MAX + 1..=BLOCKS_MAX + 1_000 {
            reader.take_those_below(&format!("{kind}.{number}"));
        }
    }
    given
}

/// A block's subject, topic and key, if they fit together.
fn read_destination(reader: &mut Reader, table: &str) -> Option<Destination> {
    let [subject_key, topic_key, key_key] = ["subject", "topic", "key"].map(|name| format!("{table}.{name}"));
    let has_key = reader.origin(&key_key).is_some();
    let mut is_whole = true;
    for (key, example) in [(&subject_key, "/server/status2"), (&topic_key, "topic2")] {
        if reader.origin(key).is_none() {
            let text = format!("{key} is missing: write it as in {} = \"{example}\"", key.rsplit('.').next().unwrap_or(key));
            reader.problem(reader.origin_below(table), text);
            is_whole = false;
        }
    }
    let subject = reader.text(&subject_key, "", |text| SubjectPattern::parse(text).map(drop).map_err(|error| error.to_string()));
    let pattern = SubjectPattern::parse(&subject).ok();
    let template = |text: &str| match &pattern {
        Some(pattern) => Template::parse(text, pattern).map_err(|error| error.to_string()).map(Some),
        None => Ok(None),
    };
    let topic = reader.text(&topic_key, "", |text| check_topic(text, template(text)?.as_ref()));
    let key = reader.text(&key_key, "", |text| check_key(text, template(text)?.as_ref()));
    let pattern = pattern.as_ref().filter(|_| is_whole)?;
    let topic = Template::parse(&topic, pattern).ok().filter(|_| !topic.is_empty())?;
    let key = if has_key { Some(Template::parse(&key, pattern).ok()?) } else { None };
    Some(Destination { pattern: pattern.clone(), topic, key })
}

fn check_topic(text: &str, template: Option<&Template>) -> Result<(), String> {
    const HELP: &str = "give the name of a Kafka topic (1 to 249 characters of a-z A-Z 0-9 . _ -), with variables of the subject in it if need be, as in orders-{region}";
    let Some(template) = template else { return Ok(()) };
    match template.literal() {
        Some(topic) if is_topic(topic) => Ok(()),
        Some(_) => Err(HELP.to_owned()),
        None if is_internal(template.literal_start()) => {
            Err("internal topics (those that begin with `_`) are reached by their exact names only: no variable in it".to_owned())
        }
        // Whatever stands for the variables, the rest has to fit.
        None => {
            let filled = text.split(['{', '}']).step_by(2).collect::<String>();
            if filled.is_empty() || is_topic(&format!("x{filled}")) { Ok(()) } else { Err(HELP.to_owned()) }
        }
    }
}

fn check_key(text: &str, template: Option<&Template>) -> Result<(), String> {
    let Some(template) = template else { return Ok(()) };
    let fits = text.is_empty() || template.literal().is_none() || {
        let padded = format!("/t/{text}");
        crate::subject::SubjectName::parse(&padded, usize::MAX).is_ok()
    };
    if fits {
        Ok(())
    } else {
        Err("give a key that a subject can have (no empty segment, no control character), or \"\" for the null key".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError};

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let kafka = "[kafka]\n\"bootstrap.servers\" = \"h:1\"\n[kafka.consumer]\ntopics = [\"server\", \"topic2\"]\n";
        Config::parse(&format!("{kafka}{text}"), "f", "")
    }

    fn problems(text: &str) -> String {
        parse(text).map(drop).expect_err(text).to_string()
    }

    #[test]
    fn routes_and_exposures_are_read_each_block_by_its_number() {
        let text = "[[route]]\nsubject = \"/server/status2\"\ntopic = \"topic2\"\nkey = \"mykey\"\n\
                    [[route]]\nsubject = \"/orders/{region}/new\"\ntopic = \"orders-{region}\"\nalso = true\n\
                    [[expose]]\nsubject = \"/server/status2\"\ntopic = \"topic2\"\nkey = \"mykey\"\n";
        let config = parse(text).expect("it is right");
        assert_eq!((config.routes.0.len(), config.exposures.0.len()), (2, 1));
        let [first, second] = &config.routes.0[..] else { panic!("two") };
        assert_eq!(
            (first.also, first.destination.topic.to_string(), first.destination.key.as_ref().map(ToString::to_string)),
            (false, "topic2".to_owned(), Some("mykey".to_owned()))
        );
        assert_eq!(
            (second.also, second.destination.topic.to_string(), &second.destination.key),
            (true, "orders-{region}".to_owned(), &None)
        );
        let single = parse("[route]\nsubject = \"/a/b\"\ntopic = \"c\"\n").expect("a single one needs no second pair of brackets");
        assert_eq!(single.routes.0.len(), 1);
        let open = config.open_to().join("\n");
        assert!(open.contains("/orders/{region}/new") && open.contains("orders-{region}"), "{open}");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key_its_value_and_what_is_allowed() {
        let route = |lines: &str| problems(&format!("[[route]]\n{lines}"));
        for (lines, parts) in [
            ("topic = \"t\"", &["route.1.subject is missing"][..]),
            ("subject = \"/a\"", &["route.1.topic is missing"]),
            ("subject = \"a\"\ntopic = \"t\"", &["route.1.subject = \"a\"", "starts with `/`"]),
            ("subject = \"/a{b}\"\ntopic = \"t\"", &["route.1.subject", "whole segment"]),
            ("subject = \"/a/{b}\"\ntopic = \"{c}\"", &["route.1.topic = \"{c}\"", "no variable of subject"]),
            ("subject = \"/a/{b}\"\ntopic = \"\"", &["route.1.topic = \"\"", "1 to 249 characters"]),
            ("subject = \"/a/{b}\"\ntopic = \"x/{b}\"", &["route.1.topic = \"x/{b}\"", "1 to 249 characters"]),
            ("subject = \"/a/{b}\"\ntopic = \"__{b}\"", &["route.1.topic = \"__{b}\"", "exact names"]),
            ("subject = \"/a/{b}\"\ntopic = \"t\"\nkey = \"x//y\"", &["route.1.key = \"x//y\"", "null key"]),
            ("subject = \"/a\"\ntopic = \"t\"\nalso = 1", &["route.1.also = 1", "true or false"]),
            ("subject = \"/a\"\ntopic = \"t\"\ntopics = 1", &["unknown key route.1.topics", "route.1.topic"]),
            ("subject = \"/a\"\ntopic = \"t\"\n[[route]]\nsubject = \"/a\"\ntopic = \"t\"", &["route.2 says the same as route.1"]),
        ] {
            let said = route(lines);
            assert!(parts.iter().all(|part| said.contains(part)), "{lines}: {said}");
        }
        let said = problems("[[expose]]\nsubject = \"/a\"\ntopic = \"elsewhere\"\n");
        assert!(said.contains("expose.1.topic = \"elsewhere\" is not consumed"), "{said}");
        let said = problems("[[expose]]\nsubject = \"/a\"\ntopic = \"server\"\n[[expose]]\nsubject = \"/a\"\ntopic = \"topic2\"\n");
        assert!(said.contains("expose.2.subject = \"/a\" is that of expose.1 too"), "{said}");
        let said = problems("[publish]\nopen.shard.max = 8\n[[route]]\nsubject = \"/a\"\ntopic = \"t\"\n");
        assert!(said.contains("publish.open.shard.max = 8 is too few") && said.contains("9 or more"), "{said}");
        let many: String = (0..=64).map(|number| format!("[[route]]\nsubject = \"/a/{number}\"\ntopic = \"t\"\n")).collect();
        assert!(problems(&many).contains("more than 64 [[route]]"));
    }

    #[test]
    fn both_are_taken_by_a_reload() {
        let before = parse("[[route]]\nsubject = \"/a/b\"\ntopic = \"c\"\n").expect("it is right");
        let after = parse("[[expose]]\nsubject = \"/a/b\"\ntopic = \"topic2\"\n").expect("it is right");
        let changes = before.changes(&after);
        assert_eq!(changes.at_restart, Vec::<String>::new());
        assert!(changes.live.iter().any(|line| line.contains("route.1.topic")), "{changes:?}");
        assert!(changes.live.iter().any(|line| line.contains("expose.1.subject")), "{changes:?}");
        let now = before.with_live_of(&after);
        assert_eq!((now.routes.0.len(), &now.exposures), (0, &after.exposures));
        assert_eq!(now.changes(&after), crate::config::Changes::default());
    }
}

//! Subjects that lead to other topics than their own: what clients publish there (`[[route]]`), and what they subscribe to there (`[[expose]]`).
//!
//! Both say the same: a subject of a pattern stands for a key of a topic, so for another subject. A shard asks once for each command, before anything
//! else is done with the name.

use super::name::{SubjectError, SubjectName, is_topic};
use super::pattern::{SubjectPattern, Template};
use super::publish_rule::is_internal;

/// Topics that one publish goes to at most, by routes.
pub const TARGETS_MAX: usize = 8;

/// The topic and the key that a subject of a pattern stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub pattern: SubjectPattern,
    pub topic: Template,
    /// `None`: the key that the subject itself names. An empty text is the null key.
    pub key: Option<Template>,
}

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: Destination,
    /// The topic that the subject itself names has the record too.
    pub also: bool,
}

/// Every `[[route]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(pub Vec<Route>);

/// Every `[[expose]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposures(pub Vec<Destination>);

/// Why a subject that a pattern matches leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("the subject leads to {0:?}, which is no name of a Kafka topic")]
    BadTopic(String),
    #[error("the subject leads to a key that no subject has: {0}")]
    BadKey(SubjectError),
    /// Patterns never lead there.
    #[error("the subject leads to an internal topic")]
    Internal,
    #[error("more than {TARGETS_MAX} routes match the subject")]
    TooMany,
}

impl Destination {
    /// The subject that a subject stands for; `None` if the pattern does not match.
    fn of(&self, name: &SubjectName, bytes_max: usize) -> Option<Result<SubjectName, RouteError>> {
        let values = self.pattern.matches(name.as_str())?;
        let topic = self.topic.fill(&values);
        if !is_topic(&topic) {
            return Some(Err(RouteError::BadTopic(topic)));
        }
        if self.topic.literal().is_none() && is_internal(&topic) {
            return Some(Err(RouteError::Internal));
        }
        let made = self.key.as_ref().map(|key| key.fill(&values)).filter(|key| !key.is_empty());
        let key = match &self.key {
            Some(_) => made.as_deref(),
            None => name.key(),
        };
        Some(SubjectName::of_record(&topic, key.map(str::as_bytes), bytes_max).map_err(RouteError::BadKey))
    }
}

impl Routes {
    /// Where a publish to a subject goes, each place once; `None`: to its own topic, no route speaks of it.
    ///
    /// # Errors
    /// A route that matches leads nowhere.
    pub fn of(&self, name: &SubjectName, bytes_max: usize) -> Result<Option<Vec<SubjectName>>, RouteError> {
        let mut targets: Option<Vec<SubjectName>> = None;
        // Its own topic has it unless one route says that it has not.
        let mut also = true;
        for route in &self.0 {
            let Some(target) = route.destination.of(name, bytes_max) else { continue };
            let (target, targets) = (target?, targets.get_or_insert_default());
            also &= route.also;
            if !targets.contains(&target) {
                targets.push(target);
            }
            if targets.len() > TARGETS_MAX {
                return Err(RouteError::TooMany);
            }
        }
        if let Some(targets) = &mut targets
            && also
            && !targets.contains(name)
        {
            targets.insert(0, name.clone());
        }
        Ok(targets)
    }
}

impl Exposures {
    /// The subject whose records are had under a subject's name; `None`: its own. The first that matches counts.
    ///
    /// # Errors
    /// It leads nowhere.
    pub fn of(&self, name: &SubjectName, bytes_max: usize) -> Result<Option<SubjectName>, RouteError> {
        let target = self.0.iter().find_map(|destination| destination.of(name, bytes_max)).transpose()?;
        Ok(target.filter(|target| target != name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(subject: &str, topic: &str, key: Option<&str>) -> Destination {
        let pattern = SubjectPattern::parse(subject).expect("a pattern");
        let template = |text| Template::parse(text, &pattern).expect("a template");
        Destination { topic: template(topic), key: key.map(template), pattern: pattern.clone() }
    }

    fn routes(list: &[(&str, &str, Option<&str>, bool)]) -> Routes {
        Routes(
            list.iter().map(|(subject, topic, key, also)| Route { destination: destination(subject, topic, *key), also: *also }).collect(),
        )
    }

    fn targets(routes: &Routes, subject: &str) -> Result<Option<Vec<String>>, RouteError> {
        let name = SubjectName::parse(subject, 100).expect("a subject");
        Ok(routes.of(&name, 100)?.map(|targets| targets.iter().map(|target| target.as_str().to_owned()).collect()))
    }

    #[test]
    fn a_publish_goes_where_all_routes_that_match_say_and_to_its_own_topic_if_they_all_let_it() {
        let routes = routes(&[
            ("/server/status2", "topic2", Some("mykey"), false),
            ("/orders/{region}/new", "orders-{region}", None, true),
            ("/orders/{*rest}", "audit", Some("{rest}"), true),
            ("/bin/{*rest}", "bin", None, true),
            ("/quiet/{x}", "null", Some(""), false),
        ]);
        let of = |subject| targets(&routes, subject).expect("it leads somewhere");
        assert_eq!(of("/server/status1"), None);
        assert_eq!(of("/server/status2").expect("routed"), ["/topic2/mykey"]);
        assert_eq!(of("/orders/eu/new").expect("routed"), ["/orders/eu/new", "/orders-eu/eu/new", "/audit/eu/new"]);
        assert_eq!(of("/orders/eu").expect("routed"), ["/orders/eu", "/audit/eu"]);
        assert_eq!(of("/bin/x/y").expect("routed"), ["/bin/x/y"], "each place once");
        assert_eq!(of("/quiet/x").expect("routed"), ["/null"]);
    }

    #[test]
    fn a_route_that_leads_nowhere_says_why_and_patterns_never_lead_to_internal_topics() {
        let list =
            routes(&[("/a/{x}", "{x}", None, false), ("/b/{x}", "t", Some("{x}/"), false), ("/c/{x}", "__consumer_offsets", None, false)]);
        assert_eq!(targets(&list, "/a/é"), Err(RouteError::BadTopic("é".to_owned())));
        assert_eq!(targets(&list, "/a/__consumer_offsets"), Err(RouteError::Internal));
        assert_eq!(targets(&list, "/b/x"), Err(RouteError::BadKey(SubjectError::EmptySegment)));
        assert_eq!(targets(&list, "/c/x").expect("by its exact name").expect("routed"), ["/__consumer_offsets/x"]);
        let many: Vec<String> = (0..=TARGETS_MAX).map(|number| format!("t{number}")).collect();
        let many: Vec<_> = many.iter().map(|topic| ("/m/{x}", topic.as_str(), None, false)).collect();
        assert_eq!(targets(&routes(&many), "/m/x"), Err(RouteError::TooMany));
        assert_eq!(targets(&routes(&many[1..]), "/m/x").expect("as many as may be").expect("routed").len(), TARGETS_MAX);
    }

    #[test]
    fn the_first_exposure_that_matches_says_whose_records_a_subject_has() {
        let exposures = Exposures(vec![
            destination("/server/status2", "topic2", Some("mykey")),
            destination("/orders/{region}/{*id}", "orders-{region}", Some("{id}")),
            destination("/orders/eu/{id}", "never", None),
            destination("/same/{*key}", "same", Some("{key}")),
        ]);
        let of = |subject: &str| {
            let name = SubjectName::parse(subject, 100).expect("a subject");
            exposures.of(&name, 100).expect("it leads somewhere").map(|name| name.as_str().to_owned())
        };
        assert_eq!(of("/server/status2").as_deref(), Some("/topic2/mykey"));
        assert_eq!(of("/orders/eu/7/x").as_deref(), Some("/orders-eu/7/x"));
        assert_eq!(of("/orders/eu/7").as_deref(), Some("/orders-eu/7"));
        assert_eq!((of("/orders"), of("/same/k")), (None, None));
    }
}

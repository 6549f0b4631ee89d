//! The subjects that a token allows.

/// Entries of a token: more than anybody writes by hand, few enough to compile in a fraction of a millisecond.
const ENTRIES_MAX: usize = 1_000;

/// Bytes of an entry: as long as subjects are by default.
const PATTERN_BYTES_MAX: usize = 1_024;

/// Bytes of all entries of a token: what fits into a token of `TOKEN_BYTES_MAX`. It bounds the steps of a look-up, too.
const BYTES_MAX: usize = 16 << 10;

/// The claim `permissions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Claim {
    #[serde(rename = "sub")]
    subscribe: Vec<String>,
    #[serde(rename = "pub")]
    publish: Vec<String>,
    all: Vec<String>,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PermissionsError {
    #[error("there are more than {ENTRIES_MAX} entries")]
    TooMany,
    #[error("an entry has more than {PATTERN_BYTES_MAX} bytes, or all have more than {BYTES_MAX}")]
    TooLong,
    #[error("an entry starts with `/`, as in /topic/key")]
    NoLeadingSlash,
    #[error("an entry has no empty segment and no trailing `/`")]
    EmptySegment,
    #[error("an entry has no control characters")]
    ControlCharacter,
    #[error("the first segment of an entry is a Kafka topic, `{{name}}` or `*`")]
    BadTopic,
    #[error("`*` as a whole segment is the last one")]
    StarInside,
    #[error("the name in `{{name}}` is 1 or more of a-z A-Z 0-9 _ -")]
    BadName,
}

/// What an entry allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rights {
    subscribe: bool,
    publish: bool,
}

impl Rights {
    const SUBSCRIBE: Rights = Rights { subscribe: true, publish: false };
    const PUBLISH: Rights = Rights { subscribe: false, publish: true };
    const ALL: Rights = Rights { subscribe: true, publish: true };

    fn and(self, other: Rights) -> Rights {
        Rights { subscribe: self.subscribe || other.subscribe, publish: self.publish || other.publish }
    }
}

/// The entries of one token, compiled once: a tree of segments.
///
/// An entry is an exact subject, or has `{name}` for exactly one segment, or ends in `/*` for everything below (`/a/*` is not `/a`; `/*` is every
/// subject). The most exact of the entries that match a subject decides alone what may be done with it: from the left, a text is more exact than a
/// `{name}`, and that more than `*`. So `{"all": ["/a/*"], "sub": ["/a/b"]}` allows to publish everywhere below `/a`, but not to `/a/b`. The same
/// pattern in several lists (the names in braces do not matter) allows what they allow together. What no entry matches is not allowed.
///
/// Bytes are compared, and nothing is decoded: `..`, `.` and `%2f` are texts like any other, which only the same text matches (or a `{name}` or a `*`,
/// as for any text); capitals differ from small letters. A subject that is none (`//`, a trailing `/`, a control character) is never allowed. A
/// segment in braces is always a `{name}`, so a key that is written like one can be allowed by patterns only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    nodes: Vec<Node>,
}

/// A path of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// Ordered by text.
    texts: Vec<(Box<str>, u32)>,
    /// What follows any one segment.
    any: Option<u32>,
    /// An entry ends here.
    here: Option<Rights>,
    /// An entry ends here in `/*`.
    below: Option<Rights>,
}

impl Permissions {
    /// Allows nothing.
    pub fn none() -> Permissions {
        Permissions { nodes: vec![Node::default()] }
    }

    /// Every subject may be subscribed to.
    pub fn subscribe_all() -> Permissions {
        Permissions { nodes: vec![Node { below: Some(Rights::SUBSCRIBE), ..Node::default() }] }
    }

    /// Every subject may be subscribed and published to.
    pub fn all() -> Permissions {
        Permissions { nodes: vec![Node { below: Some(Rights::ALL), ..Node::default() }] }
    }

    /// Compiles the lists of a token: `sub`, `pub` and `all`.
    ///
    /// # Errors
    /// One bad entry spoils all: what its author meant is not known.
    pub fn compile<T: AsRef<str>>(subscribe: &[T], publish: &[T], all: &[T]) -> Result<Permissions, PermissionsError> {
        if subscribe.len() + publish.len() + all.len() > ENTRIES_MAX {
            return Err(PermissionsError::TooMany);
        }
        let mut permissions = Permissions::none();
        let mut bytes = 0;
        for (list, rights) in [(subscribe, Rights::SUBSCRIBE), (publish, Rights::PUBLISH), (all, Rights::ALL)] {
            for pattern in list.iter().map(AsRef::as_ref) {
                bytes += pattern.len();
                if pattern.len() > PATTERN_BYTES_MAX || bytes > BYTES_MAX {
                    return Err(PermissionsError::TooLong);
                }
                permissions.add(pattern, rights)?;
            }
        }
        permissions.nodes.shrink_to_fit();
        Ok(permissions)
    }

    pub(super) fn of_claim(claim: &Claim) -> Result<Permissions, PermissionsError> {
        Self::compile(&claim.subscribe, &claim.publish, &claim.all)
    }

    /// Whether the subject may be subscribed to, and its history be read.
    pub fn may_subscribe(&self, subject: &str) -> bool {
        self.rights(subject).subscribe
    }

    /// Whether the subject may be published to.
    pub fn may_publish(&self, subject: &str) -> bool {
        self.rights(subject).publish
    }

    /// Bytes of memory, the allocator's own left out.
    pub fn bytes(&self) -> usize {
        let texts = self.nodes.iter().flat_map(|node| &node.texts).map(|(text, _)| text.len()).sum::<usize>();
        let places = self.nodes.iter().map(|node| node.texts.capacity()).sum::<usize>();
        texts + places * size_of::<(Box<str>, u32)>() + self.nodes.capacity() * size_of::<Node>()
    }

    fn add(&mut self, pattern: &str, rights: Rights) -> Result<(), PermissionsError> {
        let rest = pattern.strip_prefix('/').ok_or(PermissionsError::NoLeadingSlash)?;
        if rest.chars().any(char::is_control) {
            return Err(PermissionsError::ControlCharacter);
        }
        let mut at = 0;
        let mut segments = rest.split('/').enumerate().peekable();
        while let Some((place, segment)) = segments.next() {
            if segment.is_empty() {
                return Err(PermissionsError::EmptySegment);
            }
            if segment == "*" {
                if segments.peek().is_some() {
                    return Err(PermissionsError::StarInside);
                }
                let below = &mut self.nodes[at].below;
                *below = Some(below.unwrap_or_default().and(rights));
                return Ok(());
            }
            at = if is_braced(segment) {
                if !is_name(&segment[1..segment.len() - 1]) {
                    return Err(PermissionsError::BadName);
                }
                self.any_of(at)
            } else {
                if place == 0 && !crate::subject::name::is_topic(segment) {
                    return Err(PermissionsError::BadTopic);
                }
                self.text_of(at, segment)
            };
        }
        let here = &mut self.nodes[at].here;
        *here = Some(here.unwrap_or_default().and(rights));
        Ok(())
    }

    fn any_of(&mut self, at: usize) -> usize {
        if let Some(next) = self.nodes[at].any {
            return next as usize;
        }
        let next = self.push();
        self.nodes[at].any = Some(next);
        next as usize
    }

    fn text_of(&mut self, at: usize, segment: &str) -> usize {
        match self.nodes[at].texts.binary_search_by(|(text, _)| (**text).cmp(segment)) {
            Ok(place) => self.nodes[at].texts[place].1 as usize,
            Err(place) => {
                let next = self.push();
                self.nodes[at].texts.insert(place, (Box::from(segment), next));
                next as usize
            }
        }
    }

    fn push(&mut self) -> u32 {
        self.nodes.push(Node::default());
        u32::try_from(self.nodes.len() - 1).expect("nodes are fewer than BYTES_MAX")
    }

    fn rights(&self, subject: &str) -> Rights {
        let Some(rest) = subject.strip_prefix('/') else { return Rights::default() };
        if rest.chars().any(char::is_control) || rest.split('/').any(str::is_empty) {
            return Rights::default();
        }
        self.find(0, Some(rest)).unwrap_or_default()
    }

    /// The rights of the most exact entry. Each node is looked at once at most: `BYTES_MAX` bounds it, and half of `PATTERN_BYTES_MAX` its depth.
    fn find(&self, at: u32, rest: Option<&str>) -> Option<Rights> {
        let node = &self.nodes[at as usize];
        let Some(rest) = rest else { return node.here };
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        let text = node.texts.binary_search_by(|(text, _)| (**text).cmp(segment)).ok();
        text.and_then(|place| self.find(node.texts[place].1, rest))
            .or_else(|| node.any.and_then(|next| self.find(next, rest)))
            .or(node.below)
    }
}

fn is_braced(segment: &str) -> bool {
    segment.len() >= 2 && segment.starts_with('{') && segment.ends_with('}')
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

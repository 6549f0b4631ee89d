//! The error replies of protocol.md, each with a text that tells what to do.

use std::borrow::Cow;

use super::ShardSettings;
use super::event::PublishFailure;
use crate::entitlement::Denial;
use crate::limits::TOKEN_BYTES_MAX;
use crate::session::{ErrorReply, Unfit};
use crate::subject::RouteError;

const fn error(code: u32, message: &'static str, temporary: bool) -> ErrorReply {
    ErrorReply { code, message: Cow::Borrowed(message), temporary }
}

pub const NOT_READY: ErrorReply = error(100, "not ready yet, try again", true);
pub const ALREADY_SUBSCRIBED: ErrorReply = error(105, "already subscribed", false);
pub const SUBSCRIPTION_LIMIT: ErrorReply = error(106, "too many subscriptions on this connection (subscriptions.max)", false);
pub const SUBSCRIPTIONS_FULL: ErrorReply =
    error(106, "this node has no room for more subscriptions (client.subscriptions.shard.bytes.max): try another node", false);
pub const UNKNOWN_METHOD: ErrorReply = error(104, "no such method", false);
pub const NOT_OFFERED: ErrorReply = error(108, "not offered by this server", false);
pub const UNRECOVERABLE: ErrorReply = error(112, "unrecoverable position: start again without it", false);
pub const KAFKA_UNAVAILABLE: ErrorReply = error(400, "Kafka is unavailable: nothing was written, try again", true);
pub const FATE_UNKNOWN: ErrorReply = error(401, "Kafka did not answer: the record may or may not be written", false);
pub const DENIED: ErrorReply = error(103, "Kafka denies writing to this topic", false);
pub const NOT_PUBLISHED_TO: ErrorReply = error(103, "this server lets nobody publish to this topic (publish.topics)", false);
pub const NOT_SUBSCRIBED: ErrorReply = error(107, "this connection has not subscribed to this channel", false);
pub const BAD_COMMAND: ErrorReply = error(107, "a command holds exactly one request that this server knows", false);

/// A refusal by entitlement says no more than its code.
pub fn denied(denial: &Denial) -> ErrorReply {
    match denial.code() {
        109 => error(109, "token expired", false),
        103 => error(103, "permission denied", false),
        code => error(code, "unauthorized", false),
    }
}

/// Error 108 with its reason.
pub fn not_offered(reason: &'static str) -> ErrorReply {
    error(108, reason, false)
}

/// Error 107 of a subject that is routed, or exposed, to nowhere; 103 where patterns may not lead.
pub fn misrouted(error: &RouteError) -> ErrorReply {
    match error {
        RouteError::Internal => NOT_PUBLISHED_TO,
        error => bad_request(error),
    }
}

/// Error 107 with its reason.
pub fn bad_request(reason: impl std::fmt::Display) -> ErrorReply {
    ErrorReply { code: 107, message: Cow::Owned(reason.to_string()), temporary: false }
}

/// Error 107 of a command one of whose members cannot be read.
pub fn unfit(unfit: Unfit) -> ErrorReply {
    match unfit {
        Unfit::NotText(member) => {
            bad_request(format_args!("`{member}` is not Unicode text (half a surrogate pair, or bytes that are not UTF-8)"))
        }
        Unfit::LongToken => bad_request(format_args!("`token` is longer than {TOKEN_BYTES_MAX} bytes")),
    }
}

/// Error 102, or 100 if the topic may still appear.
pub fn unknown_topic(topic: &str, settings: &ShardSettings) -> ErrorReply {
    if settings.topics_regex.as_ref().is_some_and(|regex| regex.is_match(topic)) {
        return NOT_READY;
    }
    ErrorReply { code: 102, message: Cow::Owned(format!("topic {topic} is not served here")), temporary: false }
}

/// Error 102 of a publish.
pub fn absent_topic(topic: &str, settings: &ShardSettings) -> ErrorReply {
    if settings.topics_regex.as_ref().is_some_and(|regex| regex.is_match(topic)) {
        return NOT_READY;
    }
    ErrorReply { code: 102, message: Cow::Owned(format!("topic {topic} does not exist")), temporary: false }
}

/// Error 106 of a publish.
pub fn too_large(bytes: usize, bytes_max: usize) -> ErrorReply {
    ErrorReply {
        code: 106,
        message: Cow::Owned(format!("the value has {bytes} bytes, {bytes_max} are allowed (publish.bytes.max)")),
        temporary: false,
    }
}

/// The error of a failed publish.
pub fn publish_failed(failure: PublishFailure, topic: &str) -> ErrorReply {
    match failure {
        PublishFailure::NoSuchTopic => {
            ErrorReply { code: 102, message: Cow::Owned(format!("topic {topic} does not exist")), temporary: false }
        }
        PublishFailure::TooLarge => error(106, "the record is larger than Kafka takes (message.max.bytes)", false),
        PublishFailure::Denied => DENIED,
        PublishFailure::Unavailable => KAFKA_UNAVAILABLE,
        PublishFailure::NotNow => NOT_READY,
    }
}

//! The JSON commands. A member that is `null` is as good as absent.

use std::fmt;

use bytes::Bytes;
use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Position, Request, Unfit, label, not_offered, only_request, subject_of, subscribe_data, token};

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Command<'a> {
    #[serde(deserialize_with = "or_default")]
    id: u32,
    connect: Option<Connect>,
    #[serde(borrow)]
    subscribe: Option<Subscribe<'a>>,
    unsubscribe: Option<Channel>,
    #[serde(borrow)]
    publish: Option<Publish<'a>>,
    presence: Option<Channel>,
    presence_stats: Option<Channel>,
    history: Option<History>,
    ping: Option<IgnoredAny>,
    send: Option<IgnoredAny>,
    rpc: Option<Rpc>,
    refresh: Option<Refresh>,
    sub_refresh: Option<SubRefresh>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Connect {
    token: Text,
    name: Text,
    version: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Subscribe<'a> {
    channel: Text,
    token: Text,
    #[serde(deserialize_with = "or_default")]
    recover: bool,
    epoch: Text,
    #[serde(deserialize_with = "offset")]
    offset: u64,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    flag: i64,
    tf: Option<IgnoredAny>,
    #[serde(rename = "type", deserialize_with = "or_default")]
    kind: i32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Channel {
    channel: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Publish<'a> {
    channel: Text,
    #[serde(borrow)]
    data: RawData<'a>,
    #[serde(deserialize_with = "or_default")]
    removed: bool,
    #[serde(rename = "type", deserialize_with = "or_default")]
    kind: i32,
    key: Text,
}

/// A member that should be a text; `None` if half a surrogate pair is in it, which JSON can write and Unicode has not.
struct Text(Option<String>);

impl Default for Text {
    fn default() -> Self {
        Text(Some(String::new()))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match <&'de RawValue>::deserialize(deserializer)?.get() {
            "null" => Ok(Text::default()),
            // The parser has read it as a string already: nothing else can be wrong with it.
            quoted if quoted.starts_with('"') => Ok(Text(serde_json::from_str(quoted).ok())),
            _ => Err(serde::de::Error::custom("a text is wanted")),
        }
    }
}

impl Text {
    fn named(self, member: &'static str) -> Result<String, Unfit> {
        self.0.ok_or(Unfit::NotText(member))
    }

    fn or_empty(self) -> String {
        self.0.unwrap_or_default()
    }
}

/// The raw text of a member; an absent one is empty, while `null` is the text null (an `Option` would swallow it).
#[derive(Default)]
struct RawData<'a>(&'a str);

impl<'de: 'a, 'a> Deserialize<'de> for RawData<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'de RawValue>::deserialize(deserializer).map(|raw| RawData(raw.get()))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct History {
    channel: Text,
    #[serde(deserialize_with = "limit")]
    limit: i32,
    since: Option<Since>,
    #[serde(deserialize_with = "or_default")]
    reverse: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Since {
    #[serde(deserialize_with = "offset")]
    offset: u64,
    epoch: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rpc {
    method: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refresh {
    token: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SubRefresh {
    channel: Text,
    token: Text,
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An offset that an application kept may be any number. What cannot be one is beyond the end of every log: the position is answered as lost,
/// while a malformed command would end the connection for good.
fn offset<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(u64::try_from(deserializer.deserialize_any(AnyNumber)?).unwrap_or(u64::MAX))
}

/// Any number: some write `Number.MAX_SAFE_INTEGER` for "as many as you have".
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    Ok(deserializer.deserialize_any(AnyNumber)?.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
}

/// A number without its fraction; `null` is 0.
struct AnyNumber;

impl Visitor<'_> for AnyNumber {
    type Value = i128;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number")
    }

    fn visit_u64<E>(self, number: u64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<i128, E> {
        Ok(number as i128)
    }

    fn visit_unit<E>(self) -> Result<i128, E> {
        Ok(0)
    }
}

impl Command<'_> {
    pub(super) fn into_command(self) -> super::Command {
        let mut requests = [
            self.connect.map(|connect| {
                let (name, version) = (label(connect.name.or_empty()), label(connect.version.or_empty()));
                Ok(Request::Connect(Box::new(super::ConnectCommand { token: token(connect.token.named("token")?)?, name, version })))
            }),
            self.subscribe.map(|subscribe| {
                let (snapshot, history, bad_data) = subscribe_data(subscribe.data.map_or(&[], |data| data.get().as_bytes()));
                let not_offered = not_offered(subscribe.kind, subscribe.tf.is_some());
                Ok(Request::Subscribe(Box::new(super::SubscribeCommand {
                    channel: subscribe.channel.named("channel")?,
                    token: token(subscribe.token.named("token")?)?,
                    recover: subscribe.recover,
                    position: Position::new(subscribe.offset, subscribe.epoch.named("epoch")?),
                    snapshot,
                    history,
                    flag: subscribe.flag,
                    bad_data,
                    not_offered,
                })))
            }),
            self.unsubscribe.map(|request| Ok(Request::Unsubscribe { channel: request.channel.named("channel")? })),
            self.publish.map(|publish| {
                let channel = subject_of(publish.channel.named("channel")?, publish.kind, &publish.key.named("key")?);
                let data = Bytes::copy_from_slice(publish.data.0.as_bytes());
                Ok(Request::Publish(Box::new(super::PublishCommand { channel, data, removed: publish.removed })))
            }),
            self.presence.map(|request| Ok(Request::Presence { channel: request.channel.named("channel")? })),
            self.presence_stats.map(|request| Ok(Request::PresenceStats { channel: request.channel.named("channel")? })),
            self.history.map(|history| {
                let since = match history.since {
                    Some(since) => Some(Position::new(since.offset, since.epoch.named("since.epoch")?)),
                    None => None,
                };
                let (channel, limit) = (history.channel.named("channel")?, history.limit);
                Ok(Request::History(Box::new(super::HistoryCommand { channel, limit, since, reverse: history.reverse })))
            }),
            self.ping.map(|_| Ok(Request::Pong)),
            self.send.map(|_| Ok(Request::Send)),
            self.rpc.map(|rpc| Ok(Request::Rpc { method: rpc.method.named("method")? })),
            self.refresh.map(|refresh| Ok(Request::Refresh { token: token(refresh.token.named("token")?)? })),
            self.sub_refresh.map(|refresh| {
                Ok(Request::SubRefresh { channel: refresh.channel.named("channel")?, token: token(refresh.token.named("token")?)? })
            }),
        ]
        .into_iter()
        .flatten();
        only_request(self.id, false, requests.next(), requests.next())
    }
}

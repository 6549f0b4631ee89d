//! What shards say to each other. Two directions for each ordered pair of shards: *toward home* (requests, records found elsewhere) and *from
//! home* (answers and records, in one order). One lane message is a batch: everything that one turn had to say to one shard.

use std::sync::Arc;

use bytes::Bytes;

use super::lane::Weigh;
use super::record::Record;
use crate::ids::{ConnectionKey, Generation, LocalSubjectKey, Offset, PartitionRef, Protocol, SubscriptionKey, TopicIndex, Variant};
use crate::subject::{SubjectName, TopicId};

/// Toward the home of a subject.
#[derive(Debug)]
pub enum TowardHome {
    Subscribe(Box<SubscribeRequest>),
    CatchUp(Box<CatchUpRequest>),
    History(Box<HistoryRequest>),
    /// This shard has neither a live nor a pending subscriber of that variant any more.
    /// `None`: it has no subscriber at all any more, also none that is catching up.
    Withdraw {
        topic: TopicIndex,
        subject: SubjectName,
        local: LocalSubjectKey,
        variant: Option<Variant>,
    },
    /// Records consumed on a shard that is not their home: delivered live, without an offset, unless the topic has another `life` by now (it was
    /// made again).
    Records {
        /// Where they were found.
        partition: PartitionRef,
        life: TopicId,
        records: Vec<Record>,
        /// When they came from Kafka, in microseconds of the shards' common clock.
        polled_us: u64,
    },
}

/// Where a subscription starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// From now on, with the newest `history` records in the answer (0: none; 1 is the snapshot).
    Live { history: u32 },
    /// From where the client's subscription before this one ended a moment ago, in that log; as `Live` if it cannot be had.
    Resume { partition: PartitionRef, generation: Generation, from: Offset },
    /// After the position that the client holds. `strict` asks for error 112 in place of `recovered: false`.
    Position { position: ClientPosition, strict: bool },
}

/// A position as the client sent it; may be nonsense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPosition {
    pub epoch: String,
    /// The next Kafka offset that the client needs.
    pub offset: u64,
}

impl ClientPosition {
    /// One that is in no log.
    pub fn nonsense() -> ClientPosition {
        ClientPosition { epoch: "_".to_owned(), offset: 0 }
    }
}

#[derive(Debug)]
pub struct SubscribeRequest {
    /// Version of the topic map that the sender routed with.
    pub map_version: u64,
    pub topic: TopicIndex,
    pub subject: SubjectName,
    /// What pushes name the subject by, if that is another name (`[[expose]]`).
    pub channel: Option<SubjectName>,
    pub local: LocalSubjectKey,
    pub subscription: SubscriptionKey,
    pub variant: Variant,
    pub start: Start,
    /// How long the home may hold the request: what is left of its time after it was routed again.
    pub hold_ms: u64,
    /// Bytes of publications wanted in the answer at most; the newest record is sent even if it is larger.
    pub bytes_max: usize,
}

#[derive(Debug)]
pub struct CatchUpRequest {
    pub map_version: u64,
    pub topic: TopicIndex,
    pub subject: SubjectName,
    /// As in the subscribe.
    pub channel: Option<SubjectName>,
    pub local: LocalSubjectKey,
    pub subscription: SubscriptionKey,
    pub variant: Variant,
    /// Generation of the log that `from` counts in.
    pub generation: Generation,
    /// The next Kafka offset that the subscription needs.
    pub from: Offset,
    /// Bytes of frames wanted at most; one record is sent even if it is larger.
    pub bytes_max: usize,
}

#[derive(Debug)]
pub struct HistoryRequest {
    pub map_version: u64,
    pub topic: TopicIndex,
    pub subject: SubjectName,
    pub connection: ConnectionKey,
    /// The client's command id, echoed.
    pub command: u32,
    pub protocol: Protocol,
    /// 0: position only; -1: all, up to the cap.
    pub limit: i32,
    pub since: Option<ClientPosition>,
    pub reverse: bool,
    /// Bytes of publications wanted at most; one is sent even if it is larger.
    pub bytes_max: usize,
    /// How long it may be held from now on.
    pub hold_ms: u64,
}

impl SubscribeRequest {
    /// Bytes that it keeps alive.
    pub fn weight(&self) -> usize {
        let epoch = match &self.start {
            Start::Position { position, .. } => position.epoch.capacity(),
            Start::Live { .. } | Start::Resume { .. } => 0,
        };
        size_of::<Self>() + self.subject.as_str().len() + self.channel.as_ref().map_or(0, |channel| channel.as_str().len()) + epoch
    }
}

impl HistoryRequest {
    /// Bytes that it keeps alive.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.subject.as_str().len() + self.since.as_ref().map_or(0, |since| since.epoch.capacity())
    }
}

/// From the home of a subject.
#[derive(Debug)]
pub enum FromHome {
    /// One record of one subject in one variant, for every live subscriber that this shard has of it. `offset` is `None` for a record without a
    /// position (found elsewhere, or of a live-only subject).
    Delivery {
        local: LocalSubjectKey,
        variant: Variant,
        offset: Option<Offset>,
        frame: Bytes,
    },
    Subscribed {
        local: LocalSubjectKey,
        variant: Variant,
        subscription: SubscriptionKey,
        answer: Result<Box<Subscribed>, Refusal>,
    },
    Piece(Box<Piece>),
    History {
        connection: ConnectionKey,
        command: u32,
        answer: Result<Box<HistoryPage>, Refusal>,
    },
    /// A record without a position went to the live subscribers. Who is parked or catching up would miss it without a word: those get 2500.
    Passing {
        local: LocalSubjectKey,
    },
    /// The log under the subject is another one now: every subscriber of it gets 2500, and the home has forgotten this shard's interest.
    Reset {
        local: LocalSubjectKey,
    },
}

/// Why a home refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Error 100: the partition is not ready, or the position still ahead of this node, after the hold.
    NotReady,
    /// Error 112: the position cannot be served and the client wants to know.
    Unrecoverable,
    /// The asker and the home have different topic maps: route again.
    Moved,
    /// Error 106: the home has no room for one more held request.
    Busy,
}

/// The answer to a subscribe.
#[derive(Debug)]
pub struct Subscribed {
    /// The subject's numeric channel id on this node; 0: it has none, its name is used.
    pub id: u64,
    pub epoch: Arc<str>,
    pub generation: Generation,
    pub recoverable: bool,
    /// The position for the reply (`offset` of the protocol).
    pub offset: Offset,
    /// `Some` if the client asked to recover.
    pub recovered: Option<bool>,
    /// Publications for the reply, each encoded alone in the subscription's protocol.
    pub publications: Vec<Bytes>,
    /// `None`: live from this step of the home on. `Some(from)`: catching up; ask for pieces from there.
    pub catch_up: Option<Offset>,
    /// Everything below has been read: what follows in the lane begins here.
    pub next: Offset,
}

/// A piece of a catch-up.
#[derive(Debug)]
pub struct Piece {
    pub local: LocalSubjectKey,
    pub variant: Variant,
    pub subscription: SubscriptionKey,
    /// Encoded pushes in order.
    pub frames: Vec<(Offset, Bytes)>,
    /// The next Kafka offset that the subscription needs after this piece.
    pub next: Offset,
    pub state: PieceState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceState {
    /// Ask again from `next`.
    More,
    /// With this piece, in the same step, the subscription is live.
    Live,
    /// The position can no longer be served: unsubscribe with 2500.
    Lost,
}

/// The answer to a history request.
#[derive(Debug)]
pub struct HistoryPage {
    pub epoch: Arc<str>,
    pub offset: Offset,
    pub publications: Vec<Bytes>,
}

/// One lane message: what one turn had to say to one shard.
#[derive(Debug, Default)]
pub struct TowardHomeBatch(pub Vec<TowardHome>);

/// One lane message: what one turn had to say to one shard, in order.
#[derive(Debug, Default)]
pub struct FromHomeBatch {
    pub messages: Vec<FromHome>,
    /// When the first of it was said, in microseconds of the shards' common clock.
    pub said_us: u64,
}

impl TowardHome {
    /// Bytes that the message keeps alive.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                TowardHome::Subscribe(request) => request.weight(),
                TowardHome::CatchUp(request) => {
                    let channel = request.channel.as_ref().map_or(0, |channel| channel.as_str().len());
                    size_of::<CatchUpRequest>() + request.subject.as_str().len() + channel
                }
                TowardHome::History(request) => request.weight(),
                TowardHome::Withdraw { subject, .. } => subject.as_str().len(),
                TowardHome::Records { records, .. } => records.iter().map(Record::weight).sum(),
            }
    }
}

impl FromHome {
    /// Bytes that the message keeps alive. A frame shared by several shards is counted for each.
    pub fn weight(&self) -> usize {
        let publications = |list: &[Bytes]| list.iter().map(|bytes| bytes.len() + size_of::<Bytes>()).sum::<usize>();
        size_of::<Self>()
            + match self {
                FromHome::Delivery { frame, .. } => frame.len(),
                FromHome::Subscribed { answer, .. } => {
                    answer.as_ref().map_or(0, |answer| size_of::<Subscribed>() + publications(&answer.publications))
                }
                FromHome::Piece(piece) => {
                    size_of::<Piece>() + piece.frames.iter().map(|(_, frame)| frame.len() + size_of::<(Offset, Bytes)>()).sum::<usize>()
                }
                FromHome::History { answer, .. } => {
                    answer.as_ref().map_or(0, |page| size_of::<HistoryPage>() + publications(&page.publications))
                }
                FromHome::Passing { .. } | FromHome::Reset { .. } => 0,
            }
    }
}

impl Weigh for TowardHomeBatch {
    fn weight(&self) -> usize {
        self.0.iter().map(TowardHome::weight).sum()
    }
}

impl Weigh for FromHomeBatch {
    fn weight(&self) -> usize {
        self.messages.iter().map(FromHome::weight).sum()
    }
}

//! Ways to break the router on purpose. An oracle that does not notice each of them proves nothing.

use crate::handoff::{FromHome, FromHomeBatch, TowardHome, TowardHomeBatch};

/// Where a record goes wrong on its way from a home to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A live record, between two shards.
    Delivery,
    /// The publications in the answer to a subscribe.
    Answer,
    /// A piece of a catch-up.
    Piece,
    /// The word that a record without a position went by those who are parked: lost.
    Passing,
    /// The word that the log under a subject is another one: lost.
    Reset,
    /// `recovered: false` becomes `recovered: true`.
    Recovered,
    /// A subscription that has to catch up is granted as live.
    Grant,
    /// The word to a home that nobody here wants a subject any more: lost.
    Withdraw,
    /// In place of a record comes the word that the log under its subject is another one: everybody is sent away.
    Kick,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Drop,
    Double,
    /// It changes places with the next one of its subject.
    Reorder,
}

/// One way in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sabotage {
    pub place: Place,
    pub way: Way,
}

impl Place {
    /// Where records go, which can be spoiled in any way.
    pub const RECORDS: [Place; 3] = [Place::Delivery, Place::Answer, Place::Piece];
    /// Words that can be wrong in one way only; their `Way` says nothing.
    pub const WORDS: [Place; 6] = [Place::Passing, Place::Reset, Place::Recovered, Place::Grant, Place::Withdraw, Place::Kick];
}

impl Way {
    pub const ALL: [Way; 3] = [Way::Drop, Way::Double, Way::Reorder];

    /// Does it to the entries of a list at `place` and `next`; `false`: there is no second one to change places with.
    fn strike<T>(self, list: &mut Vec<T>, place: usize, next: Option<usize>, copy: impl Fn(&T) -> T) -> bool {
        match (self, next) {
            (Way::Drop, _) => {
                list.remove(place);
            }
            (Way::Double, _) => {
                let again = copy(&list[place]);
                list.insert(place, again);
            }
            (Way::Reorder, Some(next)) => list.swap(place, next),
            (Way::Reorder, None) => return false,
        }
        true
    }
}

impl Sabotage {
    /// Whether it strikes more than once: most words say nothing that matters.
    pub fn goes_on(self) -> bool {
        Place::WORDS.contains(&self.place)
    }

    /// Spoils the first record in a batch that it can; `false`: there was none.
    pub fn strike(self, batch: &mut FromHomeBatch) -> bool {
        match self.place {
            Place::Delivery => self.strike_delivery(&mut batch.messages),
            Place::Answer => batch.messages.iter_mut().any(|message| match message {
                FromHome::Subscribed { answer: Ok(answer), .. } => {
                    let second = (answer.publications.len() > 1).then_some(1);
                    !answer.publications.is_empty() && self.way.strike(&mut answer.publications, 0, second, Clone::clone)
                }
                _ => false,
            }),
            Place::Passing => lose(&mut batch.messages, |message| matches!(message, FromHome::Passing { .. })),
            Place::Reset => lose(&mut batch.messages, |message| matches!(message, FromHome::Reset { .. })),
            Place::Recovered => batch.messages.iter_mut().any(|message| match message {
                FromHome::Subscribed { answer: Ok(answer), .. } if answer.recovered == Some(false) => {
                    answer.recovered = Some(true);
                    true
                }
                _ => false,
            }),
            Place::Grant => batch.messages.iter_mut().any(|message| match message {
                FromHome::Subscribed { answer: Ok(answer), .. } => answer.catch_up.take().is_some(),
                _ => false,
            }),
            Place::Withdraw => false,
            Place::Kick => batch.messages.iter_mut().any(|message| match message {
                FromHome::Delivery { local, .. } => {
                    *message = FromHome::Reset { local: *local };
                    true
                }
                _ => false,
            }),
            Place::Piece => batch.messages.iter_mut().any(|message| match message {
                FromHome::Piece(piece) => {
                    let second = (piece.frames.len() > 1).then_some(1);
                    !piece.frames.is_empty() && self.way.strike(&mut piece.frames, 0, second, Clone::clone)
                }
                _ => false,
            }),
        }
    }

    /// The same on the way to a home.
    pub fn strike_toward_home(self, batch: &mut TowardHomeBatch) -> bool {
        self.place == Place::Withdraw && lose(&mut batch.0, |message| matches!(message, TowardHome::Withdraw { .. }))
    }

    fn strike_delivery(self, messages: &mut Vec<FromHome>) -> bool {
        let subject = |message: &FromHome| match message {
            FromHome::Delivery { local, variant, offset: Some(_), .. } => Some((*local, *variant)),
            _ => None,
        };
        let Some(place) = messages.iter().position(|message| subject(message).is_some()) else {
            return false;
        };
        let next = messages[place + 1..].iter().position(|message| subject(message) == subject(&messages[place]));
        self.way.strike(messages, place, next.map(|next| place + 1 + next), |message| match message {
            FromHome::Delivery { local, variant, offset, frame } => {
                FromHome::Delivery { local: *local, variant: *variant, offset: *offset, frame: frame.clone() }
            }
            _ => unreachable!("the place is a delivery's"),
        })
    }
}

/// Loses the first message of a kind.
fn lose<T>(messages: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> bool {
    let count = messages.len();
    messages.retain(|message| !is_it(message));
    messages.len() < count
}

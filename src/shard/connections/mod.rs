//! The room of the connections: sessions, who is let in, outboxes, commands that wait, publishes, timers.
//!
//! It knows no subject and no subscription but as a tag of what it has queued. Whoever subscribes for a client asks it to queue, to reply, to keep
//! room free; what happens to a connection it notes for the others to take: `next_ended`, `next_roomy`,
//! `next_look`.

mod admission;
mod crowd;
mod entry;
mod holding;
mod publish;
mod publishes;
mod room;
mod routed;
mod session;
mod timers;
mod waiting;
mod writing;

pub use session::disconnect;

pub(super) use entry::Look;
pub(super) use room::{Connections, Delivered};
pub(super) use session::{Held, Phase};
pub(super) use waiting::{Taken, Wait};

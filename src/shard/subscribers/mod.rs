//! The room of the subscribers: the subjects that connections of this shard want, their subscriptions, and the cursor of each.
//!
//! It takes [`FromHome`](crate::handoff::FromHome) and what clients ask, says [`TowardHome`](crate::handoff::TowardHome), and hands frames to the room of
//! the connections. What it knows of a connection is which subscriptions are its.
//!
//! The cursor: a subscription is live, or it needs everything from an offset on. Parked, it waits for its connection's turn to catch up; catching up, one
//! piece is under way from the home. With the last piece it is live in the same step, so nothing is lost or doubled at the seam.

mod commands;
mod cursor;
mod grants;
mod left;
mod own;
mod room;
mod table;
mod tokens;

pub(super) use room::Subscribers;

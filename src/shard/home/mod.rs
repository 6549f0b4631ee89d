//! The room of the home: the partitions and subjects that live on this shard, their records, and the requests of subscribers' shards.
//!
//! It takes records, maps and [`TowardHome`](crate::handoff::TowardHome), and says [`FromHome`](crate::handoff::FromHome). It knows shards, no
//! connection and no subscription but as a key to answer to.

mod answers;
mod held;
mod maps;
mod misfits;
mod records;
mod room;
mod strays;
mod table;

pub(super) use room::{Home, Speech};

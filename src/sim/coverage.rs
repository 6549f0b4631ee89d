//! What a run of the simulator has reached. A simulator that never reaches a state proves nothing about it.

use std::collections::BTreeMap;

/// How many seeds reached each state.
#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Notes a state.
    pub fn note(&mut self, state: &'static str) {
        *self.0.entry(state).or_default() += 1;
    }

    /// Notes a state that a counter tells of.
    pub fn note_if(&mut self, reached: bool, state: &'static str) {
        if reached {
            self.note(state);
        }
    }

    /// How often.
    pub fn of(&self, state: &str) -> u64 {
        self.0.get(state).copied().unwrap_or(0)
    }

    /// All states, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(state, count)| (*state, *count))
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Coverage) {
        for (state, count) in other.iter() {
            *self.0.entry(state).or_default() += count;
        }
    }
}

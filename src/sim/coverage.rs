//! What a run of the simulator has reached. A simulator that never reaches a state proves nothing about it.

use std::collections::BTreeMap;

use hashbrown::HashMap;

/// How many seeds reached each state. By where its name stands, for states are noted all the time: a name may stand at several places.
#[derive(Clone, Debug, Default)]
pub struct Coverage(HashMap<(usize, usize), (&'static str, u64)>);

fn place_of(state: &'static str) -> (usize, usize) {
    (state.as_ptr() as usize, state.len())
}

impl Coverage {
    /// Notes a state.
    pub fn note(&mut self, state: &'static str) {
        self.0.entry(place_of(state)).or_insert((state, 0)).1 += 1;
    }

    /// Notes a state that a counter tells of.
    pub fn note_if(&mut self, reached: bool, state: &'static str) {
        if reached {
            self.note(state);
        }
    }

    /// How often.
    pub fn of(&self, state: &str) -> u64 {
        self.0.values().filter(|(name, _)| *name == state).map(|(_, count)| count).sum()
    }

    /// All states, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let mut states: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (state, count) in self.0.values() {
            *states.entry(state).or_default() += count;
        }
        states.into_iter()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Coverage) {
        for (place, (state, count)) in &other.0 {
            self.0.entry(*place).or_insert((state, 0)).1 += count;
        }
    }
}

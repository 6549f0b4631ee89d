//! A queue in pieces: it grows without moving what is in it, and is swept a piece at a time.

use std::collections::VecDeque;

/// Entries of a piece: 64 KiB of two words each. Also what a sweep looks at in one go.
const PIECE: usize = 1 << 12;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// Only the first and the last may be empty.
    pieces: VecDeque<VecDeque<T>>,
    len: usize,
    /// The piece that is swept next.
    swept: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line { pieces: VecDeque::new(), len: 0, swept: 0 }
    }
}

impl<T> Line<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn front(&self) -> Option<&T> {
        self.pieces.front().and_then(VecDeque::front)
    }

    pub fn push_back(&mut self, entry: T) {
        if self.pieces.back().is_none_or(|piece| piece.len() >= PIECE) {
            self.pieces.push_back(VecDeque::with_capacity(if self.pieces.is_empty() { 0 } else { PIECE }));
        }
        if let Some(piece) = self.pieces.back_mut() {
            piece.push_back(entry);
            self.len += 1;
        }
    }

    pub fn push_front(&mut self, entry: T) {
        match self.pieces.front_mut() {
            Some(piece) => {
                piece.push_front(entry);
                self.len += 1;
            }
            None => self.push_back(entry),
        }
    }

    pub fn pop_front(&mut self) -> Option<T> {
        let first = self.pieces.front_mut()?.pop_front()?;
        self.len -= 1;
        if self.pieces.front().is_some_and(VecDeque::is_empty) {
            self.pieces.pop_front();
            self.swept = self.swept.saturating_sub(1);
        }
        Some(first)
    }

    /// Keeps of the next piece what is to be kept.
    pub fn sweep(&mut self, keep: impl FnMut(&T) -> bool) {
        if self.swept >= self.pieces.len() {
            self.swept = 0;
        }
        let Some(piece) = self.pieces.get_mut(self.swept) else { return };
        let before = piece.len();
        piece.retain(keep);
        self.len -= before - piece.len();
        if piece.is_empty() {
            self.pieces.remove(self.swept);
        } else {
            if piece.len() < before / 2 {
                piece.shrink_to_fit();
            }
            self.swept += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_is_a_queue(steps in prop::collection::vec((0u8..8, 1usize..3_000), 1..60)) {
            let (mut line, mut plain, mut next) = (Line::default(), VecDeque::new(), 0_u32);
            for (step, count) in steps {
                match step {
                    0..=3 => for _ in 0..count {
                        line.push_back(next);
                        plain.push_back(next);
                        next += 1;
                    },
                    4 => for _ in 0..count {
                        prop_assert_eq!(line.pop_front(), plain.pop_front());
                    },
                    5 => {
                        line.push_front(next);
                        plain.push_front(next);
                        next += 1;
                    }
                    _ => {
                        // Every piece once, and perhaps one twice.
                        let keep = |entry: &u32| !entry.is_multiple_of(3);
                        for _ in 0..=line.pieces.len() {
                            line.sweep(keep);
                        }
                        plain.retain(keep);
                    }
                }
                prop_assert_eq!((line.len(), line.front()), (plain.len(), plain.front()));
            }
            while let Some(entry) = plain.pop_front() {
                prop_assert_eq!(line.pop_front(), Some(entry));
            }
            prop_assert_eq!((line.pop_front(), line.len()), (None, 0));
        }
    }
}

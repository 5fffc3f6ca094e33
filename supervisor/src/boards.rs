//! The scoreboards of an heir: its own, and that of the program before, when their layouts differ.
//!
//! Chosen by `takeover`, then held by `process`. A program that counts other things (another layout) makes a
//! scoreboard of its own, in which the children of the program before are *guests*: they go on counting where
//! they did. The program before gets its scoreboard back if it has to come back, with whatever was counted in
//! it meanwhile. Writes nothing; knows no policy.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use crate::config::CellLayout;
use crate::heritage::ChildLeft;
use crate::scoreboard::Scoreboard;

/// Where a child says how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// In its cell.
    Here,
    /// In this one of the scoreboard of before.
    Before(usize),
    /// In one that is gone: it is taken to live until it leaves.
    Unread,
}

/// The scoreboards of an heir.
pub(crate) struct Boards {
    pub(crate) ours: Scoreboard,
    /// Of another layout.
    pub(crate) before: Option<Scoreboard>,
    found: Found,
}

/// Where an heir has its own scoreboard from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It is that of the program before.
    Left,
    /// It was ours already, before an upgrade that has failed.
    Kept,
    /// It is new.
    Made,
}

impl Boards {
    /// Of what was left: our own, or one of our layout, or a new one beside the other.
    pub(crate) fn of(
        left: OwnedFd,
        left_before: Option<OwnedFd>,
        layout: CellLayout,
    ) -> io::Result<Self> {
        let left = File::from(left);
        if let Ok(ours) = Scoreboard::adopt(left.try_clone()?, layout) {
            return Ok(Self { ours, before: None, found: Found::Left });
        }
        let before = Some(Scoreboard::adopt_foreign(left)?);
        let kept = left_before.and_then(|kept| Scoreboard::adopt(File::from(kept), layout).ok());
        Ok(match kept {
            Some(ours) => Self { ours, before, found: Found::Kept },
            None => Self { ours: Scoreboard::new(layout)?, before, found: Found::Made },
        })
    }

    /// Whether what the application counts begins at zero.
    pub(crate) fn begin_at_zero(&self) -> bool {
        self.found == Found::Made
    }

    /// A child's cell in ours, and where it counts.
    pub(crate) fn place_of(&self, left: &ChildLeft) -> (Option<usize>, Counts) {
        let counted = left.cell.filter(|_| !left.is_guest);
        match (self.found, left.cell_before) {
            (Found::Left, _) => (left.cell, counted.map_or(Counts::Unread, |_| Counts::Here)),
            (Found::Kept, Some(cell)) => (Some(cell), Counts::Here),
            (Found::Kept | Found::Made, _) => {
                (None, counted.map_or(Counts::Unread, Counts::Before))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counts::{Before, Here, Unread};
    use super::*;
    use crate::config::Told;

    fn layout(id: u64) -> CellLayout {
        CellLayout { id, counters: 2, gauges: 1, told: Told::default() }
    }

    fn left(cell: Option<usize>, is_guest: bool, cell_before: Option<usize>) -> ChildLeft {
        ChildLeft { id: 1, pid: 1, channel: 9, cell, is_guest, cell_before }
    }

    #[test]
    fn an_heir_goes_on_with_a_scoreboard_of_its_own_layout_if_there_is_one() {
        let fd = |board: &Scoreboard| OwnedFd::from(board.file().try_clone().unwrap());
        let (old, new) = (Scoreboard::new(layout(1)).unwrap(), Scoreboard::new(layout(2)).unwrap());
        let found = |left, before, id| {
            let boards = Boards::of(left, before, layout(id)).unwrap();
            (boards.found, boards.before.is_some())
        };
        assert_eq!(found(fd(&old), None, 1), (Found::Left, false));
        assert_eq!(found(fd(&old), None, 2), (Found::Made, true));
        assert_eq!(found(fd(&new), Some(fd(&old)), 1), (Found::Kept, true));
        assert_eq!(found(fd(&new), Some(fd(&old)), 3), (Found::Made, true));
        let boards = |found| Boards {
            ours: Scoreboard::new(layout(1)).unwrap(),
            before: Some(Scoreboard::new(layout(2)).unwrap()),
            found,
        };
        for (found, left, place) in [
            (Found::Left, left(Some(4), false, None), (Some(4), Here)),
            (Found::Left, left(Some(4), true, Some(7)), (Some(4), Unread)),
            (Found::Kept, left(Some(4), true, Some(7)), (Some(7), Here)),
            (Found::Kept, left(Some(4), false, None), (None, Before(4))),
            (Found::Made, left(Some(4), false, None), (None, Before(4))),
            (Found::Made, left(Some(4), true, None), (None, Unread)),
            (Found::Made, left(None, false, None), (None, Unread)),
        ] {
            assert_eq!(boards(found).place_of(&left), place, "{found:?} {left:?}");
        }
    }
}

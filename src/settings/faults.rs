//! Faults: how the real program is made to misbehave, for tests and nothing else.
//!
//! `PEACE_FAULTS` gives them; `rules` refuses them in production. Parsing is strict: a misspelt
//! fault that quietly does nothing would let a test prove nothing.

use super::value::{Wrong, switch};

/// How to write one that is accepted.
pub(super) const MEND: &str = "give 1, off, or a list such as 1,boot-exit:2 (slots 0 to 255)";

const SLOT_MAX: usize = 255;

/// What goes wrong on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// Whether the API has the routes under `/debug`.
    pub routes: bool,
    /// The slots whose workers exit while they boot.
    pub boot_exit_slots: Vec<usize>,
}

impl Faults {
    /// Reads a list of faults; `None` when the text turns them off.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, Wrong> {
        if switch(text) == Some(false) {
            return Ok(None);
        }
        let mut faults = Self::default();
        for fault in text.split(',') {
            faults.add(fault.trim()).ok_or_else(|| Wrong::new("not a list of faults", MEND))?;
        }
        Ok(Some(faults))
    }

    fn add(&mut self, fault: &str) -> Option<()> {
        if switch(fault) == Some(true) {
            self.routes = true;
            return Some(());
        }
        let slot: usize = fault.strip_prefix("boot-exit:")?.parse().ok()?;
        self.boot_exit_slots.push(slot);
        (slot <= SLOT_MAX).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_a_strict_list() {
        let both = Faults { routes: true, boot_exit_slots: vec![2, 0] };
        let boot = Faults { routes: false, boot_exit_slots: vec![2] };
        let routes = Faults { routes: true, boot_exit_slots: vec![] };
        for (text, means) in [
            ("1", Some(routes.clone())),
            ("on", Some(routes)),
            ("boot-exit:2", Some(boot)),
            ("1,boot-exit:2, boot-exit:0", Some(both)),
            ("0", None),
            ("off", None),
        ] {
            assert_eq!(Faults::parse(text), Ok(means), "{text}");
        }
        for text in ["", "2", "1,", "1,off", "boot-exit", "boot-exit:", "boot-exit:256", "panic"] {
            assert!(Faults::parse(text).is_err(), "{text}");
        }
    }
}

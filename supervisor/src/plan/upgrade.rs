//! Upgrade: another program takes this one's place, in the same process. Called by [`super::plan`].
//!
//! A *pre-flight* comes first: the new program runs as a child, on a copy of all that it would take over,
//! and says its version. Then the loop becomes it ([`Upgrade::HandOver`]), and it replaces the workers as a
//! reload does. The old program is gone for good when all of them are replaced; until then a failure brings
//! it back ([`Upgrade::HandBack`]), after a pre-flight of its own: the settings may have changed meanwhile.
//! It replaces those that the new one had forked already. Services that the old program does not know are
//! started when it is gone for good.

use super::scale::PAUSED;
use super::{Action, Turn};
use crate::config::ProgramKind;
use crate::journal::Event;
use crate::state::{Child, ChildId, Exit, Goal, Life, Phase, Role, Upgrade};

/// Time the pre-flight has.
const PREFLIGHT_MS: u64 = 5_000;
/// What an upgrade is told that comes during another one.
pub(super) const UNDER_WAY: &str = "an upgrade is under way: wait for its end";
pub(super) const STOPPING: &str = "the supervisor is stopping";

impl Turn<'_> {
    /// One at a time; one that cannot begin now is remembered. An error says why there will be none.
    pub(super) fn ask_upgrade(&mut self) -> Result<(), &'static str> {
        match self.state.phase {
            Phase::Delay { .. } | Phase::Stop { .. } | Phase::Over(_) => Err(STOPPING),
            _ if self.state.upgrade.is_some() => Err(UNDER_WAY),
            _ if self.state.paused => Err(PAUSED),
            Phase::Serve if self.may_upgrade() => {
                self.begin_upgrade();
                Ok(())
            }
            _ => {
                self.state.upgrade_again = true;
                Ok(())
            }
        }
    }

    /// Nobody is being replaced, and every socket that there is stays: a pre-flight looks at all of them.
    fn may_upgrade(&self) -> bool {
        self.state.is_settled() && self.state.closing_slots().next().is_none()
    }

    pub(super) fn begin_upgrade_that_waits(&mut self) {
        if self.state.upgrade_again && self.state.phase == Phase::Serve && self.may_upgrade() {
            self.begin_what_waits();
        }
    }

    fn begin_upgrade(&mut self) {
        self.state.upgrades += 1;
        let child = self.spawn(Role::PreFlight, PREFLIGHT_MS);
        self.state.upgrade = Some(Upgrade::PreFlight { child });
    }

    pub(super) fn note_passed(&mut self, id: ChildId, version: String) {
        if let Some(child) = self.state.children.get_mut(&id) {
            child.passed = Some(version);
        }
    }

    pub(super) fn note_preflight_end(&mut self, id: ChildId, child: &Child, exit: Exit) {
        let passed = child.passed.clone().filter(|_| exit == Exit::Code(0));
        match (self.state.upgrade.take(), passed) {
            (Some(Upgrade::PreFlight { child: waited }), Some(version)) if waited == id => {
                self.record(Event::Upgrading { version: version.clone() });
                self.state.upgrade = Some(Upgrade::HandOver { version });
            }
            (Some(Upgrade::PreFlight { child: waited }), None) if waited == id => {
                self.fail_upgrade(why_not("new", child, exit));
            }
            (Some(Upgrade::WayBack { child: waited, reason, old_round }), passed)
                if waited == id =>
            {
                match passed {
                    Some(_) => {
                        self.state.upgrade = Some(Upgrade::HandBack { reason, old_round });
                    }
                    None => self.fail_to_return(&reason, &why_not("old", child, exit)),
                }
            }
            (other, _) => self.state.upgrade = other,
        }
    }

    /// This program runs from now on, on what another one has left; a number of workers is what its
    /// settings want, where that is new.
    pub(super) fn note_took_over(&mut self, workers: Option<usize>) {
        let old_round = self.state.round;
        let next = match self.state.upgrade.take() {
            Some(Upgrade::HandOver { version }) => {
                self.state.next_target = workers;
                Upgrade::Trial { version, old_round }
            }
            Some(Upgrade::HandBack { reason, old_round }) => {
                // Those that it had forked itself are its own again.
                let round = self.state.round + 1;
                let own = self.state.children.values_mut().filter(|one| one.round == old_round);
                own.for_each(|child| child.round = round);
                Upgrade::Undone { reason }
            }
            other => return self.state.upgrade = other,
        };
        self.state.upgrade = Some(next);
        self.state.round += 1;
        self.record(Event::Rolling);
        self.roll_slot(0);
    }

    /// The loop could not become the other program, or that one has given up at once.
    pub(super) fn note_stayed_on(&mut self, why: String) {
        match self.state.upgrade.take() {
            Some(Upgrade::HandOver { .. }) => self.fail_upgrade(why),
            Some(Upgrade::HandBack { reason, .. }) => self.fail_to_return(&reason, &why),
            other => self.state.upgrade = other,
        }
    }

    fn fail_to_return(&mut self, reason: &str, why: &str) {
        self.actions.push(Action::Commit);
        self.begin_new_services();
        self.fail_upgrade(format!("{reason}; nor can the old program come back: {why}"));
    }

    /// The roll of an upgrade has ended. Whether it was one, and has said all there is to say.
    pub(super) fn note_upgrade_rolled(&mut self, result: &Result<(), String>) -> bool {
        if let Some(Upgrade::Trial { .. }) = self.state.upgrade {
            self.state.last_reload = Some(result.clone());
        }
        match (self.state.upgrade.take(), result) {
            (Some(Upgrade::Trial { old_round, .. }), Err(reason)) if !self.state.paused => {
                let reason = reason.clone();
                let child = self.spawn(Role::PreFlight, PREFLIGHT_MS);
                self.state.upgrade = Some(Upgrade::WayBack { child, reason, old_round });
            }
            (Some(Upgrade::Trial { version, .. }), _) => {
                self.actions.push(Action::Commit);
                self.begin_new_services();
                self.record(Event::Upgraded { version });
                self.answer_upgrade(&Ok(()));
            }
            (Some(Upgrade::Undone { reason }), _) => self.fail_upgrade(reason),
            (other, _) => {
                self.state.upgrade = other;
                return false;
            }
        }
        true
    }

    /// Those that the program before did not have.
    fn begin_new_services(&mut self) {
        for (program, spec) in self.state.programs.iter().enumerate() {
            let is_service = matches!(spec.kind, ProgramKind::Service { .. });
            if is_service && self.state.program_child(program).is_none() {
                self.state.services[program].restart_at_ms.get_or_insert(self.now_ms);
            }
        }
    }

    /// What serves, serves on.
    fn fail_upgrade(&mut self, reason: String) {
        self.state.upgrade = None;
        self.record(Event::UpgradeFailed { reason: reason.clone() });
        self.answer_upgrade(&Err(reason));
        self.begin_what_waits();
    }

    fn answer_upgrade(&mut self, result: &Result<(), String>) {
        let ended = self.state.upgrades;
        self.answer_waiting(|goal| match goal {
            Goal::Upgrade(number) if *number <= ended => Some(result.clone()),
            _ => None,
        });
    }

    /// Something else comes first: a stop, or a pause. A pre-flight has nothing to report any more.
    pub(super) fn drop_upgrade(&mut self) {
        self.state.upgrade_again = false;
        match self.state.upgrade.take() {
            Some(Upgrade::PreFlight { child } | Upgrade::WayBack { child, .. })
                if self.state.children.contains_key(&child) =>
            {
                self.kill(child);
            }
            _ => {}
        }
    }
}

fn why_not(which: &str, child: &Child, exit: Exit) -> String {
    match (&child.boot_failure, child.life) {
        (Some((_, text)), _) => text.clone(),
        (None, Life::Killed { .. }) => {
            format!("the {which} program did not report within {} s", PREFLIGHT_MS / 1_000)
        }
        (None, _) => {
            format!("the {which} program ended with {exit}, and did not say that it could")
        }
    }
}

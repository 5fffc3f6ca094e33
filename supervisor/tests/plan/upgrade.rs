//! Upgrades as the policy sees them: the loop becomes another program, or cannot.

use supervisor::plan::{Action, Ask, Observation, Signal};
use supervisor::state::{Attempts, ChildId, Phase, Upgrade};
use supervisor::{Event, Exit, Message, Reload, Role};

use super::{World, service, specs};

const VERSION: &str = "2.0.0";

impl World {
    /// The child that is the pre-flight.
    fn preflight(&self) -> ChildId {
        match self.state.upgrade {
            Some(Upgrade::PreFlight { child }) => child,
            ref other => panic!("no pre-flight, but {other:?}"),
        }
    }

    /// Asked to upgrade by a client who waits, and the new program says that it could.
    fn passes(&mut self) {
        self.see(Observation::Asked(7, Ask::Upgrade { wait: true }));
        let id = self.preflight();
        self.see(Observation::Message(id, Message::Passed { version: VERSION.into() }));
        self.dies(id, Exit::Code(0));
        assert!(self.state.hands_over(), "{:?}", self.state.upgrade);
    }

    /// The old program says that it could take over again.
    fn may_return(&mut self) {
        let Some(Upgrade::WayBack { child, .. }) = self.state.upgrade else {
            panic!("no way back, but {:?}", self.state.upgrade)
        };
        self.see(Observation::Message(child, Message::Passed { version: "1.0.0".into() }));
        self.dies(child, Exit::Code(0));
        assert!(self.state.hands_over(), "{:?}", self.state.upgrade);
    }

    fn fails_for(&mut self, reason: &str) {
        let took = self.took();
        let event = Event::UpgradeFailed { reason: reason.to_owned() };
        assert!(took.contains(&Action::Record(event)), "{took:?}");
        assert!(took.contains(&Action::Answer(7, Err(reason.to_owned()))), "{took:?}");
        assert_eq!(self.state.upgrade, None);
    }
}

#[test]
fn whoever_serves_may_serve_on_but_not_what_an_upgrade_has_left() {
    let mut world = World::serving(2);
    let old = world.worker(0);
    let of = |slot| Role::Worker { slot, generation: 9 };
    assert!(world.state.is_served_by_another(of(1)));
    assert!(!world.state.is_served_by_another(of(2)), "one more worker");
    assert!(!world.state.is_served_by_another(Role::Step { program: 0 }));
    world.passes();
    world.see(Observation::TookOver(None));
    assert!(world.state.is_served_by_another(of(0)), "the old program's worker serves");
    world.see(Observation::Message(world.worker(0), Message::Ready));
    world.dies(old, Exit::Code(0));
    let failed = world.worker(1);
    let reason = Message::BootFailed { code: 71, text: "the database is away".into() };
    world.see(Observation::Message(failed, reason));
    world.dies(failed, Exit::Code(71));
    world.may_return();
    world.see(Observation::TookOver(None));
    assert!(matches!(world.state.upgrade, Some(Upgrade::Undone { .. })));
    assert!(!world.state.is_served_by_another(of(0)), "the new program's worker has to go");
}

#[test]
fn a_new_program_replaces_every_worker_and_then_there_is_no_way_back() {
    let mut world = World::serving(2);
    world.passes();
    world.took();
    world.see(Observation::TookOver(None));
    assert_eq!(world.spawned(), [Role::Worker { slot: 0, generation: 2 }]);
    world.rolls();
    let took = world.took();
    let upgraded = Action::Record(Event::Upgraded { version: VERSION.into() });
    assert!(took.contains(&Action::Commit) && took.contains(&upgraded), "{took:?}");
    assert!(took.contains(&Action::Answer(7, Ok(()))), "{took:?}");
    assert!(world.state.is_settled() && !world.state.hands_over());
}

#[test]
fn a_program_that_cannot_take_over_is_not_run() {
    let say = |text: &str| Message::BootFailed { code: 64, text: text.into() };
    for (message, exit, reason) in [
        (Some(say("bind has changed")), Exit::Code(64), "bind has changed"),
        (
            None,
            Exit::Code(1),
            "the new program ended with exit code 1, and did not say that it could",
        ),
        (
            None,
            Exit::Code(0),
            "the new program ended with exit code 0, and did not say that it could",
        ),
        (
            None,
            Exit::Signal(11),
            "the new program ended with signal 11, and did not say that it could",
        ),
    ] {
        let mut world = World::serving(2);
        world.see(Observation::Asked(7, Ask::Upgrade { wait: true }));
        let id = world.preflight();
        message.into_iter().for_each(|message| world.see(Observation::Message(id, message)));
        world.dies(id, exit);
        world.fails_for(reason);
    }
}

#[test]
fn a_preflight_has_five_seconds() {
    let mut world = World::serving(2);
    world.see(Observation::Asked(7, Ask::Upgrade { wait: true }));
    let id = world.preflight();
    world.after(4_999);
    assert!(!world.took().contains(&Action::Kill(id)));
    world.after(1);
    assert!(world.took().contains(&Action::Kill(id)));
    // What it said before counts for nothing.
    world.see(Observation::Message(id, Message::Passed { version: VERSION.into() }));
    world.dies(id, Exit::Signal(9));
    world.fails_for("the new program did not report within 5 s");
}

#[test]
fn an_exec_that_is_refused_leaves_everything_as_it_was() {
    let mut world = World::serving(2);
    world.passes();
    let workers = world.ids();
    world.took();
    world.see(Observation::StayedOn("cannot run it".into()));
    world.fails_for("cannot run it");
    assert_eq!(world.ids(), workers);
}

#[test]
fn new_workers_that_fail_bring_the_old_program_back_and_its_workers() {
    let mut world = World::serving(3);
    let old = world.ids();
    world.passes();
    world.see(Observation::TookOver(Some(5)));
    // The first is replaced, the second cannot boot.
    let first = world.worker(0);
    world.see(Observation::Message(first, Message::Ready));
    world.dies(old[0], Exit::Code(0));
    let second = world.worker(1);
    world.took();
    world.see(Observation::Message(second, Message::BootFailed { code: 64, text: "no".into() }));
    world.dies(second, Exit::Code(64));
    assert!(world.took().contains(&Action::Reload(Reload::Undo)));
    world.may_return();

    world.see(Observation::TookOver(None));
    assert_eq!(world.spawned(), [Role::Worker { slot: 0, generation: 3 }], "of the new one's");
    world.rolls();
    let rolled = Action::Record(Event::Rolled);
    assert!(!world.done.contains(&rolled), "what failed is not told as done");
    world.fails_for("no");
    assert_eq!(world.state.last_reload, Some(Err("no".to_owned())));
    assert_eq!(world.state.target, 3, "what the new settings wanted is not done");
    assert_eq!((world.worker(1), world.worker(2)), (old[1], old[2]), "its own served on");
    // And it can be tried again: all are of one round.
    world.passes();
    world.see(Observation::TookOver(None));
    world.rolls();
    assert!(world.took().contains(&Action::Commit));
    assert!(old.iter().all(|id| !world.ids().contains(id)));
}

#[test]
fn an_old_program_that_could_not_run_is_not_brought_back() {
    let mut world = World::serving(1);
    world.passes();
    world.see(Observation::TookOver(None));
    let successor = world.worker(0);
    world.dies(successor, Exit::Code(1));
    let Some(Upgrade::WayBack { child, .. }) = world.state.upgrade else { panic!("no way back") };
    world.took();
    world.dies(child, Exit::Code(64));
    world.fails_for(
        "the new worker of slot 0 ended with exit code 1; nor can the old program come back: the \
         old program ended with exit code 64, and did not say that it could",
    );
}

#[test]
fn where_there_is_no_way_back_the_new_program_goes_on() {
    let mut world = World::serving(1);
    world.passes();
    world.see(Observation::TookOver(None));
    let successor = world.worker(0);
    world.dies(successor, Exit::Code(1));
    world.may_return();
    world.took();
    world.see(Observation::StayedOn("its file is lost".into()));
    world.fails_for(
        "the new worker of slot 0 ended with exit code 1; nor can the old program come back: its \
         file is lost",
    );
    assert_eq!(world.state.phase, Phase::Serve);
}

#[test]
fn one_at_a_time_and_a_reload_before_or_behind() {
    let mut world = World::serving(1);
    world.see(Observation::Signal(Signal::Reload));
    world.see(Observation::Signal(Signal::Upgrade));
    assert_eq!(world.state.upgrade, None);
    world.see(Observation::Reloaded(Ok(None)));
    world.rolls();
    let id = world.preflight();
    world.see(Observation::Signal(Signal::Reload));
    world.took();
    world.see(Observation::Asked(9, Ask::Upgrade { wait: true }));
    let refused = "an upgrade is under way: wait for its end";
    assert!(world.took().contains(&Action::Answer(9, Err(refused.to_owned()))));
    world.see(Observation::Signal(Signal::Upgrade));
    assert!(world.took().contains(&ignored()), "the first goes on");
    world.see(Observation::Message(id, Message::Passed { version: VERSION.into() }));
    world.dies(id, Exit::Code(0));
    world.see(Observation::TookOver(None));
    world.took();
    world.rolls();
    let took = world.took();
    let place = |wanted: &Action| took.iter().position(|action| action == wanted);
    assert!(place(&Action::Commit) < place(&Action::Reload(Reload::Read)), "{took:?}");
    assert!(place(&Action::Commit).is_some(), "{took:?}");
}

/// What a signal gets whose upgrade cannot be.
fn ignored() -> Action {
    Action::Record(Event::SignalIgnored { signal: "USR2" })
}

#[test]
fn a_stop_comes_first() {
    for passed in [false, true] {
        let mut world = World::serving(2);
        world.see(Observation::Asked(7, Ask::Upgrade { wait: true }));
        let id = world.preflight();
        if passed {
            world.see(Observation::Message(id, Message::Passed { version: VERSION.into() }));
            world.dies(id, Exit::Code(0));
        }
        world.took();
        world.stops();
        assert!(!world.state.hands_over());
        let took = world.took();
        assert_eq!(took.contains(&Action::Kill(id)), !passed, "{took:?}");
        let told = Action::Answer(7, Err("the supervisor is stopping".to_owned()));
        assert!(took.contains(&told), "{took:?}");
        world.see(Observation::Signal(Signal::Upgrade));
        assert!(world.took().contains(&ignored()));
        world.ids().into_iter().for_each(|id| world.dies(id, Exit::Code(0)));
        assert!(matches!(world.state.phase, Phase::Over(_)), "{:?}", world.state.phase);
    }
}

#[test]
fn a_pause_comes_first_and_ends_a_trial_where_it_is() {
    let mut world = World::serving(2);
    world.see(Observation::Asked(7, Ask::Upgrade { wait: true }));
    world.see(Observation::Signal(Signal::Pause));
    assert_eq!(world.state.upgrade, None);

    let mut world = World::serving(2);
    world.passes();
    world.see(Observation::TookOver(None));
    world.see(Observation::Signal(Signal::Pause));
    assert!(world.took().contains(&Action::Commit), "the new one stays");
    assert_eq!(world.state.upgrade, None);
    let refused = "all workers were told to leave: a reload brings new ones".to_owned();
    world.see(Observation::Asked(8, Ask::Upgrade { wait: false }));
    assert!(world.took().contains(&Action::Answer(8, Err(refused))));
}

#[test]
fn as_many_workers_as_the_new_settings_want_come_with_the_new_program() {
    let mut world = World::serving(2);
    world.passes();
    world.see(Observation::TookOver(Some(3)));
    assert_eq!(world.state.target, 2, "not as long as the old one may come back");
    world.rolls();
    assert_eq!(world.state.target, 3);
    assert!(world.took().contains(&Action::Open(2)));
}

#[test]
fn a_service_that_only_the_new_program_has_is_started_when_the_old_one_is_gone() {
    for fails in [false, true] {
        let mut world = World::serving(1);
        world.passes();
        world.state.programs = specs([service(15)]);
        world.state.services = vec![Attempts::default()];
        world.took();
        world.see(Observation::TookOver(None));
        let successor = world.worker(0);
        if fails {
            world.dies(successor, Exit::Code(1));
        } else {
            world.rolls();
        }
        let started = world.spawned().contains(&Role::Service { program: 0 });
        assert_eq!(started, !fails, "the old one would not know it");
    }
}

#[test]
fn a_pre_flight_and_the_closing_of_a_socket_wait_for_each_other() {
    let shut = |world: &mut World| world.took().contains(&Action::Shut(1));
    let mut world = World::serving(2);
    world.see(Observation::Signal(Signal::Fewer));
    world.see(Observation::Signal(Signal::Upgrade));
    world.after(250);
    assert_eq!(world.state.upgrade, None);
    world.after(1_000);
    assert!(shut(&mut world));
    world.preflight();

    let mut world = World::serving(2);
    world.see(Observation::Signal(Signal::Upgrade));
    let id = world.preflight();
    world.see(Observation::Signal(Signal::Fewer));
    world.after(250);
    world.after(3_000);
    assert!(!shut(&mut world));
    world.dies(id, Exit::Code(1));
    world.after(1_000);
    assert!(shut(&mut world));
}

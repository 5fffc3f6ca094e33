//! The policy, tried without a process: scenarios by name, and a random history of a million steps.
#![allow(clippy::print_stdout, reason = "a failure is repeated from the seed it prints")]

use std::collections::BTreeMap;

use supervisor::plan::{Action, Observation, Signal, plan};
use supervisor::state::{ChildId, Haste, Life, Phase, ProgramSpec, State};
use supervisor::{Config, Event, Exit, Message, Order, Outcome, ProgramKind, Reload, Role};

const INT: i32 = 2;
const QUIT: i32 = 3;

fn config(workers: usize) -> Config {
    Config {
        workers,
        bind: "127.0.0.1:8000".parse().expect("an address"),
        backlog: 16,
        boot_timeout_ms: 30_000,
        graceful_timeout_ms: 30_000,
        quick_timeout_ms: 2_000,
        service_stop_timeout_ms: 30_000,
        stable_after_ms: 10_000,
        backoff_min_ms: 250,
        backoff_max_ms: 30_000,
        cell_words: (0, 0),
    }
}

fn specs(kinds: impl IntoIterator<Item = ProgramKind>) -> Vec<ProgramSpec> {
    let spec = |kind| ProgramSpec { name: "tool".into(), hint: Some("see its log".into()), kind };
    kinds.into_iter().map(spec).collect()
}

fn service(stop_signal: i32) -> ProgramKind {
    ProgramKind::Service { stop_signal, hurry_signal: QUIT }
}

/// A state, a clock, and a world in which every fork succeeds.
struct World {
    state: State,
    now_ms: u64,
    done: Vec<Action>,
    next_pid: i32,
}

impl World {
    fn new(workers: usize, programs: Vec<ProgramKind>) -> Self {
        let state = State::new(config(workers), specs(programs));
        let mut world = Self { state, now_ms: 1_000, done: Vec::new(), next_pid: 100 };
        world.see(Observation::Clock);
        world
    }

    /// A world whose workers all serve.
    fn serving(workers: usize) -> Self {
        let mut world = Self::new(workers, Vec::new());
        world.see(Observation::Listening(Ok(())));
        for id in world.ids() {
            world.see(Observation::Message(id, Message::Ready));
        }
        assert_eq!(world.state.phase, Phase::Serve);
        world.done.clear();
        world
    }

    fn see(&mut self, observation: Observation) {
        let actions = plan(&mut self.state, self.now_ms, observation);
        for action in actions {
            if let Action::Spawn(id, _) = action {
                self.next_pid += 1;
                let pid = self.next_pid;
                self.done.push(action);
                self.see(Observation::Spawned(id, pid));
            } else {
                self.done.push(action);
            }
        }
    }

    fn after(&mut self, pause_ms: u64) {
        self.now_ms += pause_ms;
        self.see(Observation::Clock);
    }

    fn ids(&self) -> Vec<ChildId> {
        self.state.children.keys().copied().collect()
    }

    fn worker(&self, slot: usize) -> ChildId {
        self.state.live_workers(slot).map(|(id, _)| id).last().expect("a worker in the slot")
    }

    fn dies(&mut self, id: ChildId, exit: Exit) {
        self.see(Observation::Exited(id, exit));
    }

    /// What was done since the last look.
    fn took(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.done)
    }

    fn spawned(&mut self) -> Vec<Role> {
        let spawned = self.took().into_iter().filter_map(|action| match action {
            Action::Spawn(_, role) => Some(role),
            _ => None,
        });
        spawned.collect()
    }
}

#[test]
fn programs_run_in_order_and_the_sockets_open_behind_them() {
    let step = ProgramKind::Step { timeout_ms: 5_000 };
    let mut world = World::new(2, vec![service(INT), step.clone(), step]);
    assert_eq!(world.spawned(), [Role::Service { program: 0 }, Role::Step { program: 1 }]);
    world.dies(2, Exit::Code(0));
    assert_eq!(world.spawned(), [Role::Step { program: 2 }]);
    world.dies(3, Exit::Code(0));
    assert!(world.took().contains(&Action::Listen));
    world.see(Observation::Listening(Ok(())));
    let worker = |slot| Role::Worker { slot, generation: 1 };
    assert_eq!(world.spawned(), [worker(0), worker(1)]);
}

#[test]
fn a_step_that_fails_ends_the_start_with_its_own_words() {
    let mut world = World::new(2, vec![ProgramKind::Step { timeout_ms: 5_000 }]);
    let text = "no database".to_owned();
    world.see(Observation::Message(1, Message::BootFailed { code: 69, text: text.clone() }));
    world.dies(1, Exit::Code(69));
    assert_eq!(world.state.phase, Phase::Over(Outcome::Failed { code: 69, text }));
}

#[test]
fn a_step_over_its_time_is_killed() {
    let mut world = World::new(2, vec![ProgramKind::Step { timeout_ms: 5_000 }]);
    world.after(4_999);
    assert!(!world.took().contains(&Action::Kill(1)));
    world.after(1);
    assert!(world.took().contains(&Action::Kill(1)));
    world.dies(1, Exit::Signal(9));
    let text = "tool failed (signal 9): see its log".to_owned();
    assert_eq!(world.state.phase, Phase::Over(Outcome::Failed { code: 71, text }));
}

#[test]
fn a_stop_during_a_step_is_a_stop_and_not_a_failure() {
    for exit in [Exit::Signal(9), Exit::Code(0), Exit::Code(1)] {
        let mut world = World::new(2, vec![ProgramKind::Step { timeout_ms: 5_000 }]);
        world.see(Observation::Signal(Signal::Stop));
        assert!(world.took().contains(&Action::Kill(1)));
        world.dies(1, exit);
        assert_eq!(world.state.phase, Phase::Over(Outcome::Drained), "{exit}");
    }
}

#[test]
fn whoever_was_suspended_kills_nobody_for_the_time_that_was_lost() {
    let mut world = World::new(1, Vec::new());
    world.see(Observation::Listening(Ok(())));
    world.now_ms += 60_000;
    world.see(Observation::Message(1, Message::Ready));
    assert_eq!(world.state.phase, Phase::Serve, "what was said meanwhile counts");

    let id = world.worker(0);
    world.dies(id, Exit::Signal(9));
    world.took();
    world.after(60_000);
    assert_eq!(world.took(), [], "and a worker that boots gets the lost time");
    world.after(29_000);
    assert_eq!(world.took(), []);
}

#[test]
fn a_worker_that_boots_at_a_graceful_stop_serves_who_waits_on_its_socket() {
    let mut world = World::serving(2);
    let id = world.worker(1);
    world.dies(id, Exit::Signal(9));
    let booting = world.worker(1);
    world.took();
    world.see(Observation::Signal(Signal::Stop));
    let actions = world.took();
    assert!(actions.contains(&Action::Send(booting, Order::Drain)), "{actions:?}");
    assert!(!actions.contains(&Action::Kill(booting)));
}

#[test]
fn a_worker_that_cannot_boot_at_first_start_ends_it() {
    let mut world = World::new(3, Vec::new());
    world.see(Observation::Listening(Ok(())));
    world.see(Observation::Message(1, Message::Ready));
    world.dies(2, Exit::Code(1));
    let actions = world.took();
    assert!(actions.contains(&Action::Send(1, Order::Quit)), "{actions:?}");
    assert!(actions.contains(&Action::Kill(3)), "{actions:?}");
    world.dies(1, Exit::Code(0));
    world.dies(3, Exit::Signal(9));
    let Phase::Over(Outcome::Failed { code: 71, text }) = &world.state.phase else {
        panic!("{:?}", world.state.phase)
    };
    assert!(text.contains("slot 1") && text.contains("exit code 1"), "{text}");
}

#[test]
fn a_dead_worker_is_replaced_at_once_and_then_with_growing_pauses() {
    let mut world = World::serving(2);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let id = world.worker(1);
        world.dies(id, Exit::Signal(11));
        let pause_ms =
            world.state.slots[1].attempts.restart_at_ms.map_or(0, |at| at - world.now_ms);
        pauses.push(pause_ms);
        world.after(pause_ms);
    }
    assert_eq!(pauses, [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    assert_eq!(world.state.slots[0].restarts, 0);
    assert_eq!(world.state.slots[1].restarts, 10);
}

#[test]
fn a_worker_that_served_long_dies_with_a_clean_record() {
    let mut world = World::serving(1);
    for _ in 0..3 {
        let id = world.worker(0);
        world.dies(id, Exit::Signal(9));
        world.after(1_000);
    }
    let id = world.worker(0);
    world.see(Observation::Message(id, Message::Ready));
    world.after(10_000);
    world.took();
    world.dies(id, Exit::Signal(9));
    assert_eq!(world.spawned().len(), 1, "replaced at once");
}

#[test]
fn a_worker_that_never_becomes_ready_is_killed_and_only_then_replaced() {
    let mut world = World::serving(1);
    let first = world.worker(0);
    world.dies(first, Exit::Signal(9));
    let second = world.worker(0);
    world.took();
    world.after(29_999);
    world.after(1);
    assert!(world.took().contains(&Action::Kill(second)));
    world.after(1_000);
    assert_eq!(world.spawned(), [], "not while the old one may still live");
    world.dies(second, Exit::Signal(9));
    world.after(250);
    assert_eq!(world.spawned(), [Role::Worker { slot: 0, generation: 3 }]);
}

#[test]
fn a_fork_that_is_refused_is_tried_again() {
    let mut world = World::serving(1);
    let id = world.worker(0);
    world.dies(id, Exit::Signal(9));
    let id = world.worker(0);
    world.dies(id, Exit::NotForked);
    assert!(world.state.slots[0].attempts.restart_at_ms.is_some());
}

#[test]
fn a_graceful_stop_waits_for_what_is_in_flight_but_not_for_ever() {
    let mut world = World::serving(2);
    world.see(Observation::Signal(Signal::Stop));
    let actions = world.took();
    assert!(actions.contains(&Action::Send(1, Order::Drain)), "{actions:?}");
    assert!(actions.contains(&Action::Send(2, Order::Drain)), "{actions:?}");
    assert!(actions.contains(&Action::StopListening), "{actions:?}");
    world.dies(1, Exit::Code(0));
    assert!(world.spawned().is_empty(), "nothing is started in a stop");
    world.after(30_499);
    world.after(1);
    assert!(world.took().contains(&Action::Kill(2)));
    world.dies(2, Exit::Signal(9));
    assert_eq!(world.state.phase, Phase::Over(Outcome::Forced));
}

#[test]
fn a_worker_that_cut_requests_short_makes_the_stop_a_forced_one() {
    let mut world = World::serving(2);
    world.see(Observation::Signal(Signal::Stop));
    world.dies(1, Exit::Code(75));
    world.dies(2, Exit::Code(0));
    assert_eq!(world.state.phase, Phase::Over(Outcome::Forced));
}

#[test]
fn stops_get_quicker_but_never_slower() {
    let mut world = World::serving(1);
    let haste = |world: &World| match world.state.phase {
        Phase::Stop { haste, .. } => haste,
        ref other => panic!("{other:?}"),
    };
    world.see(Observation::Signal(Signal::Stop));
    assert_eq!(haste(&world), Haste::Graceful);
    world.see(Observation::Signal(Signal::Quit));
    assert_eq!(haste(&world), Haste::Quick);
    world.see(Observation::Signal(Signal::Stop));
    assert_eq!(haste(&world), Haste::Quick);
    world.took();
    world.see(Observation::Signal(Signal::Quit));
    assert!(world.took().contains(&Action::Kill(1)));
    world.dies(1, Exit::Signal(9));
    assert_eq!(world.state.phase, Phase::Over(Outcome::Forced));
}

#[test]
fn services_end_after_the_workers_and_in_reverse_order() {
    let mut world = World::new(1, vec![service(2), service(15)]);
    world.see(Observation::Listening(Ok(())));
    world.see(Observation::Message(3, Message::Ready));
    world.took();
    world.see(Observation::Signal(Signal::Stop));
    assert!(!world.took().iter().any(|action| matches!(action, Action::Signal(..))));
    world.dies(3, Exit::Code(0));
    assert!(world.took().contains(&Action::Signal(2, 15)));
    world.dies(2, Exit::Code(0));
    assert!(world.took().contains(&Action::Signal(1, 2)));
    world.dies(1, Exit::Code(0));
    assert_eq!(world.state.phase, Phase::Over(Outcome::Drained));
}

#[test]
fn a_roll_replaces_one_slot_at_a_time_successor_first() {
    let mut world = World::serving(2);
    world.see(Observation::Signal(Signal::Reload));
    world.see(Observation::Signal(Signal::Reload));
    let read = [Action::Reload(Reload::Read)];
    assert_eq!(world.took(), read, "the second one waits for the first");
    world.see(Observation::Reloaded(Ok(())));
    assert_eq!(world.spawned(), [Role::Worker { slot: 0, generation: 2 }]);
    world.see(Observation::Message(3, Message::Ready));
    assert!(world.took().contains(&Action::Send(1, Order::Drain)));
    world.see(Observation::Signal(Signal::Reload));
    assert!(world.took().is_empty(), "remembered, not doubled");
    world.dies(1, Exit::Code(0));
    assert_eq!(world.spawned(), [Role::Worker { slot: 1, generation: 2 }]);
    world.see(Observation::Message(4, Message::Ready));
    world.dies(2, Exit::Code(0));
    let actions = world.took();
    let end = [Action::Reload(Reload::Keep), Action::Record(Event::Rolled)];
    assert!(actions.ends_with(&[&end[..], &read].concat()), "{actions:?}");
    assert!(world.state.slots.iter().all(|slot| slot.restarts == 0));
}

#[test]
fn a_successor_that_fails_leaves_the_old_worker_serving() {
    let mut world = World::serving(2);
    world.see(Observation::Reloaded(Ok(())));
    let text = "bad release".to_owned();
    world.see(Observation::Message(3, Message::BootFailed { code: 64, text: text.clone() }));
    world.see(Observation::Signal(Signal::Reload));
    world.took();
    world.dies(3, Exit::Code(64));
    let actions = world.took();
    assert!(actions.contains(&Action::Record(Event::RollFailed { reason: text })), "{actions:?}");
    assert!(actions.contains(&Action::Reload(Reload::Undo)), "the old settings are back");
    assert!(actions.contains(&Action::Reload(Reload::Read)), "a mended file is read");
    assert_eq!(world.state.roll, None);
    assert_eq!(world.ids(), [1, 2]);
    assert_eq!(world.state.slots[0].attempts.restart_at_ms, None);
}

#[test]
fn a_reload_during_the_start_follows_it() {
    let mut world = World::new(1, Vec::new());
    world.see(Observation::Signal(Signal::Reload));
    world.see(Observation::Listening(Ok(())));
    world.took();
    world.see(Observation::Message(1, Message::Ready));
    assert!(world.took().contains(&Action::Reload(Reload::Read)));
}

#[test]
fn a_clean_leave_does_not_delay_the_slots_next_start() {
    let mut world = World::serving(1);
    world.see(Observation::Reloaded(Ok(())));
    world.see(Observation::Message(2, Message::Ready));
    world.dies(2, Exit::Signal(11));
    world.dies(3, Exit::Signal(11));
    let restart_at_ms = world.state.slots[0].attempts.restart_at_ms;
    assert_eq!(restart_at_ms, Some(world.now_ms + 250));
    world.dies(1, Exit::Code(0));
    assert_eq!(world.state.slots[0].attempts.restart_at_ms, restart_at_ms);
}

#[test]
fn a_hastier_order_never_gives_more_time() {
    let mut world = World::serving(1);
    world.see(Observation::Reloaded(Ok(())));
    world.see(Observation::Message(2, Message::Ready));
    let deadline = |world: &World| world.state.children[&1].life.deadline_ms();
    let before = deadline(&world);
    world.now_ms += 20_000;
    world.see(Observation::Signal(Signal::Stop));
    assert_eq!(deadline(&world), before);
    world.see(Observation::Signal(Signal::Quit));
    assert_eq!(deadline(&world), Some(world.now_ms + 2_500));
}

#[test]
fn now_hurries_a_service_that_is_ending_and_cuts_nobody() {
    let mut world = World::new(1, vec![service(INT)]);
    world.see(Observation::Listening(Ok(())));
    world.see(Observation::Message(2, Message::Ready));
    world.see(Observation::Signal(Signal::Quit));
    world.dies(2, Exit::Code(0));
    world.took();
    world.see(Observation::Signal(Signal::Quit));
    assert!(world.took().contains(&Action::Signal(1, QUIT)));
    world.dies(1, Exit::Code(0));
    assert_eq!(world.state.phase, Phase::Over(Outcome::Drained));
}

#[test]
fn a_reload_that_is_refused_changes_nothing() {
    let mut world = World::serving(2);
    let before = world.state.clone();
    world.see(Observation::Reloaded(Err("workers: not a number".into())));
    assert_eq!(world.state, before);
}

#[test]
fn the_state_survives_being_written_and_read() {
    let mut world = World::serving(3);
    world.see(Observation::Reloaded(Ok(())));
    let text = serde_json::to_string(&world.state).expect("plain data");
    let read: State = serde_json::from_str(&text).expect("the same data");
    assert_eq!(read, world.state);
}

/// A small generator, so that a failure can be repeated from its seed. Source: xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

/// What really exists in the random history: children, and whether SIGKILL is on its way.
#[derive(Default)]
struct Machine {
    children: BTreeMap<ChildId, bool>,
    queue: Vec<Observation>,
}

impl Machine {
    fn act(&mut self, dice: &mut Dice, action: &Action) {
        match action {
            Action::Spawn(id, _) if dice.roll(50) == 0 => {
                self.queue.push(Observation::Exited(*id, Exit::NotForked));
            }
            Action::Spawn(id, _) => {
                self.children.insert(*id, false);
                self.queue.push(Observation::Spawned(*id, 1));
            }
            Action::Kill(id) => {
                if let Some(killed) = self.children.get_mut(id) {
                    *killed = true;
                }
            }
            Action::Listen => {
                let refused = dice.roll(20) == 0;
                let result = if refused { Err("refused".to_owned()) } else { Ok(()) };
                self.queue.push(Observation::Listening(result));
            }
            Action::Reload(Reload::Read) => {
                let refused = dice.roll(3) == 0;
                let result = if refused { Err("bad file".to_owned()) } else { Ok(()) };
                self.queue.push(Observation::Reloaded(result));
            }
            Action::Send(..)
            | Action::Signal(..)
            | Action::StopListening
            | Action::Reload(_)
            | Action::Record(_) => {}
        }
    }

    /// The next thing that happens, and how long it took to happen. What the loop has done itself is
    /// observed in order, but anything may come between. The loop never sleeps past a deadline, unless
    /// it is suspended.
    fn happen(&mut self, dice: &mut Dice, state: &State, now_ms: u64) -> (u64, Observation) {
        if !self.queue.is_empty() && dice.roll(4) > 0 {
            return (0, self.queue.remove(0));
        }
        let wish_ms = [0, 0, 3, 120, 2_500, 31_000][dice.roll(6) as usize];
        let suspended = dice.roll(200) == 0;
        let due_ms = state.next_deadline_ms().map_or(u64::MAX, |at| at.saturating_sub(now_ms));
        let pause_ms = if suspended { wish_ms } else { due_ms.min(wish_ms) };
        let ids: Vec<_> = self.children.keys().copied().collect();
        let id = ids.get(dice.roll(ids.len().max(1) as u64) as usize).copied();
        let observation = match (dice.roll(100), id) {
            (0..20, Some(id)) => {
                let killed = self.children.remove(&id) == Some(true);
                let exit = match dice.roll(4) {
                    _ if killed => Exit::Signal(9),
                    0 => Exit::Signal(11),
                    1 => Exit::Code(1),
                    _ => Exit::Code(0),
                };
                Observation::Exited(id, exit)
            }
            (20..60, Some(id)) => Observation::Message(id, Message::Ready),
            (60..63, Some(id)) => {
                Observation::Message(id, Message::BootFailed { code: 64, text: "no".into() })
            }
            (63..75, _) => Observation::Signal(Signal::Reload),
            (75, _) if dice.roll(40) == 0 => Observation::Signal(Signal::Stop),
            (76, _) if dice.roll(40) == 0 => Observation::Signal(Signal::Quit),
            (77, _) => Observation::Signal(Signal::Other("USR1")),
            _ => Observation::Clock,
        };
        (pause_ms, observation)
    }
}

/// What must hold after every step, whatever happened.
fn check(state: &State, machine: &Machine) {
    for slot in 0..state.slots.len() {
        let rolling = state.roll.as_ref().is_some_and(|roll| roll.slot == slot);
        let count = state.fillers(slot).count();
        let stopping = matches!(state.phase, Phase::Stop { .. } | Phase::Over(_));
        assert!(count <= 1 + usize::from(rolling || stopping), "{count} workers in slot {slot}");
        if state.phase == Phase::Serve {
            let waits = state.slots[slot].attempts.restart_at_ms.is_some();
            assert!(count > 0 || waits, "nobody will ever fill slot {slot}");
        }
    }
    assert!(state.workers().count() <= state.slots.len() * 2 + 1);
    for (id, child) in &state.children {
        let waits_for_itself = matches!(child.life, Life::Serving { .. });
        assert!(waits_for_itself || child.life.deadline_ms().is_some(), "{id}: {child:?}");
        assert!(
            machine.children.contains_key(id) || !machine.queue.is_empty(),
            "{id} is remembered, but gone"
        );
    }
    let working = !matches!(state.phase, Phase::Over(_));
    let anything_to_come = !state.children.is_empty() || !machine.queue.is_empty();
    assert!(
        !working || anything_to_come || state.next_deadline_ms().is_some(),
        "wedged: {state:?}"
    );
    if let Some(roll) = &state.roll {
        use supervisor::state::RollStep::{Predecessor, Successor};
        let (Successor(id) | Predecessor(id)) = roll.waits_for;
        assert!(state.children.contains_key(&id), "the roll waits for nobody");
    }
    if let Phase::Over(_) = state.phase {
        assert!(state.children.is_empty() && machine.children.is_empty(), "somebody is left");
    }
}

#[test]
fn a_random_history_of_a_million_steps_breaks_no_rule() {
    let seed = std::env::var("PEACE_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(0x5EED_0001_u64);
    println!("PEACE_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    let (mut steps, mut lives, mut rolled, mut now_ms) = (0_u64, 0_u64, 0_u64, 0_u64);
    while steps < 1_000_000 {
        let programs = vec![
            service(INT), //
            ProgramKind::Step { timeout_ms: 5_000 },
        ];
        let workers = 1 + dice.roll(5) as usize;
        let mut state = State::new(config(workers), specs(programs));
        let mut machine = Machine { queue: vec![Observation::Clock], ..Machine::default() };
        let mut stopped_from_outside = false;
        while !matches!(state.phase, Phase::Over(_)) {
            let (pause_ms, observation) = machine.happen(&mut dice, &state, now_ms);
            now_ms += pause_ms;
            let asked = matches!(observation, Observation::Signal(Signal::Stop | Signal::Quit));
            stopped_from_outside |= asked && !matches!(state.phase, Phase::Stop { .. });
            let ticked = observation == Observation::Clock;
            let actions = plan(&mut state, now_ms, observation);
            rolled += u64::from(actions.contains(&Action::Record(Event::Rolled)));
            for action in &actions {
                machine.act(&mut dice, action);
            }
            check(&state, &machine);
            let mut deadlines =
                state.children.values().filter_map(|child| child.life.deadline_ms());
            assert!(!ticked || deadlines.all(|at| at > now_ms), "a deadline is over: {state:?}");
            steps += 1;
        }
        let failed = matches!(state.phase, Phase::Over(Outcome::Failed { .. }));
        assert!(!(stopped_from_outside && failed), "a stop is no failure: {state:?}");
        lives += 1;
    }
    println!("{steps} steps, {lives} lives, {rolled} rolls");
    assert!(lives > 100 && rolled > 100, "the history must reach stops and rolls");
}

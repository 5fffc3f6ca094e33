//! Workers that have done, hold or lived as much as they may.

use supervisor::plan::{Action, Look, Observation, Signal, Wear};
use supervisor::state::ChildId;
use supervisor::{Event, Exit, Message, Order, Recycling, Role};

use super::World;

impl World {
    fn limited(workers: usize, recycling: Recycling) -> Self {
        let mut world = Self::serving(workers);
        world.state.config.recycling = recycling;
        world
    }

    /// A look at which every worker has begun so many requests and holds so much.
    fn worn(&mut self, wear: &[(ChildId, Wear)]) {
        self.now_ms += 250;
        let beats = self.ids().into_iter().map(|id| (id, self.now_ms)).collect();
        self.see(Observation::Looked(Look { beats, wear: wear.to_vec(), ..Look::default() }));
    }

    fn all_worn(&mut self, requests: u64) {
        let wear: Vec<_> =
            self.ids().into_iter().map(|id| (id, Wear { requests, rss_bytes: 0 })).collect();
        self.worn(&wear);
    }
}

const REQUESTS: Recycling = Recycling {
    requests_max: Some(500),
    jitter_max: 0,
    rss_bytes_max: None,
    lifetime_ms_max: None,
};

#[test]
fn worn_workers_are_replaced_one_after_the_other_the_successor_first() {
    let mut world = World::limited(2, REQUESTS);
    let old = world.ids();
    world.all_worn(499);
    assert_eq!(world.spawned(), []);
    for (slot, worker) in old.iter().enumerate() {
        world.all_worn(500);
        assert_eq!(world.spawned(), [Role::Worker { slot, generation: 2 }], "one, and no more");
        world.all_worn(500);
        assert_eq!(world.spawned(), []);
        let successor = world.worker(slot);
        assert!(world.state.children[worker].serves(), "until the other is ready");
        world.see(Observation::Message(successor, Message::Ready));
        assert!(world.took().contains(&Action::Send(*worker, Order::Drain)));
        world.all_worn(500);
        assert_eq!(world.spawned(), [], "not before it has left");
        world.dies(*worker, Exit::Code(0));
    }
    world.all_worn(0);
    assert_eq!(world.spawned(), []);
}

#[test]
fn memory_and_age_are_limits_too() {
    let rss = Recycling { rss_bytes_max: Some(1 << 20), ..Recycling::default() };
    let mut world = World::limited(2, rss);
    let [first, second] = world.ids()[..] else { panic!("two") };
    let wear = |rss_bytes| Wear { requests: 0, rss_bytes };
    world.worn(&[(first, wear((1 << 20) - 1)), (second, wear(1 << 20))]);
    assert_eq!(world.spawned(), [Role::Worker { slot: 1, generation: 2 }]);

    let age = Recycling { lifetime_ms_max: Some(60_000), ..Recycling::default() };
    let mut world = World::limited(1, age);
    world.after(59_000);
    world.all_worn(0);
    assert_eq!(world.spawned(), []);
    world.after(1_000);
    world.all_worn(0);
    assert_eq!(world.spawned(), [Role::Worker { slot: 0, generation: 2 }]);
}

#[test]
fn limits_are_jittered_differently_for_every_worker() {
    let mut world = World::limited(8, Recycling { jitter_max: 400, ..REQUESTS });
    let mut recycled_at = std::collections::BTreeSet::new();
    for requests in 500..=900 {
        world.all_worn(requests);
        let spawned = world.spawned();
        if !spawned.is_empty() {
            recycled_at.insert(requests);
            let recycle = world.state.recycle.expect("one is under way");
            let successor = world.worker(recycle.slot);
            world.see(Observation::Message(successor, Message::Ready));
            let leaving = world.state.workers().find(|(_, child)| child.asked);
            let leaving = leaving.map(|(id, _)| id).expect("the predecessor");
            world.dies(leaving, Exit::Code(0));
            world.took();
        }
    }
    assert!(recycled_at.len() >= 6, "{recycled_at:?}");
}

#[test]
fn a_successor_that_fails_leaves_the_worker_and_is_tried_again_after_a_pause() {
    let mut world = World::limited(1, REQUESTS);
    let worker = world.worker(0);
    let mut tries = 0;
    for _ in 0..40 {
        world.all_worn(500);
        for role in world.spawned() {
            assert!(matches!(role, Role::Worker { slot: 0, .. }));
            tries += 1;
            let successor = world.worker(0);
            world.dies(successor, Exit::Code(1));
        }
        assert!(world.state.children[&worker].serves());
    }
    assert!((3..=8).contains(&tries), "{tries} tries in 10 s");
    let reason = "the new worker of slot 0 ended with exit code 1".to_owned();
    world.after(60_000);
    world.all_worn(500);
    let successor = world.worker(0);
    world.took();
    world.dies(successor, Exit::Code(1));
    assert!(world.took().contains(&Action::Record(Event::RecycleFailed { reason })));
}

impl World {
    /// Every worker holds so much, for so long; successors are ready at once, and predecessors leave. Gives
    /// how many were replaced, and what was told about limits.
    fn holds(&mut self, rss_bytes: u64, for_ms: u64) -> (usize, Vec<Event>) {
        let (mut replaced, mut told, end_ms) = (0, Vec::new(), self.now_ms + for_ms);
        while self.now_ms < end_ms {
            let wear = Wear { requests: 0, rss_bytes };
            self.worn(&self.ids().into_iter().map(|id| (id, wear)).collect::<Vec<_>>());
            for action in self.took() {
                match action {
                    Action::Record(event @ Event::WornEarly { .. }) => told.push(event),
                    Action::Record(Event::Recycling { .. }) => replaced += 1,
                    _ => {}
                }
            }
            if let Some(recycle) = self.state.recycle {
                let successor = self.worker(recycle.slot);
                self.see(Observation::Message(successor, Message::Ready));
                let leaving = self.state.workers().find(|(_, child)| child.asked);
                let leaving = leaving.map(|(id, _)| id).expect("the predecessor");
                self.dies(leaving, Exit::Code(0));
                self.took();
            }
        }
        (replaced, told)
    }
}

#[test]
fn a_limit_that_every_fresh_worker_is_over_is_told_once_and_replaces_few() {
    let rss = Recycling { rss_bytes_max: Some(100), ..Recycling::default() };
    let mut world = World::limited(2, rss);
    let (replaced, told) = world.holds(100, 120_000);
    assert!((5..=12).contains(&replaced), "{replaced} in two minutes");
    assert_eq!(told, [Event::WornEarly { reason: "max-rss", after_ms: 250 }]);
    // Whoever grows slowly is replaced at once, and the record is clean again.
    world.holds(99, 60_000);
    let (replaced, told) = world.holds(100, 500);
    assert_eq!((replaced, told.len()), (2, 0), "one after the other, both were old");
    let (replaced, told) = world.holds(100, 60_000);
    assert!(replaced <= 10, "{replaced} in a minute");
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn requests_wear_a_worker_however_fast_they_come() {
    let mut world = World::limited(1, REQUESTS);
    for generation in 2..12 {
        world.all_worn(500);
        assert_eq!(world.spawned(), [Role::Worker { slot: 0, generation }], "no pause");
        let [old, successor] = world.ids()[..] else { panic!("two") };
        world.see(Observation::Message(successor, Message::Ready));
        world.dies(old, Exit::Code(0));
        world.took();
    }
}

#[test]
fn a_reload_waits_for_the_end_and_nothing_begins_while_a_slot_is_not_served() {
    let mut world = World::limited(2, REQUESTS);
    let old = world.ids();
    world.all_worn(500);
    world.see(Observation::Signal(Signal::Reload));
    assert!(!world.state.reload_asked);
    let successor = world.worker(0);
    world.see(Observation::Message(successor, Message::Ready));
    world.dies(old[0], Exit::Code(0));
    assert!(world.state.reload_asked, "behind it");

    let mut world = World::limited(2, REQUESTS);
    let first = world.worker(0);
    world.dies(first, Exit::Signal(9));
    world.took();
    world.all_worn(500);
    assert_eq!(world.spawned(), [], "the other one is all there is");
}

//! Tests of the scoreboard: what is counted is counted once, and seen whole.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::config::Told;
use crate::journal::Event;
use crate::state::{Exit, Role};
use crate::status::ChildState;

const LAYOUT: CellLayout =
    CellLayout { id: 7, counters: 2, gauges: 1, told: Told { at: 0, rows: 2, words: 1 } };

fn board() -> Scoreboard {
    let board = Scoreboard::new(LAYOUT).unwrap();
    post(&board, 4);
    board
}

fn post(board: &Scoreboard, slots: usize) {
    let slot =
        |_| SlotPost { listens: true, generation: 1, queue: 3, last_exit: None, restarts: 0 };
    let slots: Vec<_> = (0..slots).map(slot).collect();
    board.post(&Post {
        generation: 1,
        target: slots.len(),
        ready: 2,
        last_reload: None,
        slots: &slots,
        lives: &[],
    });
}

fn count(word: &AtomicU64, more: u64) {
    add(word, more);
}

#[test]
fn a_cell_tells_what_its_owner_wrote() {
    let board = board();
    let (index, cell) = board.claim(Some(3), 7).unwrap();
    assert_eq!(board.read(index).state, CellState::Booting as u64);

    cell.ready();
    count(cell.requests(), 9);
    count(cell.in_flight(), 1);
    count(cell.connections(), 4);
    cell.beat(&Beat { loop_lag_us: 250 });
    let Reading { state, heartbeat_ms, loop_lag_us, requests, in_flight, connections } =
        board.read(index);
    assert_eq!((state, loop_lag_us), (CellState::Ready as u64, 250));
    assert_eq!((requests, in_flight, connections), (9, 1, 4));
    assert!(now_ms() - heartbeat_ms < 60_000);
}

#[test]
fn counts_of_the_dead_stay_and_gauges_do_not() {
    let mut board = board();
    for requests in [5, 6] {
        let (index, cell) = board.claim(Some(1), 1).unwrap();
        assert_eq!(cell.gauges()[0].load(Ordering::Relaxed), 0);
        count(cell.requests(), requests);
        count(&cell.counters()[1], 2);
        cell.gauges()[0].store(8, Ordering::Relaxed);
        board.release(index);
    }
    let (_, living) = board.claim(Some(0), 1).unwrap();
    count(&living.counters()[1], 1);
    let (index, program) = board.claim(None, 0).unwrap();
    count(&program.counters()[0], 3);
    let before = board.board().snapshot().unwrap();
    board.release(index);
    let after = board.board().snapshot().unwrap();
    // What is told is the sum over the rows, here of one word each.
    assert_eq!((&before.cells[0].told, &before.cells[1].told), (&vec![1], &vec![3]));
    assert_eq!((before.requests, before.slots[1].requests), (11, 11));
    assert_eq!((&before.counters, before.cells.len()), (&vec![3, 5], 2));
    assert_eq!((&after.counters, after.cells.len()), (&vec![3, 5], 1));
    assert_eq!(after.cells[0].slot, Some(0));
}

#[test]
fn every_cell_is_claimed_once_and_lines_are_not_shared() {
    let mut board = board();
    let claimed: Vec<_> = (0..CELLS_MAX).map(|_| board.claim(Some(0), 1).unwrap()).collect();
    assert!(board.claim(Some(0), 1).is_none());
    for pair in claimed.windows(2) {
        assert_eq!((pair[1].1.address() - pair[0].1.address()) % 128, 0);
    }
    board.release(claimed[5].0);
    assert_eq!(board.claim(Some(0), 2).unwrap().0, claimed[5].0);
}

/// The sum never goes down and never counts twice, however often its parts are moved under the reader.
#[test]
fn a_sum_is_the_same_before_in_and_after_a_move() {
    let mut board = board();
    let (reader, over) = (board.board(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut last, mut looks) = (0, 0_u64);
            while !over.load(Ordering::Acquire) {
                let Some(seen) = reader.snapshot() else { continue };
                let sum = seen.requests;
                // One request is counted per life, first in the cell; a move is no change.
                assert!(sum >= last && sum - last <= 20_000, "{last} -> {sum}");
                assert_eq!(seen.counters[0] / 10, seen.counters[1] / 10, "torn");
                (last, looks) = (sum, looks + 1);
            }
            (last, looks)
        });
        for _ in 0..20_000 {
            let (index, cell) = board.claim(Some(2), 1).unwrap();
            for counter in cell.counters() {
                count(counter, 10);
            }
            count(cell.requests(), 1);
            board.release(index);
        }
        over.store(true, Ordering::Release);
        let (last, looks) = reading.join().unwrap();
        assert!(last <= 20_000 && looks > 0, "{last} {looks}");
    });
    assert_eq!(board.board().snapshot().unwrap().requests, 20_000);
}

#[test]
fn a_supervisor_that_stands_still_in_a_change_holds_up_no_reader() {
    let board = board();
    board.map.words[SEQUENCE].store(5, Ordering::Relaxed);
    assert_eq!(board.board().snapshot(), None);
    board.change(|| {});
    assert!(board.board().snapshot().is_some(), "a successor's change ends it");
}

#[test]
fn restarts_are_counted_by_their_reason() {
    let mut board = board();
    let role = Role::Worker { slot: 1, generation: 1 };
    let exited = |pid, exit, expected, reason: Option<&str>| Event::Exited {
        role,
        pid,
        exit,
        expected,
        reason: reason.map(str::to_owned),
        restart_in_ms: None,
    };
    let recycling = |pid| Event::Recycling { role, pid, reason: "max-rss" };
    board.count(&Event::Hung { role, pid: 13, silence_ms: 1 });
    board.count(&Event::Killed { role, pid: 13 });
    for event in [
        exited(10, Exit::Code(0), true, None),
        exited(11, Exit::Code(1), false, None),
        exited(12, Exit::Signal(9), false, None),
        exited(13, Exit::Signal(9), true, None),
        exited(14, Exit::Code(71), false, Some("no thread")),
        exited(0, Exit::NotForked, false, None),
        exited(13, Exit::Signal(9), false, None),
        recycling(15),
        exited(15, Exit::Code(0), true, None),
        recycling(16),
        exited(16, Exit::Code(3), false, None),
        recycling(17),
        Event::RecycleFailed { reason: "no room".to_owned() },
        exited(17, Exit::Code(0), true, None),
    ] {
        board.count(&event);
    }
    let seen = board.board().snapshot().unwrap();
    assert_eq!(seen.slots[1].reasons, [2, 2, 1, 1, 1, 1]);
}

#[test]
fn what_failed_is_not_counted_as_what_succeeded() {
    let mut board = board();
    let failed = || "no database".to_owned();
    for event in [
        Event::Rolled,
        Event::RollFailed { reason: failed() },
        Event::RollFailed { reason: failed() },
        Event::Upgraded { version: "2.0.0".to_owned() },
        Event::Upgraded { version: "2.0.1".to_owned() },
        Event::Upgraded { version: "2.0.2".to_owned() },
        Event::UpgradeFailed { reason: failed() },
        Event::Steered { slots: vec![0] },
    ] {
        board.count(&event);
    }
    let Facts { rolls, rolls_failed, upgrades, upgrades_failed, steerings, .. } =
        board.board().snapshot().unwrap().facts;
    assert_eq!((rolls, rolls_failed, upgrades, upgrades_failed, steerings), (1, 2, 3, 1, 1));
}

/// What the test with two threads shows only by luck.
#[test]
fn nobody_reads_in_the_middle_of_a_change() {
    let board = board();
    let reader = board.board();
    board.change(|| assert_eq!(reader.snapshot(), None));
    assert!(reader.snapshot().is_some());
}

#[test]
fn what_the_loop_knows_is_read_again() {
    let board = board();
    let (index, _) = board.claim(Some(0), 4).unwrap();
    board.forked(index, 99);
    let failed = Err(format!("no database: {}", "é".repeat(200)));
    let exits = [Exit::NotForked, Exit::Code(0), Exit::Code(101), Exit::Signal(9)];
    let slot = |exit: &Exit| SlotPost {
        listens: false,
        generation: 4,
        queue: 17,
        last_exit: Some(*exit),
        restarts: 5,
    };
    let slots: Vec<_> = exits.iter().map(slot).collect();
    let lives =
        [LifePost { cell: index, life: ChildState::Draining, asked: true, is_guest: false }];
    let last_reload = Some(&failed);
    let (generation, target, ready) = (3, 4, 1);
    board.post(&Post { generation, target, ready, last_reload, slots: &slots, lives: &lives });

    let seen = board.board().snapshot().unwrap();
    let facts = &seen.facts;
    assert_eq!((facts.generation, facts.target, facts.ready), (3, 4, 1));
    let Some(Err(text)) = &facts.last_reload else { panic!("{facts:?}") };
    assert!(text.starts_with("no database: éé") && text.len() <= 256, "{text}");
    let seen_exits: Vec<_> = seen.slots.iter().filter_map(|slot| slot.last_exit).collect();
    assert_eq!((seen_exits, seen.slots[0].queue), (exits.to_vec(), 17));
    assert_eq!(seen.slots[3].restarts, 5);
    let cell = &seen.cells[0];
    assert_eq!((cell.pid, cell.life, cell.asked), (99, ChildState::Draining, true));
    assert_eq!((cell.slot, cell.generation), (Some(0), 4));
}

#[test]
fn a_successor_takes_over_a_board_of_its_own_layout_only() {
    let mut board = board();
    let (index, cell) = board.claim(Some(0), 1).unwrap();
    count(&cell.counters()[0], 5);
    board.release(index);
    let copy = || board.file.try_clone().unwrap();
    let adopted = Scoreboard::adopt(copy(), LAYOUT).unwrap();
    assert_eq!(adopted.board().snapshot().unwrap().counters, [5, 0]);
    for other in [CellLayout { id: 8, ..LAYOUT }, CellLayout { counters: 900, ..LAYOUT }] {
        let refused = Scoreboard::adopt(copy(), other).unwrap_err().to_string();
        assert!(refused.starts_with("the scoreboard of before has another"), "{refused}");
    }
}

#[test]
fn of_a_board_of_another_layout_is_read_what_every_board_has() {
    let other = CellLayout { id: 8, counters: 40, gauges: 3, told: Told::default() };
    let mut before = Scoreboard::new(other).unwrap();
    post(&before, 2);
    let (dead, cell) = before.claim(Some(1), 2).unwrap();
    count(cell.requests(), 5);
    before.release(dead);
    before.count(&Event::Rolled);
    let (living, cell) = before.claim(Some(1), 3).unwrap();
    cell.ready();
    count(cell.requests(), 9);
    count(cell.in_flight(), 1);
    count(&cell.counters()[0], 7);

    let (mut ours, foreign) = (board(), before.file.try_clone().unwrap());
    let foreign = Scoreboard::adopt_foreign(foreign).unwrap();
    ours.go_on_from(&foreign);
    let (index, _) = ours.claim(Some(1), 3).unwrap();
    ours.belongs(index, 3, 55);
    let lives = [LifePost { cell: index, life: ChildState::Ready, asked: false, is_guest: true }];
    let last_reload = None;
    ours.post(&Post { generation: 1, target: 0, ready: 0, last_reload, slots: &[], lives: &lives });
    ours.mirror(index, &foreign, living);
    let seen = ours.board().snapshot().unwrap();
    let guest = &seen.cells[0];
    assert_eq!((guest.pid, guest.life, guest.is_ready), (55, ChildState::Ready, true));
    assert_eq!((guest.slot, guest.generation, guest.in_flight), (Some(1), 3, 1));
    assert!(guest.gauges.is_empty(), "its own are unknown");
    assert_eq!((seen.facts.rolls, seen.requests), (1, 14), "what the supervisor has counted");
    assert_eq!(seen.counters, [0, 0], "and nothing of the application");
    ours.release(index);
    assert_eq!(ours.board().snapshot().unwrap().requests, 14);

    before.map.words[0].store(MAGIC - 1, Ordering::Relaxed);
    let refused = Scoreboard::adopt_foreign(before.file).unwrap_err().to_string();
    assert!(refused.contains("is of another version"), "{refused}");
}

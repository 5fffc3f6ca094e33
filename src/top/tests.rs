//! Frames of fixtures, at sizes that people have and at all others; keys; rates.

use std::time::Duration;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use supervisor::status::{ChildState, LastReload, WorkerStatus};
use supervisor::{Request, Status};

use super::figures::Figures;
use super::frame;
use super::screen::{Deed, Mode, NO_CONTROL, Screen};

fn worker(slot: usize, requests: u64) -> WorkerStatus {
    // A fifth of them took up to 0.5 ms, the others up to 1 ms.
    let mut durations = vec![0; worker::meters::HISTOGRAM_WORDS];
    (durations[0], durations[1]) = (requests / 5, requests - requests / 5);
    WorkerStatus {
        slot,
        pid: Some(4_200_000 + i32::try_from(slot).unwrap()),
        state: ChildState::Ready,
        generation: 2,
        age_s: Some(75.0),
        heartbeat_age_ms: Some(12),
        requests,
        in_flight: 3,
        connections: 40,
        queue: 1,
        rss_bytes: 30 << 20,
        restarts: 1,
        last_exit: Some("signal 9".to_owned()),
        loop_lag_ms: Some(0.1),
        cpu_s: Some(requests as f64 / 10_000.0),
        durations,
    }
}

fn status(requests: u64, workers: usize) -> Status {
    let mut workers: Vec<_> = (0..workers).map(|slot| worker(slot, requests)).collect();
    // The last slot waits for a worker.
    if let Some(last) = workers.last_mut() {
        let (state, durations) = (ChildState::Backoff, Vec::new());
        let vacant = WorkerStatus { pid: None, state, requests: 0, in_flight: 0, ..last.clone() };
        *last = WorkerStatus { cpu_s: None, loop_lag_ms: None, rss_bytes: 0, durations, ..vacant };
    }
    Status {
        version: "0.1.0".to_owned(),
        pid: 10,
        age_s: Some(7_300.0),
        generation: 3,
        target: workers.len(),
        ready: workers.len().saturating_sub(1),
        last_reload: LastReload::of(None),
        workers,
        children: Vec::new(),
    }
}

fn figures(before: u64, now: u64, workers: usize) -> Figures {
    Figures::of(Some(&status(before, workers)), &status(now, workers), Duration::from_secs(2))
}

fn screen(workers: usize) -> Screen {
    let mut screen = Screen::new(figures(0, 0, workers), true);
    for requests in [100, 400, 900, 2_000] {
        screen.show(figures(0, requests, workers));
    }
    screen
}

fn drawn(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| frame.render_widget(screen, frame.area())).unwrap();
    frame::as_text(terminal.backend().buffer())
}

fn press(screen: &mut Screen, key: char) -> Option<Deed> {
    screen.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE))
}

#[test]
fn at_80_by_24_all_that_is_asked_for_has_room() {
    assert_eq!(drawn(&screen(3), 80, 24), include_str!("frame_80x24.txt"));
}

#[test]
fn at_200_by_50_it_has_room_to_breathe() {
    assert_eq!(drawn(&screen(3), 200, 50), include_str!("frame_200x50.txt"));
}

#[test]
fn one_frame_as_text_has_a_line_per_worker_and_no_keys() {
    let text = frame::text(&figures(0, 2_000, 3), 132);
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(text.starts_with("peace 0.1.0  pid 10  up 2h  generation 3  2 of 3 ready"), "{text}");
    assert!(text.contains("2000 requests/s  p50 0.7ms  p99 1.0ms  in flight 6"), "{text}");
    assert!(!text.contains("q quit"), "{text}");
}

#[test]
fn rates_are_of_the_time_between_two_looks() {
    let figures = figures(1_000, 2_000, 3);
    assert_eq!((figures.requests_per_s, figures.queue), (Some(1_000.0), 3));
    let [first, _, vacant] = &figures.workers[..] else { panic!() };
    assert_eq!((first.requests_per_s, first.cpu_percent), (Some(500.0), Some(5.0)));
    // Half of all are 300 of the 800 that took 0.5 to 1 ms.
    assert_eq!(first.p50_ms, Some(0.5 + 0.5 * 300.0 / 800.0));
    assert_eq!((vacant.requests_per_s, vacant.p50_ms), (None, None));
}

#[test]
fn one_look_has_no_rates_and_who_is_new_began_with_nothing() {
    let (before, now) = (status(1_000, 3), status(2_000, 3));
    let first = Figures::of(None, &now, Duration::ZERO);
    assert_eq!((first.requests_per_s, first.p99_ms), (None, None));
    assert!(first.workers.iter().all(|worker| worker.cpu_percent.is_none()));
    let mut successor = now;
    (successor.workers[0].pid, successor.workers[0].generation) = (Some(99), 3);
    let figures = Figures::of(Some(&before), &successor, Duration::from_secs(2));
    assert_eq!(figures.workers[0].requests_per_s, Some(1_000.0));
}

#[test]
fn what_took_longer_than_all_buckets_is_as_long_as_the_last() {
    let mut now = status(10, 2);
    now.workers[0].durations = vec![0; worker::meters::HISTOGRAM_WORDS];
    now.workers[0].durations[worker::meters::BUCKETS_NS.len()] = 10;
    let figures = Figures::of(Some(&status(0, 2)), &now, Duration::from_secs(1));
    assert_eq!(figures.workers[0].p99_ms, Some(10_000.0));
}

#[test]
fn a_loop_that_stands_still_is_late_before_its_next_heartbeat() {
    let mut now = status(10, 3);
    now.workers[1].heartbeat_age_ms = Some(2_100);
    let figures = Figures::of(None, &now, Duration::ZERO);
    let lags: Vec<_> = figures.workers.iter().map(|worker| worker.loop_lag_ms).collect();
    assert_eq!(lags, [Some(0.1), Some(2_000.0), None]);
    assert_eq!(figures.loop_lag_ms, 2_000.0);
}

#[test]
fn two_workers_of_one_slot_have_one_queue() {
    let mut now = status(10, 2);
    now.workers.insert(0, worker(0, 10));
    assert_eq!(Figures::of(None, &now, Duration::ZERO).queue, 2);
}

#[test]
fn what_changes_something_is_asked_first() {
    for (key, request, question) in [
        ('r', Request::Reload { wait: false }, "replace all 3 workers? y/n"),
        ('+', Request::Scale { workers: 4, wait: false }, "scale from 3 to 4 workers? y/n"),
        ('-', Request::Scale { workers: 2, wait: false }, "scale from 3 to 2 workers? y/n"),
    ] {
        let mut screen = screen(3);
        assert_eq!(press(&mut screen, key), None);
        assert!(drawn(&screen, 80, 24).ends_with(&format!("{question}\n")), "{question}");
        assert_eq!(press(&mut screen.clone(), 'n'), None);
        assert_eq!(press(&mut screen.clone(), 'q'), None, "no is all but yes");
        assert_eq!(press(&mut screen, 'y'), Some(Deed::Ask(request)));
        assert_eq!((screen.mode, press(&mut screen, 'y')), (Mode::Watching, None));
    }
    let mut one = screen(1);
    press(&mut one, '-');
    assert_eq!(
        (one.mode, one.notice.as_deref()),
        (Mode::Watching, Some("there are 1 to 256 workers"))
    );
}

#[test]
fn without_a_control_socket_keys_say_so() {
    let mut screen = Screen { can_ask: false, ..screen(3) };
    assert!(drawn(&screen, 80, 24).ends_with("(no control socket: r + - change nothing)\n"));
    for key in ['r', '+', '-'] {
        assert_eq!(press(&mut screen, key), None);
        assert_eq!((screen.mode, screen.notice.as_deref()), (Mode::Watching, Some(NO_CONTROL)));
        assert_eq!(press(&mut screen, 'y'), None);
    }
}

#[test]
fn keys_show_help_scroll_and_quit() {
    let mut screen = screen(3);
    press(&mut screen, '?');
    assert!(drawn(&screen, 80, 24).contains("how late its event loop was"));
    assert_eq!(press(&mut screen, 'q'), None, "any key leaves the help");
    for _ in 0..9 {
        press(&mut screen, 'j');
    }
    assert_eq!(screen.first, 2);
    screen.show(figures(0, 1, 1));
    assert_eq!(screen.first, 0);
    assert_eq!(press(&mut screen, 'q'), Some(Deed::Quit));
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.press(control_c), Some(Deed::Quit));
}

#[test]
fn a_look_that_fails_leaves_the_numbers_and_says_so() {
    let mut screen = screen(3);
    screen.trouble("no supervisor\u{1b}answers");
    let frame = drawn(&screen, 80, 24);
    assert!(frame.contains("no supervisor answers") && frame.contains("4200000"), "{frame}");
    screen.show(figures(0, 1, 3));
    assert!(!drawn(&screen, 80, 24).contains("no supervisor"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_terminal_is_too_small(
        width in 0_u16..160,
        height in 0_u16..60,
        workers in 0_usize..70,
        keys in "[?r+\\-jkny]{0,4}",
    ) {
        let mut screen = screen(workers);
        for key in keys.chars() {
            press(&mut screen, key);
        }
        drawn(&screen, width, height);
        frame::text(&figures(0, 9, workers), width);
    }
}

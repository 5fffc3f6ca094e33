//! Who uses the processors during a phase.
//!
//! The conductor starts a [`Meter`] when the load begins, lets it sample several times a second, and
//! ends it with the load. Each process is followed by its own processor clock, which counts
//! nanoseconds and includes threads that ended. Children of what is watched belong to it, born
//! during the phase or before, and stay its own when their parent dies. A process that ends counts
//! with what it had used at the last sample; one that comes and goes between two samples is not
//! seen. What the watched ones did not use is `foreign`: PostgreSQL too, when it is not told which
//! one that is. Source: proc_stat(5), clock_getcpuclockid(3).

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use super::processes::{Process, Snapshot};
use crate::report::model::Cpu;

/// What was used since it was started.
#[derive(Debug)]
pub(crate) struct Meter {
    began: Instant,
    own_ns: u64,
    processors: Processors,
    followed: BTreeMap<Process, Usage>,
}

/// Whose work a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Server,
    Postgres,
    Generator,
}

/// The processor time of one process.
#[derive(Debug, Clone, Copy)]
struct Usage {
    owner: Owner,
    /// When the phase began; 0 for those born later.
    before_ns: u64,
    /// At the last sample that saw it.
    last_ns: u64,
}

/// What the processors that we may use have done since the boot, in clock ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Processors {
    count: u64,
    /// In processes and in the kernel for them.
    processes: u64,
    interrupts: u64,
    idle: u64,
    stolen: u64,
}

impl Meter {
    /// Begins. A process that is not there is not watched, and its time will be `None`.
    pub(crate) fn start(server: Option<Pid>, postgres: Option<Pid>, generators: &[Pid]) -> Self {
        let generators = generators.iter().map(|pid| (*pid, Owner::Generator));
        let roots = [(server, Owner::Server), (postgres, Owner::Postgres)];
        let roots = roots.into_iter().filter_map(|(pid, owner)| Some((pid?, owner)));
        let usage = |owner| Usage { owner, before_ns: 0, last_ns: 0 };
        let mut meter = Self {
            began: Instant::now(),
            own_ns: 0,
            processors: Processors::default(),
            followed: roots
                .chain(generators)
                .filter_map(|(pid, owner)| Some((Process::of(pid)?, usage(owner))))
                .collect(),
        };
        meter.sample();
        for usage in meter.followed.values_mut() {
            usage.before_ns = usage.last_ns;
        }
        meter.processors = Processors::now();
        meter.own_ns = own_ns();
        meter.began = Instant::now();
        meter
    }

    /// Follows those that came, and notes how far each has got. 0.4 ms where there are 75 processes.
    pub(crate) fn sample(&mut self) {
        let snapshot = Snapshot::take();
        for process in snapshot.processes() {
            let Some(owner) = self.owner(&snapshot, process) else { continue };
            let Some(now_ns) = used_ns(process.pid) else { continue };
            let born = Usage { owner, before_ns: 0, last_ns: 0 };
            let usage = self.followed.entry(process).or_insert(born);
            usage.last_ns = usage.last_ns.max(now_ns);
        }
    }

    /// What has been used since the start.
    pub(crate) fn end(mut self) -> Cpu {
        self.sample();
        let processors = Processors::now().since(self.processors);
        let elapsed_s = self.began.elapsed().as_secs_f64();
        let own_s = seconds(own_ns() - self.own_ns);
        let server_s = self.used_s(Owner::Server);
        let postgres_s = self.used_s(Owner::Postgres);
        let generator_s = self.used_s(Owner::Generator).unwrap_or_default();
        let known_s = server_s.unwrap_or_default() + postgres_s.unwrap_or_default();
        let capacity_s = elapsed_s * processors.count as f64;
        let known = (known_s + generator_s + own_s) / capacity_s;
        Cpu {
            server_s,
            postgres_s,
            generator_s,
            generator_peak: (self.of(Owner::Generator).map(Usage::used_s))
                .fold(0.0, |peak, used_s| f64::max(peak, used_s / elapsed_s)),
            busy: processors.share(processors.processes + processors.interrupts),
            stolen: processors.share(processors.stolen),
            // Interrupts are nobody's: most serve the load itself, and some kernels count them as
            // the time of whichever process they interrupt.
            foreign: server_s.map(|_| (processors.share(processors.processes) - known).max(0.0)),
        }
    }

    /// Whose a process is: its own or its nearest followed ancestor's.
    fn owner(&self, snapshot: &Snapshot, process: Process) -> Option<Owner> {
        let mut lineage = snapshot.lineage(process);
        lineage.find_map(|one| self.followed.get(&one)).map(|usage| usage.owner)
    }

    fn of(&self, owner: Owner) -> impl Iterator<Item = &Usage> {
        self.followed.values().filter(move |usage| usage.owner == owner)
    }

    /// `None` when nobody was there to be watched.
    fn used_s(&self, owner: Owner) -> Option<f64> {
        self.of(owner).map(Usage::used_s).reduce(|sum, used_s| sum + used_s)
    }
}

impl Usage {
    fn used_s(&self) -> f64 {
        seconds(self.last_ns - self.before_ns)
    }
}

impl Processors {
    /// Zeros where /proc does not tell.
    fn now() -> Self {
        let ours = sched_getaffinity(Pid::from_raw(0)).ok();
        let is_ours = |number| {
            ours.is_none_or(|ours| number < CpuSet::count() && ours.is_set(number) == Ok(true))
        };
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default(), is_ours)
    }

    fn parse(text: &str, is_ours: impl Fn(usize) -> bool) -> Self {
        let mut sum = Self::default();
        for line in text.lines() {
            let Some((number, ticks)) = line.strip_prefix("cpu").and_then(|it| it.split_once(' '))
            else {
                continue;
            };
            // The first line, of all of them, has no number. What guests use is in `user` already.
            if !number.parse().is_ok_and(&is_ours) {
                continue;
            }
            let ticks: Vec<u64> = ticks.split(' ').filter_map(|it| it.parse().ok()).collect();
            let [user, nice, system, idle, io_wait, irq, soft_irq, stolen, ..] = ticks[..] else {
                continue;
            };
            sum.count += 1;
            sum.processes += user + nice + system;
            sum.interrupts += irq + soft_irq;
            sum.idle += idle + io_wait;
            sum.stolen += stolen;
        }
        sum
    }

    fn since(self, earlier: Self) -> Self {
        // The kernel may take back a tick of idle time.
        Self {
            count: self.count,
            processes: self.processes.saturating_sub(earlier.processes),
            interrupts: self.interrupts.saturating_sub(earlier.interrupts),
            idle: self.idle.saturating_sub(earlier.idle),
            stolen: self.stolen.saturating_sub(earlier.stolen),
        }
    }

    /// So many ticks as a share of all.
    fn share(self, ticks: u64) -> f64 {
        let all = self.processes + self.interrupts + self.idle + self.stolen;
        ticks as f64 / all.max(1) as f64
    }
}

/// What a process has used since it was born; `None` when it is gone.
fn used_ns(pid: Pid) -> Option<u64> {
    clock_getcpuclockid(pid).ok().and_then(read_ns)
}

/// What this process has used.
fn own_ns() -> u64 {
    read_ns(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

fn read_ns(clock: ClockId) -> Option<u64> {
    let time = clock.now().ok()?;
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    Some(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).ok()?)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, ChildStdout, Command, Stdio};
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Uses 2 or 1 seconds of a processor until the kernel ends it, as it counts them for that: by
    /// looking at each tick who is running.
    const BURN_2: &str = "ulimit -t 2; while :; do :; done";
    const BURN_1: &str = "ulimit -t 1; while :; do :; done";

    /// Runs a script; what it says can be read, and it can read until it is dropped.
    fn shell(script: &str) -> (Child, Pid, BufReader<ChildStdout>) {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let output = BufReader::new(child.stdout.take().unwrap());
        (child, pid, output)
    }

    fn line(output: &mut impl BufRead) -> String {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line
    }

    /// Samples until everything that holds the other end has ended.
    fn sample_until_closed(meter: &mut Meter, mut output: impl Read + Send + 'static) {
        let (sender, receiver) = mpsc::channel::<()>();
        let reader = thread::spawn(move || {
            let _held = sender;
            output.read_to_end(&mut Vec::new()).unwrap();
        });
        while receiver.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Timeout) {
            meter.sample();
        }
        reader.join().unwrap();
    }

    /// What a process has used, as /proc/<pid>/stat has it: two numbers in hundredths.
    fn listed_s(pid: Pid) -> f64 {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, fields) = line.rsplit_once(") ").unwrap();
        fields.split(' ').skip(11).take(2).map(|it| it.parse::<f64>().unwrap() / 100.0).sum()
    }

    #[track_caller]
    fn assert_near(value: f64, expected: f64, tolerance: f64) {
        assert!((value - expected).abs() <= tolerance, "{value}, expected {expected}");
    }

    #[test]
    fn only_what_is_used_after_the_start_counts() {
        let (mut child, pid, output) = shell(BURN_2);
        let began = Instant::now();
        while used_ns(pid).unwrap() < 1_000_000_000 {
            assert!(began.elapsed() < Duration::from_secs(60), "it burns");
        }
        let before_s = listed_s(pid);
        let mut meter = Meter::start(Some(pid), None, &[]);
        sample_until_closed(&mut meter, output);
        let cpu = meter.end();
        let after_s = listed_s(pid);
        child.wait().unwrap();
        assert!(after_s - before_s > 0.5);
        assert_near(cpu.server_s.unwrap(), after_s - before_s, 0.05);
        assert_eq!((cpu.postgres_s, cpu.generator_s, cpu.generator_peak), (None, 0.0, 0.0));
    }

    #[test]
    fn children_count_also_when_born_later_dead_or_orphaned() {
        // Two burn, one after the other; the parent of the second is gone before it begins.
        let orphan = format!("(read -r go <&3; {BURN_1}) & echo orphan; read -r go <&3");
        let (mut child, pid, mut output) =
            shell(&format!("exec 3<&0; ({BURN_1}); sh -c '{orphan}'; true"));
        let mut meter = Meter::start(None, Some(pid), &[]);
        let (sender, receiver) = mpsc::channel();
        let reader = thread::spawn(move || {
            sender.send(line(&mut output)).unwrap();
            output
        });
        let said = loop {
            match receiver.recv_timeout(Duration::from_millis(10)) {
                Ok(said) => break said,
                Err(_) => meter.sample(),
            }
        };
        assert_eq!(said, "orphan\n");
        meter.sample();
        drop(child.stdin.take());
        sample_until_closed(&mut meter, reader.join().unwrap());
        child.wait().unwrap();
        let cpu = meter.end();
        // The ends of both are what passed since the last sample.
        let used_s = cpu.postgres_s.unwrap();
        assert!((1.5..2.2).contains(&used_s), "{used_s}");
        assert_eq!((cpu.server_s, cpu.foreign), (None, None), "no server to tell others from");
    }

    #[test]
    fn the_busiest_generator_shows_and_strangers_are_foreign() {
        let (mut idle, idle_pid, _) = shell("read -r go");
        let (mut stranger, _, stranger_output) = shell(BURN_1);
        let (mut busy, busy_pid, busy_output) = shell(BURN_2);
        let (began, processors) = (Instant::now(), Processors::now().count as f64);
        let mut meter = Meter::start(Some(idle_pid), None, &[busy_pid]);
        sample_until_closed(&mut meter, stranger_output.chain(busy_output));
        let elapsed_s = began.elapsed().as_secs_f64();
        let cpu = meter.end();
        drop(idle.stdin.take());
        let busy_s = listed_s(busy_pid);
        for child in [&mut idle, &mut stranger, &mut busy] {
            child.wait().unwrap();
        }
        assert_near(cpu.generator_s, busy_s, 0.05);
        assert_near(cpu.generator_peak, cpu.generator_s / elapsed_s, 0.05);
        let foreign = cpu.foreign.unwrap();
        let foreign_s = foreign * elapsed_s * processors;
        assert!(foreign_s > 0.7, "{foreign_s}: {cpu:?}");
        assert!(cpu.busy >= foreign + cpu.generator_s / elapsed_s / processors - 0.05);
        assert!(cpu.busy + cpu.stolen <= 1.0);
    }

    #[test]
    fn processors_that_are_not_ours_are_left_out() {
        let text = "cpu  6 6 6 6 6 6 6 6 6 6\ncpu0 1 2 3 4 5 6 7 8 1 0\n\
                    cpu1 9 9 9 9 9 9 9 9 9 9\nintr 5 4\n";
        let one = Processors::parse(text, |number| number == 0);
        let seen = Processors {
            count: 1,
            processes: 1 + 2 + 3,
            interrupts: 6 + 7,
            idle: 4 + 5,
            stolen: 8,
        };
        assert_eq!(one, seen);
        assert_eq!(Processors::parse(text, |_| true).count, 2);
        assert_near(one.share(one.stolen), 8.0 / 36.0, 1e-9);
        assert_near(Processors::default().share(0), 0.0, 1e-9);
    }
}

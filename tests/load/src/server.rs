//! A server under test: started, asked, ended.
//!
//! The conductor starts one for each contestant of each round and hands its address to the generators.
//! Ours is asked about its workers over its control socket; of others only the processes are known.
//! Promises: one that does not start is an error with its own last words; none is left behind.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use peace::ctl::{self, Ask};
use supervisor::status::ChildState;
use supervisor::{Request, Status};

use crate::api::Api;
use crate::guard::{Guard, Held};
use crate::plan::Start;
use crate::target::Target;
use crate::wait::pause;

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(60);
/// How long one that runs already may take to answer.
const GREETING: Duration = Duration::from_secs(5);
/// How long a server may take to leave.
const STOP: Duration = Duration::from_secs(30);
/// How much of its log is shown when it fails.
const LAST_LINES: usize = 5;

/// What a server is started with.
pub(crate) struct Setting<'a> {
    pub(crate) start: &'a Start,
    pub(crate) workers: Option<u32>,
    /// `peace-supervisor`.
    pub(crate) program: &'a Path,
    /// Further settings of it.
    pub(crate) settings: &'a [String],
    /// Where a command listens that cannot be told.
    pub(crate) port: Option<u16>,
    pub(crate) database_url: Option<&'a str>,
    /// What must not be shown of its words.
    pub(crate) secrets: &'a [String],
    /// Set when somebody wants it all to end.
    pub(crate) stop: &'a AtomicBool,
}

/// A server that answers.
pub(crate) struct Server {
    pub(crate) target: Target,
    process: Option<Process>,
    /// From its start to its first answer.
    pub(crate) ready_s: Option<f64>,
}

/// What we started.
struct Process {
    held: Held,
    secrets: Vec<String>,
    log: PathBuf,
    /// Ours has one.
    control: Option<PathBuf>,
}

impl Server {
    /// Starts it and waits until it answers. **Blocks** for up to a minute.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not answer; in one line.
    pub(crate) fn start(setting: &Setting<'_>, guard: &mut Guard) -> Result<Self, String> {
        let port = match setting.start {
            Start::Running(url) => return Self::running(url),
            Start::Command(command) if !command.contains("{port}") => {
                setting.port.map_or_else(free_port, unless_taken)?
            }
            _ => free_port()?,
        };
        let log = guard.folder().join("server.log");
        let control = guard.folder().join("control.sock");
        let mut command = match setting.start {
            Start::Command(text) => shell(text, port, setting.workers),
            _ => peace(setting, port, &control),
        };
        let jwt_secret = format!("{:032x}", fastrand::u128(..));
        command.env("JWT_SECRET_KEY", &jwt_secret);
        command.envs(setting.database_url.map(|url| ("DATABASE_URL", url)));
        let file = File::create(&log).map_err(|error| format!("cannot log: {error}"))?;
        let output = file.try_clone().map_err(|error| format!("cannot log: {error}"))?;
        command.stdin(Stdio::null()).stdout(output).stderr(file);
        let started = Instant::now();
        let held = guard.spawn(&mut command, Signal::SIGTERM);
        let held = held.map_err(|error| {
            format!("cannot start {}: {error}", command.get_program().display())
        })?;
        let ours = *setting.start == Start::Peace;
        let secrets = setting.secrets.iter().cloned().chain([jwt_secret]).collect();
        let process = Process { held, secrets, log, control: ours.then_some(control) };
        let target = Target::local(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut server = Self { target, process: Some(process), ready_s: None };
        match server.await_answer(setting) {
            Ok(()) => {
                server.ready_s = Some(started.elapsed().as_secs_f64());
                Ok(server)
            }
            Err(why) => {
                server.end(guard);
                Err(why)
            }
        }
    }

    /// One that runs already.
    fn running(url: &str) -> Result<Self, String> {
        let target = Target::parse(url)?;
        let api = Api::of(&target, GREETING);
        match api.status_of("/") {
            Ok(_) => Ok(Self { target, process: None, ready_s: None }),
            Err(why) => Err(format!("{url} does not answer: {why}; is the server running?")),
        }
    }

    fn await_answer(&mut self, setting: &Setting<'_>) -> Result<(), String> {
        let api = Api::of(&self.target, GREETING);
        let started = Instant::now();
        let ours = self.process.as_ref().is_some_and(|process| process.control.is_some());
        loop {
            let last = match ours {
                true => api.status_of("/health/ready").and_then(|status| match status {
                    200 if self.all_are_ready() => Ok(()),
                    200 => Err("some workers are not ready yet".to_owned()),
                    status => Err(format!("/health/ready answers {status}")),
                }),
                false => api.status_of("/").map(|_| ()),
            };
            let Err(why) = last else { return Ok(()) };
            if setting.stop.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            let what = name_of(setting);
            if let Some(ended) = self.ended() {
                return Err(format!("{what} ended ({ended}){}", self.last_words()));
            }
            if started.elapsed() > START {
                let limit = START.as_secs();
                return Err(format!(
                    "{what} is not there after {limit} s: {why}{}",
                    self.last_words()
                ));
            }
            pause();
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        Some(process.held.child().try_wait().ok()??.to_string())
    }

    /// The end of its log, to stand behind an error.
    pub(crate) fn last_words(&self) -> String {
        let Some(process) = &self.process else { return String::new() };
        let log = fs::read(&process.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let log = process.secrets.iter().fold(log, |log, secret| log.replace(secret, "***"));
        let mut lines: Vec<&str> = log.lines().rev().take(LAST_LINES).collect();
        lines.reverse();
        if lines.is_empty() { String::new() } else { format!("; it said:\n{}", lines.join("\n")) }
    }

    /// The first process of it, when it is ours.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(|process| Pid::from_raw(process.held.pid()))
    }

    /// What the supervisor says; `None` for servers that are none of ours.
    pub(crate) fn status(&self) -> Option<Status> {
        let ask = self.ask(Request::Status)?;
        serde_json::from_str(&ctl::run(&ask).ok()?).ok()
    }

    fn all_are_ready(&self) -> bool {
        self.status().is_some_and(|status| status.ready == status.target)
    }

    /// Waits until as many workers serve as there are to be; one that was killed is replaced after a
    /// pause that grows with the deaths of its slot. **Blocks** for up to a minute, or until `stop`.
    ///
    /// # Errors
    /// When there are not enough by then.
    pub(crate) fn await_all_ready(&self, stop: &AtomicBool) -> Result<(), String> {
        let started = Instant::now();
        while self.status().is_some() && !self.all_are_ready() {
            if started.elapsed() > START || stop.load(Ordering::Relaxed) {
                return Err("its workers did not come back".to_owned());
            }
            pause();
        }
        Ok(())
    }

    /// Slot and process of each worker that serves.
    pub(crate) fn ready_workers(&self) -> Vec<(usize, i32)> {
        let workers = self.status().map_or_else(Vec::new, |status| status.workers);
        let ready = workers.iter().filter(|one| one.state == ChildState::Ready);
        ready.filter_map(|one| Some((one.slot, one.pid?))).collect()
    }

    /// Begins to replace all workers. Servers that are none of ours get what means that to most: HUP.
    ///
    /// # Errors
    /// When it is refused: why.
    pub(crate) fn reload(&self) -> Result<(), String> {
        match &self.process {
            Some(Process { control: None, held, .. }) => {
                kill(Pid::from_raw(held.pid()), Signal::SIGHUP).map_err(|error| error.to_string())
            }
            _ => self.order(Request::Reload { wait: false }),
        }
    }

    /// Begins to run so many workers.
    ///
    /// # Errors
    /// When it is refused: why.
    pub(crate) fn scale(&self, workers: u32) -> Result<(), String> {
        self.order(Request::Scale { workers: workers as usize, wait: false })
    }

    fn order(&self, request: Request) -> Result<(), String> {
        let ask = self.ask(request).ok_or("not a server of ours")?;
        ctl::run(&ask).map(|_| ()).map_err(|error| error.to_string())
    }

    fn ask(&self, request: Request) -> Option<Ask> {
        let control = self.process.as_ref()?.control.clone()?;
        Some(Ask { control, request, json: true })
    }

    /// Ends it gracefully, by force after half a minute. The number of transactions that it repeated,
    /// if it tells. **Blocks.**
    pub(crate) fn stop(mut self, guard: &mut Guard) -> Option<u64> {
        self.end(guard);
        let process = self.process.as_ref()?;
        process.control.as_ref()?;
        Some(retries(&fs::read_to_string(&process.log).ok()?))
    }

    fn end(&mut self, guard: &mut Guard) {
        let Some(process) = &mut self.process else { return };
        let group = Pid::from_raw(process.held.pid());
        // Ours ends its children; of another command we do not know who is to be told.
        let _ = match process.control {
            Some(_) => kill(group, Signal::SIGTERM),
            None => killpg(group, Signal::SIGTERM),
        };
        let started = Instant::now();
        let mut is_there = || {
            let leads = matches!(process.held.child().try_wait(), Ok(None));
            leads || killpg(group, None).is_ok()
        };
        while is_there() && started.elapsed() < STOP {
            pause();
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = process.held.child().wait();
        guard.forget(&process.held);
    }
}

/// Sums up what the workers said when they left.
fn retries(log: &str) -> u64 {
    let events = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    let told = events.filter_map(|event: serde_json::Value| find(&event, "retries"));
    told.sum()
}

/// The number under this name, at whatever depth the log's format has it.
fn find(event: &serde_json::Value, name: &str) -> Option<u64> {
    let members = event.as_object()?;
    let deeper = || members.values().find_map(|value| find(value, name));
    members.get(name).and_then(serde_json::Value::as_u64).or_else(deeper)
}

fn name_of(setting: &Setting<'_>) -> String {
    match setting.start {
        Start::Peace => "peace-supervisor".to_owned(),
        Start::Command(command) => format!("'{command}'"),
        Start::Running(url) => url.clone(),
    }
}

fn peace(setting: &Setting<'_>, port: u16, control: &Path) -> Command {
    let mut command = Command::new(setting.program);
    command.args(["--bind", &format!("127.0.0.1:{port}"), "--log-format", "json"]);
    command.args(["--access-log", "off", "--control"]).arg(control);
    command
        .args(setting.workers.iter().flat_map(|count| ["--workers".to_owned(), count.to_string()]));
    command.args(setting.settings);
    // No settings but these: neither those of our environment nor those of a file.
    command.env_clear();
    let harmless = ["PATH", "HOME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR"];
    command.envs(harmless.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    // No process beside the workers, unless the settings ask for one.
    command.env("PEACE_ADMIN_BIND", "off");
    command.current_dir(control.parent().unwrap_or(Path::new("/")));
    command
}

fn shell(text: &str, port: u16, workers: Option<u32>) -> Command {
    let text = text.replace("{port}", &port.to_string());
    let text = text.replace("{workers}", &workers.unwrap_or(1).to_string());
    // In place of the shell, so that signals reach the server. Of several commands only their author
    // can say which one that is. `env`, since there may be assignments before it.
    let is_one = !text.contains([';', '&', '|', '\n']) && !text.trim_start().starts_with("exec ");
    let mut command = Command::new("sh");
    command.arg("-c").arg(if is_one { format!("exec env {text}") } else { text });
    command
}

/// One that nobody listens at, as the system chooses it.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("no port is free: {error}"))
}

/// Refuses a port at which somebody answers: his answers would be measured as another's.
fn unless_taken(port: u16) -> Result<u16, String> {
    match TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), GREETING) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(port),
        _ => Err(format!("port {port} is taken: stop what listens there, or give another --port")),
    }
}

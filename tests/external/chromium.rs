//! A real headless Chromium, driven over its debugging pipe.
//!
//! The tests of the report's page and of /docs open theirs in it. Messages are JSON, ended by a zero byte: commands
//! go down to descriptor 3 of the browser, answers and events come up from descriptor 4. At end of
//! file it leaves, so it does not outlive us. Every wait has a deadline, and fails as a test does.
//! Source: the Chrome DevTools Protocol.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid};
use serde_json::{Value, json};

use crate::harness::folder::Folder;
use crate::harness::wait::until;

/// How long anything may take, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long it may take to leave.
const GRACE: Duration = Duration::from_secs(10);
/// What systems call it.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// `$@` runs it; its log goes to our standard error.
const SHELL: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
/// No service of its own, no first run, no telling what it is asked to show.
/// No other host either: a name is not even looked up.
const ARGUMENTS: [&str; 12] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--log-level=3",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// A running browser.
pub(crate) struct Chromium {
    browser: Child,
    down: Option<ChildStdin>,
    up: Receiver<Value>,
    sent: u64,
    /// What came unasked and was not taken yet.
    events: Vec<Value>,
    /// Its profile.
    _profile: Folder,
}

/// A page that is open in it.
pub(crate) struct Page<'a> {
    chromium: &'a mut Chromium,
    session: String,
    target: String,
}

impl Chromium {
    pub(crate) fn start() -> Self {
        let profile = Folder::new();
        let mut command = Command::new("sh");
        command.args(["-c", SHELL, "sh", name()]).args(ARGUMENTS);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        if Uid::effective().is_root() {
            // Its sandbox does not work for root; it shows nothing but our own files.
            command.arg("--no-sandbox");
        }
        command.arg("about:blank").current_dir(profile.path()).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut browser = command.spawn().expect("a shell can be started");
        let down = browser.stdin.take();
        let up = listen(browser.stdout.take().expect("it is piped"));
        Self { browser, down, up, sent: 0, events: Vec::new(), _profile: profile }
    }

    /// Opens a file in a window of this width, and waits until it is loaded.
    pub(crate) fn open(&mut self, file: &Path, width: u32, scheme: &str) -> Page<'_> {
        self.open_url(&format!("file://{}", file.display()), width, scheme)
    }

    /// The same with what is at `url`.
    pub(crate) fn open_url(&mut self, url: &str, width: u32, scheme: &str) -> Page<'_> {
        let made = self.call(None, "Target.createTarget", &json!({ "url": "about:blank" }));
        let target = text(&made["targetId"]);
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(&self.call(None, "Target.attachToTarget", &attach)["sessionId"]);
        self.events.clear();
        let mut page = Page { chromium: self, session, target };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        page.call("Emulation.setDeviceMetricsOverride", &size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        page.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
        page.call("Page.navigate", &json!({ "url": url }));
        page.chromium.wait_for("Page.loadEventFired");
        page
    }

    fn call(&mut self, session: Option<&str>, method: &str, params: &Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let down = self.down.as_mut().expect("it is open until the end");
        down.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        loop {
            let message = self.next(method);
            if message["id"] == json!(self.sent) {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn wait_for(&mut self, event: &str) {
        while !self.events.iter().any(|seen| seen["method"] == event) {
            let message = self.next(event);
            self.events.push(message);
        }
    }

    fn next(&self, awaited: &str) -> Value {
        let next = self.up.recv_timeout(DEADLINE);
        next.unwrap_or_else(|error| panic!("{awaited}: Chromium says nothing: {error}"))
    }
}

impl Page<'_> {
    /// What a script in the page comes to.
    pub(crate) fn evaluate(&mut self, script: &str) -> Value {
        let params = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", &params);
        assert!(result["exceptionDetails"].is_null(), "{script}: {result}");
        result["result"]["value"].clone()
    }

    /// A picture of what is in the window, PNG in base64.
    pub(crate) fn screenshot(&mut self) -> String {
        text(&self.call("Page.captureScreenshot", &json!({}))["data"])
    }

    /// The page on paper, PDF in base64.
    pub(crate) fn print(&mut self) -> String {
        let params = json!({ "preferCSSPageSize": true, "printBackground": true });
        text(&self.call("Page.printToPDF", &params)["data"])
    }

    /// What the console has to complain about so far, and what was thrown.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // All events of what was asked before have come when this is answered.
        self.evaluate("0");
        let events = self.chromium.events.iter();
        let complains = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        events.filter(complains).map(|event| event["params"].to_string()).collect()
    }

    /// The addresses that were asked for so far.
    pub(crate) fn requests(&mut self) -> Vec<String> {
        self.evaluate("0");
        let events = self.chromium.events.iter();
        let asks = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        asks.map(|event| text(&event["params"]["request"]["url"])).collect()
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.chromium.call(Some(&self.session), method, params)
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            let target = json!({ "targetId": self.target });
            self.chromium.call(None, "Target.closeTarget", &target);
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        drop(self.down.take());
        let end = Instant::now() + GRACE;
        // Its end of the pipe closes when the last of its processes is gone.
        while self.up.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
        // Most often there is nobody left; the group is ours until we have waited for its leader.
        let leader = i32::try_from(self.browser.id()).expect("a process id fits");
        let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        self.browser.wait().expect("the browser is our child");
        let is_gone = || killpg(Pid::from_raw(leader), None).is_err().then_some(());
        if !thread::panicking() {
            until("all of the browser's processes are gone", GRACE, is_gone);
        }
    }
}

/// The one that is installed.
fn name() -> &'static str {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |name: &&str| std::env::split_paths(&path).any(|place| place.join(name).exists());
    let found = NAMES.into_iter().find(is_there);
    found.expect("Chromium is installed; tests/run --all sees to it")
}

/// Hands on each message that comes, until the browser is gone.
fn listen(up: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for message in BufReader::new(up).split(0).map_while(Result::ok) {
            let message = serde_json::from_slice(&message).expect("a message is JSON");
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

//! README's "In Docker", and the containers that deploy/compose.yaml makes of a copy of this project.
//!
//! The lines are taken out of README.md, so that what stands there is what was run. A [`Stack`] is one use of
//! compose.yaml, with secrets, images and rows; nothing of it but the images is left when it is dropped.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bases::Bases;
use super::engine::{BUILD_S, Engine, SOON_S};
use crate::copied::{Draft, run};
use crate::harness::wait::until;
use crate::openapi::told;

const README: &str = include_str!("../../../README.md");
/// The line that builds, which takes minutes once.
pub(crate) const BUILDS: &str = "docker-compose --profile tests build";
/// The last of those that only write files.
const SETTLES: &str = "export COMPOSE_FILE=";

/// The commands of README's section.
pub(crate) fn readme() -> Vec<&'static str> {
    let (_, section) = README.split_once("\n### In Docker\n").expect("README has the section");
    let (_, block) = section.split_once("```console\n").expect("it begins with commands");
    let (block, _) = block.split_once("```").expect("they end");
    block.lines().map(|line| line.strip_prefix("$ ").expect("a command a line")).collect()
}

/// A copy of the project, on the engine.
pub(crate) struct Stack {
    pub(crate) engine: &'static Engine,
    draft: Draft,
    bases: &'static Bases,
}

impl Stack {
    /// The project as it is cloned.
    pub(crate) fn cloned() -> Self {
        static BASES: OnceLock<Bases> = OnceLock::new();
        let engine = Engine::shared();
        let bases = BASES.get_or_init(|| {
            let begun = Instant::now();
            let bases = Bases::on(engine);
            eprintln!("base images: {:.1?}", begun.elapsed());
            bases
        });
        Self { engine, draft: Draft::exact(), bases }
    }

    /// The same with secrets and images.
    pub(crate) fn built() -> Self {
        static BUILT: OnceLock<()> = OnceLock::new();
        let stack = Self::cloned();
        let lines = readme();
        let settled = lines.iter().position(|line| line.starts_with(SETTLES));
        stack.lines(&lines[..=settled.expect("README says which file")]);
        BUILT.get_or_init(|| {
            let begun = Instant::now();
            stack.lines(&[BUILDS]);
            eprintln!("{BUILDS}: {:.1?}", begun.elapsed());
            stack.forget_old_builds();
        });
        stack
    }

    /// The same, serving.
    pub(crate) fn serving() -> Self {
        let stack = Self::built();
        stack.compose(&["up", "-d"]);
        stack.await_health("app", Duration::from_secs(60));
        stack
    }

    /// What was built of sources or bases that are no more. The layers that the next build goes on with
    /// belong to no image, so they get a name.
    fn forget_old_builds(&self) {
        let rust = format!("RUST_IMAGE={}", self.bases.rust);
        let args = ["build", "--quiet", "--file", "deploy/Dockerfile", "--target", "build"];
        let mut build = self.engine.bounded(BUILD_S, "docker", &args);
        build.args(["--build-arg", &rust, "--build-arg", "PROFILE=dist", "--tag", "kept", "."]);
        run(build.current_dir(self.draft.path()));
        self.engine.run(&["image", "prune", "--force"]);
    }

    /// Lines of a console in the project's folder, as one shell takes them: a terminal is there, and it ends
    /// at the first failure.
    #[track_caller]
    pub(crate) fn lines(&self, lines: &[&str]) -> String {
        let mut script = "set -euo pipefail\n".to_owned();
        for line in lines {
            script += line;
            script += "\n";
        }
        let mut shell = self.at_home(self.engine.bounded(BUILD_S, "script", &[]));
        fs::write(self.path().join("lines.sh"), script).unwrap();
        shell.args(["--quiet", "--return", "--command", "bash lines.sh", "/dev/null"]);
        run(&mut shell)
    }

    /// `docker-compose` with these arguments.
    #[track_caller]
    pub(crate) fn compose(&self, args: &[&str]) -> String {
        run(&mut self.at_home(self.engine.bounded(SOON_S, "docker-compose", args)))
    }

    /// In the project's folder, with images that are there.
    fn at_home(&self, mut command: Command) -> Command {
        command.current_dir(self.path()).env("COMPOSE_FILE", "deploy/compose.yaml");
        command.env("COMPOSE_PROJECT_NAME", "stack");
        let Bases { rust, programs, postgres } = self.bases;
        command.env("RUST_IMAGE", rust).env("BASE_IMAGE", programs);
        command.env("POSTGRES_IMAGE", postgres);
        command
    }

    pub(crate) fn path(&self) -> &Path {
        self.draft.path()
    }

    /// The base of our programs.
    pub(crate) fn base(&self) -> &str {
        &self.bases.programs
    }

    /// The container of a service.
    pub(crate) fn container(&self, service: &str) -> String {
        self.compose(&["ps", "--quiet", service]).trim().to_owned()
    }

    /// What the engine tells of a container or image.
    pub(crate) fn inspect(&self, name: &str) -> Value {
        let told: Value = serde_json::from_str(&self.engine.run(&["inspect", name])).unwrap();
        told[0].clone()
    }

    /// Where a container's server listens, in the engine's network.
    pub(crate) fn address(&self, container: &str) -> SocketAddr {
        let networks = &self.inspect(container)["NetworkSettings"]["Networks"];
        let network = networks.as_object().and_then(|all| all.values().next());
        let ip = network.expect("it is in a network")["IPAddress"].as_str().expect("a text");
        SocketAddr::new(ip.parse::<IpAddr>().expect("it runs"), 8000)
    }

    /// Waits until the health check of a service's container says yes.
    pub(crate) fn await_health(&self, service: &str, limit: Duration) {
        let container = self.container(service);
        until("the health check says yes", limit, || {
            let state = self.inspect(&container)["State"].clone();
            assert_eq!(state["Running"], true, "{state} {}", self.log(service));
            (state["Health"]["Status"] == "healthy").then_some(())
        });
    }

    pub(crate) fn log(&self, service: &str) -> String {
        self.compose(&["logs", "--no-color", service])
    }

    /// How a container of the app's image ends that is run with these options and flags.
    pub(crate) fn run_app(&self, options: &[&str], flags: &[&str]) -> Output {
        self.engine.output(&[&["run", "--rm"], options, &["peace-app"], flags].concat())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let args = ["down", "--volumes", "--remove-orphans", "--timeout", "9"];
        let mut down = self.at_home(self.engine.bounded(SOON_S, "docker-compose", &args));
        if std::thread::panicking() {
            let logs = self.engine.bounded(SOON_S, "docker-compose", &["logs", "--no-color"]);
            eprintln!("{:?}", self.at_home(logs).output().map(|output| told(&output)));
        }
        let gone = down.output().unwrap();
        assert!(gone.status.success() || std::thread::panicking(), "{gone:?}");
    }
}

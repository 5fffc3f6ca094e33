//! The whole way, from arguments, environment and files to a configuration or a refusal.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::setting::Effect;
use super::*;
use crate::addresses::Network;

const GOOD_KEY: &str = "b7f1c2d90e4a58637f1b2c3d4e5f6071";
const GOOD_URL: &str = "postgres://app:hunter2@localhost/peace";

/// A start of the program: what it is given, in a folder of its own.
struct Start {
    args: Vec<String>,
    environment: Vec<(String, OsString)>,
    folder: TempDir,
}

impl Start {
    fn new(line: &str) -> Self {
        let args = line.split_whitespace().map(ToOwned::to_owned).collect();
        Self { args, environment: Vec::new(), folder: tempfile::tempdir().unwrap() }
    }

    /// In production, with all that it requires.
    fn production() -> Self {
        Self::new("")
            .variable("PEACE_ENV", "production")
            .variable("DATABASE_URL", GOOD_URL)
            .variable("JWT_SECRET_KEY", GOOD_KEY)
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        self.file_with_mode(name, text, 0o600)
    }

    fn file_with_mode(self, name: &str, text: &str, mode: u32) -> Self {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn load(&self) -> Result<Loaded, Refusal> {
        let args = std::iter::once(NAME).chain(self.args.iter().map(String::as_str));
        let sources = Sources::new(self.environment.clone(), self.folder.path());
        load(args.map(OsString::from), &sources)
    }

    fn serve(&self) -> (Config, Vec<String>) {
        let loaded = self.load().unwrap_or_else(|refusal| panic!("{refusal}"));
        let Command::Serve(config) = loaded.command else { panic!("{:?}", loaded.command) };
        (*config, loaded.warnings)
    }

    fn config(&self) -> Config {
        self.serve().0
    }

    fn printed(&self) -> (String, Vec<String>) {
        let loaded = self.load().unwrap_or_else(|refusal| panic!("{refusal}"));
        let Command::Print(text) = loaded.command else { panic!("{:?}", loaded.command) };
        (text, loaded.warnings)
    }

    /// What a program is told that needs nothing but the database.
    fn database(&self, flag: Option<&str>) -> Result<Option<Database>, Refusal> {
        let sources = Sources::new(self.environment.clone(), self.folder.path());
        database(flag.map(str::to_owned), &sources)
    }

    /// The problems, without our name at the start of each.
    fn refused(&self) -> Vec<String> {
        let refusal = self.load().map(|loaded| loaded.command).unwrap_err();
        let prefix = format!("{NAME}: ");
        let line = |line: &str| line.strip_prefix(&prefix).unwrap().to_owned();
        refusal.to_string().lines().map(line).collect()
    }
}

#[test]
fn defaults_serve_in_development() {
    let config = Start::new("").config();
    assert_eq!(config.workers, std::thread::available_parallelism().unwrap().get().min(256));
    assert_eq!(config.bind.to_string(), "127.0.0.1:8000");
    assert_eq!(config.admin_bind.unwrap().to_string(), "127.0.0.1:8001");
    assert_eq!(config.environment, Environment::Development);
    assert_eq!(config.database, Database::Embedded);
    assert!(config.jwt_secret.is_none() && config.jwt_secret_previous.is_none());
    assert_eq!((config.pool_size, config.max_connections, config.backlog), (4, 4096, 2048));
    assert_eq!(config.timeout, Duration::from_secs(30));
    assert_eq!(config.boot_timeout, Duration::from_secs(30));
    assert_eq!(config.graceful_timeout, Duration::from_secs(30));
    assert_eq!(config.keepalive_grace, Duration::from_secs(5));
    assert_eq!(config.shutdown_delay, Duration::ZERO);
    assert!(config.steering && config.pid_file.is_none() && !config.transaction_pooler);
    assert_eq!((config.log_format, config.log_filter.as_str()), (None, "info"));
    assert!(config.access_log && config.docs && config.faults.is_none() && !config.debug);
    assert!(config.login_limits && config.trusted_proxies.is_empty());
    assert_eq!(config.refresh_grace, Duration::from_secs(10));
    assert_eq!(config.housekeeping, Duration::from_secs(300));
}

#[test]
fn each_setting_that_has_an_effect_reaches_the_configuration() {
    let config = Start::new(
        "--workers 3 --bind [::1]:9000 --admin-bind 127.0.0.1:9100 --pool-size 7 --timeout 9 \
         --boot-timeout 8s --graceful-timeout 500ms --keepalive-grace 0 --max-connections 10 \
         --backlog 11 --log-format json --access-log off --steering off --shutdown-delay 6 \
         --control c.sock --pid-file p --database-pooler transaction --docs off --log-file l \
         --otlp-endpoint http://otel:4318 --trace-sample 0.25 --login-limits off \
         --trusted-proxies 10.0.0.0/8,::1 --refresh-grace 3 --housekeeping-interval 250ms",
    )
    .variable("DATABASE_URL", GOOD_URL)
    .variable("JWT_SECRET_KEY", GOOD_KEY)
    .variable("JWT_SECRET_KEY_PREVIOUS", "before")
    .variable("RUST_LOG", "warn,worker=debug")
    .variable("PEACE_FAULTS", "1,boot-exit:2")
    .variable("DEBUG", "yes")
    .config();
    assert_eq!((config.workers, config.pool_size), (3, 7));
    assert_eq!((config.max_connections, config.backlog), (10, 11));
    assert_eq!(config.bind.to_string(), "[::1]:9000");
    assert_eq!(config.admin_bind.unwrap().to_string(), "127.0.0.1:9100");
    assert_eq!(
        (config.timeout, config.boot_timeout),
        (Duration::from_secs(9), Duration::from_secs(8))
    );
    assert_eq!(config.graceful_timeout, Duration::from_millis(500));
    assert_eq!(config.keepalive_grace, Duration::ZERO);
    assert_eq!(config.shutdown_delay, Duration::from_secs(6));
    assert_eq!(config.control.as_deref(), Some(Path::new("c.sock")));
    let proxies = ["10.0.0.0/8", "::1"].map(|text| Network::parse(text).unwrap());
    assert_eq!((config.login_limits, config.trusted_proxies), (false, proxies.to_vec()));
    assert_eq!(config.refresh_grace, Duration::from_secs(3));
    assert_eq!(config.housekeeping, Duration::from_millis(250));
    assert_eq!(config.pid_file.as_deref(), Some(Path::new("p")));
    assert!(config.control_is_given && !config.steering && config.transaction_pooler);
    assert_eq!(config.log_format, Some(LogFormat::Json));
    assert_eq!(config.log_file.as_deref(), Some(Path::new("l")));
    let collector = config.collector.as_ref().map(ToString::to_string);
    assert_eq!(collector.as_deref(), Some("http://otel:4318/v1/traces"));
    assert!((config.trace_sample - 0.25).abs() < f64::EPSILON);
    assert_eq!(config.log_filter, "warn,worker=debug");
    assert_eq!(config.jwt_secret.unwrap().expose_secret(), GOOD_KEY);
    assert_eq!(config.jwt_secret_previous.unwrap().expose_secret(), "before");
    assert_eq!(config.faults, Some(Faults { routes: true, boot_exit_slots: vec![2] }));
    assert!(!config.access_log && !config.docs && config.debug);
    let Database::Url(url) = config.database else { panic!() };
    assert_eq!(url.config().get_password(), Some(b"hunter2".as_slice()));
}

/// Each source gives `workers`; from the last to the first, each one added decides.
#[test]
fn the_first_source_in_order_decides() {
    let mut start = Start::new("");
    start = start.file("p.toml", "workers = 11").variable("PEACE_CONFIG", "p.toml");
    assert_eq!(start.config().workers, 11);
    start = start.file(".env", "WEB_CONCURRENCY=12");
    assert_eq!(start.config().workers, 12);
    start = start.file(".env", "WEB_CONCURRENCY=12\nPEACE_WORKERS=13");
    assert_eq!(start.config().workers, 13);
    start = start.variable("WEB_CONCURRENCY", "14");
    assert_eq!(start.config().workers, 14);
    start = start.variable("PEACE_WORKERS", "15");
    assert_eq!(start.config().workers, 15);
    start.args = vec!["--workers".to_owned(), "16".to_owned()];
    assert_eq!(start.config().workers, 16);
}

#[test]
fn a_credential_stands_between_environment_and_dot_env() {
    let mut start = Start::new("")
        .file(".env", "JWT_SECRET_KEY=from-dot-env")
        .variable("CREDENTIALS_DIRECTORY", "credentials");
    let key = |start: &Start| start.config().jwt_secret.unwrap().expose_secret().to_owned();
    assert_eq!(key(&start), "from-dot-env", "a credentials folder may lack a credential");
    start = start.file("credentials/jwt-secret-key", "from-credential\n");
    assert_eq!(key(&start), "from-credential");
    start = start.variable("JWT_SECRET_KEY", "from-environment");
    assert_eq!(key(&start), "from-environment");
}

#[test]
fn what_an_earlier_source_overrides_is_not_checked() {
    let start = Start::new("--workers 2")
        .variable("PEACE_WORKERS", "abc")
        .variable("DATABASE_URL", GOOD_URL)
        .file(".env", "DATABASE_URL_FILE=missing\nPEACE_BIND=nowhere")
        .variable("PEACE_BIND", ":1");
    assert_eq!(start.config().workers, 2);
}

#[test]
fn an_empty_variable_is_not_set() {
    let start = Start::new("")
        .variable("PEACE_WORKERS", "")
        .variable("WEB_CONCURRENCY", "5")
        .variable("JWT_SECRET_KEY_FILE", "")
        .file(".env", "JWT_SECRET_KEY=\nPEACE_POOL_SIZE=");
    let config = start.config();
    assert_eq!((config.workers, config.pool_size), (5, 4));
    assert!(config.jwt_secret.is_none());
}

#[test]
fn the_port_of_a_platform_means_every_address() {
    let bind = |start: Start| start.config().bind.to_string();
    assert_eq!(bind(Start::new("").variable("PORT", "8080")), "0.0.0.0:8080");
    assert_eq!(bind(Start::new("").file(".env", "PORT=8080")), "0.0.0.0:8080");
    assert_eq!(bind(Start::new("--bind :9").variable("PORT", "8080")), "0.0.0.0:9");
    let both = Start::new("").variable("PORT", "8080").variable("PEACE_BIND", "127.0.0.1:9");
    assert_eq!(bind(both), "127.0.0.1:9");
}

#[test]
fn the_admin_address_follows_the_api_in_development_only() {
    let admin = |start: Start| start.config().admin_bind.map(|address| address.to_string());
    assert_eq!(admin(Start::new("--bind :9000")), Some("127.0.0.1:9001".to_owned()));
    assert_eq!(admin(Start::new("--bind :65535")), None);
    assert_eq!(admin(Start::new("--bind :0")), None);
    assert_eq!(admin(Start::new("--bind unix:/run/p.sock")), None);
    let both = Start::new("--bind 127.0.0.1:0 --admin-bind 127.0.0.1:0");
    assert_eq!(admin(both), Some("127.0.0.1:0".to_owned()));
    assert_eq!(admin(Start::new("--admin-bind off")), None);
    assert_eq!(admin(Start::production()), None);
    let set = Start::production().variable("PEACE_ADMIN_BIND", "127.0.0.1:9100");
    assert_eq!(admin(set), Some("127.0.0.1:9100".to_owned()));
}

#[test]
fn the_control_socket_is_where_the_service_or_the_project_is() {
    let control = |start: Start| {
        let config = start.config();
        let path = config.control.map(|path| path.to_str().unwrap().to_owned());
        (path.unwrap_or_default(), config.control_is_given)
    };
    let by_default = |path: &str| (path.to_owned(), false);
    let given = |path: &str| (path.to_owned(), true);
    let service = |start: Start| start.variable("RUNTIME_DIRECTORY", "/run/peace:/run/other");
    assert_eq!(control(Start::new("")), by_default(".peace/control.sock"));
    assert_eq!(control(service(Start::new(""))), by_default("/run/peace/control.sock"));
    assert_eq!(control(Start::production()), by_default(""));
    assert_eq!(control(service(Start::production())), by_default("/run/peace/control.sock"));
    let empty = Start::production().variable("RUNTIME_DIRECTORY", "");
    assert_eq!(control(empty), by_default(""));
    assert_eq!(control(service(Start::new("--control c"))), given("c"));
    assert_eq!(control(Start::production().variable("PEACE_CONTROL", "c")), given("c"));
    assert_eq!(control(service(Start::new("--control off"))), given(""));
    let in_dot_env = Start::new("").file(".env", "RUNTIME_DIRECTORY=/elsewhere");
    assert_eq!(control(in_dot_env), by_default(".peace/control.sock"));
}

#[test]
fn ctl_finds_the_socket_that_serve_opens_whatever_else_is_wrong() {
    let asked = |start: &Start| {
        let loaded = start.load().unwrap_or_else(|refusal| panic!("{refusal}"));
        let Command::Ctl(ask) = loaded.command else { panic!("{:?}", loaded.command) };
        (ask.control.to_str().unwrap().to_owned(), loaded.warnings)
    };
    let start = Start::new("ctl scale 2 --wait").variable("PEACE_WORKERS", "abc");
    let (path, warnings) = asked(&start);
    assert_eq!((path.as_str(), warnings.len()), (".peace/control.sock", 0));
    let Command::Ctl(ask) = start.load().unwrap().command else { panic!() };
    assert_eq!(ask.request, Request::Scale { workers: 2, wait: true });

    let by_file = Start::new("ctl stop")
        .variable("PEACE_CONFIG", "p.toml")
        .file("p.toml", "control = \"by-file\"")
        .file(".env", "PEACE_ENV=production\nRUST_LOG=loud=loud");
    assert_eq!(asked(&by_file), ("by-file".to_owned(), Vec::new()));

    // A broken file might have named another socket.
    let broken = |line: &str| Start::new(line).file(".env", "oops");
    let (path, warnings) = asked(&broken("ctl status"));
    assert_eq!(path, ".peace/control.sock");
    assert!(warnings.len() == 1 && warnings[0].contains(".env, line 1"), "{warnings:?}");
    assert_eq!(asked(&broken("ctl status --control c")), ("c".to_owned(), Vec::new()));
}

#[test]
fn ctl_refuses_what_it_cannot_know() {
    let off = "--control: off, so nobody can be asked; give the path of the socket";
    assert_eq!(Start::new("ctl status --control off").refused(), [off]);
    assert_eq!(Start::new("ctl status").variable("PEACE_ENV", "production").refused(), [off]);
    let unknown = Start::new("ctl status").variable("PEACE_ENV", "staging").refused();
    assert!(unknown[0].starts_with("PEACE_ENV \"staging\" (environment)"), "{unknown:?}");
}

#[test]
fn every_bad_value_is_one_line_that_says_where_and_how_to_mend_it() {
    let database = "give postgres://USER:PASSWORD@HOST:PORT/NAME or key=value text";
    let lines = [
        (
            Start::new("--workers abc"),
            "--workers \"abc\" (flag): not a whole number; give 1 to 256".to_owned(),
        ),
        (
            Start::new("").variable("WEB_CONCURRENCY", "0"),
            "WEB_CONCURRENCY \"0\" (environment): too small; give 1 to 256".to_owned(),
        ),
        (
            Start::new("").file(".env", "PEACE_WORKERS=300"),
            "PEACE_WORKERS \"300\" (.env): too large; give 1 to 256".to_owned(),
        ),
        (
            Start::new("--config p.toml").file("p.toml", "pool_size = 0"),
            "pool_size \"0\" (file p.toml): too small; give 1 to 100".to_owned(),
        ),
        (
            Start::new("--boot-timeout 2h"),
            "--boot-timeout \"2h\" (flag): too long; \
             give 1ms to 1h, as 500ms, 30s or 2m (a plain number is seconds)"
                .to_owned(),
        ),
        (
            Start::new("").variable("PORT", "http"),
            "PORT \"http\" (environment): not a port; give 0 to 65535, as 8000".to_owned(),
        ),
        (
            Start::new("--bind unix:run/p.sock"),
            "--bind \"unix:run/p.sock\" (flag): not a path from the root; give \
             ADDRESS:PORT in numbers, as 127.0.0.1:8000, or :8000 for every address, or unix:/PATH"
                .to_owned(),
        ),
        (
            Start::new("").variable("DEBUG", "express:*"),
            "DEBUG \"express:*\" (environment): not a switch; give on or off".to_owned(),
        ),
        (
            Start::new("--database-url nonsense"),
            format!("--database-url (flag): not a database URL; {database}"),
        ),
        (
            Start::new("--bind postgres://u:hunter2@h/d"),
            "--bind (flag): not an address; give ADDRESS:PORT in numbers, as 127.0.0.1:8000, \
             or :8000 for every address, or unix:/PATH"
                .to_owned(),
        ),
        (
            Start::new("--admin-bind 127.0.0.1:8000"),
            "--admin-bind (flag): the address of --bind; give another port".to_owned(),
        ),
        (
            Start::new("--config absent.toml"),
            "--config \"absent.toml\" (flag): no such file; name the file, or leave it out"
                .to_owned(),
        ),
        (
            Start::new("").variable("PEACE_CONFIG", "."),
            "PEACE_CONFIG \".\" (environment): a folder, not a file; name a file".to_owned(),
        ),
        (
            Start::new("--config p.toml").file("p.toml", &" ".repeat(70_000)),
            "--config \"p.toml\" (flag): a file of more than 64 KiB; name the right file"
                .to_owned(),
        ),
        (
            Start::new("").file(".env", "A=1\nJWT_SECRET_KEY = hunter2"),
            ".env, line 2: a bad name; write NAME=value, with no blank around the =".to_owned(),
        ),
        (Start::new("").file(".env/x", ""), ".env: a folder, not a file; name a file".to_owned()),
        (
            Start::new("").variable("PEACE_LOG_FORMAT", "a\nb"),
            "PEACE_LOG_FORMAT \"a\\nb\" (environment): not one of its words; \
             give json or pretty"
                .to_owned(),
        ),
    ];
    for (start, line) in lines {
        assert_eq!(start.refused(), [line]);
    }
}

#[test]
fn a_value_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let mut start = Start::new("");
    start.environment.push(("PEACE_BIND".to_owned(), OsString::from_vec(vec![0xff])));
    assert_eq!(start.refused(), ["PEACE_BIND (environment): not UTF-8; write it as text"]);
}

#[test]
fn every_problem_is_told_at_once() {
    let start = Start::new("config check --workers abc --backlog x")
        .variable("PEACE_ENV", "production")
        .variable("PEACE_POOL_SIZE", "0")
        .file(".env", "oops");
    let subjects: Vec<String> =
        start.refused().iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    let expected = [
        ".env, line 1",
        "--workers \"abc\" (flag)",
        "--backlog \"x\" (flag)",
        "PEACE_POOL_SIZE \"0\" (environment)",
        "DATABASE_URL (not set)",
        "JWT_SECRET_KEY (not set)",
    ];
    assert_eq!(subjects, expected);
}

#[test]
fn production_refuses_weak_secrets_without_repeating_them() {
    Start::production().config();
    let weak = [
        "my-secret-jwt-key",
        "secret",
        "changeme",
        "0123456789abcdef0123456789abcde",
        &"a".repeat(32),
        &"changeme".repeat(4),
    ];
    for secret in weak {
        for name in ["JWT_SECRET_KEY", "JWT_SECRET_KEY_PREVIOUS"] {
            let lines = Start::production().variable(name, secret).refused();
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].starts_with(&format!("{name} (environment): ")), "{}", lines[0]);
            assert!(secret == "secret" || !lines[0].contains(secret), "{}", lines[0]);
        }
    }
    let missing = "production generates no key; \
                   give 32 random bytes or more, as `openssl rand -base64 48` makes them";
    let lines = Start::production().variable("JWT_SECRET_KEY", "").refused();
    assert_eq!(lines, [format!("JWT_SECRET_KEY (not set): {missing}")]);
}

#[test]
fn production_refuses_what_is_for_development() {
    let aid = "not in production; remove it, or set PEACE_ENV=development";
    for (name, value) in [("DEBUG", "1"), ("PEACE_FAULTS", "1"), ("PEACE_FAULTS", "boot-exit:0")] {
        let lines = Start::production().variable(name, value).refused();
        assert_eq!(lines, [format!("{name} (environment): {aid}")]);
    }
    Start::production().variable("DEBUG", "0").variable("PEACE_FAULTS", "off").config();
    let lines = Start::production().variable("DATABASE_URL", "").refused();
    let embedded = "production has no embedded database; \
                    give postgres://USER:PASSWORD@HOST:PORT/NAME or key=value text";
    assert_eq!(lines, [format!("DATABASE_URL (not set): {embedded}")]);
}

#[test]
fn production_refuses_secrets_in_files_that_are_open_to_every_user() {
    let by_file = |mode| {
        Start::production()
            .variable("JWT_SECRET_KEY", "")
            .variable("JWT_SECRET_KEY_FILE", "key")
            .file_with_mode("key", GOOD_KEY, mode)
    };
    by_file(0o440).config();
    let open = "a secret in a file that is open to every user (mode 0644); \
                chmod it to 0600, or 0640 for a group";
    assert_eq!(by_file(0o644).refused(), [format!("JWT_SECRET_KEY_FILE (environment): {open}")]);
    let in_dot_env = Start::production().variable("JWT_SECRET_KEY", "").file_with_mode(
        ".env",
        &format!("JWT_SECRET_KEY={GOOD_KEY}"),
        0o644,
    );
    assert_eq!(in_dot_env.refused(), [format!("JWT_SECRET_KEY (.env): {open}")]);
    let url = |url: &str| {
        Start::production()
            .variable("DATABASE_URL", "")
            .variable("PEACE_CONFIG", "p.toml")
            .file_with_mode("p.toml", &format!("database-url = '{url}'"), 0o644)
    };
    assert_eq!(url(GOOD_URL).refused(), [format!("database-url (file p.toml): {open}")]);
    url("postgres://app@localhost/peace").config();
    let development = Start::new("")
        .variable("JWT_SECRET_KEY_FILE", "key")
        .file_with_mode("key", GOOD_KEY, 0o644);
    development.config();
}

#[test]
fn secrets_by_file() {
    let start = |name: &str| {
        Start::new("")
            .variable("JWT_SECRET_KEY_FILE", name)
            .file("plain", GOOD_KEY)
            .file("newline", &format!("{GOOD_KEY}\n"))
            .file("windows", &format!("{GOOD_KEY}\r\n"))
            .file("inner", "two\nlines\n")
            .file("empty", "")
            .file("only-newline", "\n")
            .file("folder/x", "")
    };
    for (name, text) in
        [("plain", GOOD_KEY), ("newline", GOOD_KEY), ("windows", GOOD_KEY), ("inner", "two\nlines")]
    {
        assert_eq!(start(name).config().jwt_secret.unwrap().expose_secret(), text, "{name}");
    }
    for (name, wrong) in [
        ("empty", "an empty file; write the secret into it"),
        ("only-newline", "an empty file; write the secret into it"),
        ("missing", "names no file that exists; give the path of a file"),
        ("folder", "a folder, not a file; name a file"),
        ("/dev/null", "not a plain file; name a plain file"),
    ] {
        let line = format!("JWT_SECRET_KEY_FILE (environment): {wrong}");
        assert_eq!(start(name).refused(), [line], "{name}");
    }
    let both = start("plain").variable("JWT_SECRET_KEY", GOOD_KEY).refused();
    let line = "JWT_SECRET_KEY_FILE (environment): JWT_SECRET_KEY is given as well; \
                remove one of the two";
    assert_eq!(both, [line]);
    let url =
        Start::new("").variable("DATABASE_URL_FILE", "url").file("url", &format!("{GOOD_URL}\n"));
    assert!(matches!(url.config().database, Database::Url(_)));
}

#[test]
fn a_secret_by_file_is_read_again() {
    let start = Start::new("").variable("JWT_SECRET_KEY_FILE", "key").file("key", "first");
    assert_eq!(start.config().jwt_secret.unwrap().expose_secret(), "first");
    let start = start.file("key", "second");
    assert_eq!(start.config().jwt_secret.unwrap().expose_secret(), "second");
}

#[test]
fn bad_credentials_are_refused() {
    let start = Start::production()
        .variable("JWT_SECRET_KEY", "")
        .variable("DATABASE_URL", "")
        .variable("CREDENTIALS_DIRECTORY", "c")
        .file("c/jwt-secret-key", "\n")
        .file("c/database-url/x", "");
    let lines = [
        "database-url (credential): a folder, not a file; name a file",
        "jwt-secret-key (credential): an empty file; write the secret into it",
    ];
    assert_eq!(start.refused(), lines);
}

#[test]
fn what_comes_later_is_accepted_with_a_warning() {
    let (_, warnings) = Start::new("").variable("DEBUG", "on").serve();
    let later = SETTINGS.iter().filter(|setting| setting.effect != Effect::Now);
    assert_eq!(warnings.len(), later.count());
    let line = "peace-supervisor: DEBUG (environment): accepted, but has no effect yet";
    assert_eq!(warnings, [line]);
}

#[test]
fn open_item_writes_are_a_warning_in_production() {
    let open = |start: Start| start.variable("PEACE_ITEM_WRITES", "anyone").serve();
    let (config, warnings) = open(Start::production());
    let line = "peace-supervisor: PEACE_ITEM_WRITES (environment): everybody may write \
                everybody's items, without a token; remove it as soon as every client sends one";
    assert_eq!((config.item_writes, &warnings[..]), (ItemWrites::Anyone, &[line.to_owned()][..]));
    let (config, warnings) = open(Start::new(""));
    assert_eq!((config.item_writes, warnings.len()), (ItemWrites::Anyone, 0), "{warnings:?}");
    let (config, warnings) = Start::production().serve();
    assert_eq!((config.item_writes, warnings.len()), (ItemWrites::Owner, 0), "{warnings:?}");
}

#[test]
fn what_looks_like_ours_and_means_nothing_is_a_warning() {
    let (_, warnings) = Start::new("")
        .variable("PEACE_WORKER", "2")
        .variable("PEACE_PORT", "80")
        .variable("PEACE_SERVICE_HOST", "10.0.0.1")
        .variable("PEACE_PORT_8000_TCP", "tcp://10.0.0.1:8000")
        .variable("PEACE_SCRATCH_URL", "x")
        .variable("OTHER", "x")
        .file(".env", "PEACE_FROBNICATE=hunter2\nSOMETHING_ELSE=x")
        .serve();
    let lines = [
        "PEACE_PORT (environment): no such setting, so it is ignored; did you mean PORT?",
        "PEACE_WORKER (environment): no such setting, so it is ignored; \
         did you mean PEACE_WORKERS?",
        "PEACE_FROBNICATE (.env): no such setting, so it is ignored; remove it",
    ];
    assert_eq!(warnings, lines.map(|line| format!("{NAME}: {line}")));
    let kubernetes = Start::new("").variable("PEACE_PORT", "tcp://10.0.0.1:8000");
    assert!(kubernetes.serve().1.is_empty());
}

#[test]
fn development_warns_of_what_production_refuses() {
    let (_, warnings) = Start::new("--bind :8000").variable("JWT_SECRET_KEY", "secret").serve();
    let lines = [
        "JWT_SECRET_KEY (environment): a key that everybody knows, which production refuses; \
         give 32 random bytes or more, as `openssl rand -base64 48` makes them",
        "--bind (flag): development mode, open to other machines; \
         set PEACE_ENV=production, or bind to 127.0.0.1",
    ];
    assert_eq!(warnings, lines.map(|line| format!("{NAME}: {line}")));
    assert!(Start::production().variable("PORT", "8000").serve().1.is_empty());
}

#[test]
fn config_show_prints_every_value_and_its_origin_and_no_secret() {
    let start = Start::new("config show --workers 3 --config p.toml")
        .variable("PEACE_POOL_SIZE", "5")
        .variable("DATABASE_URL", GOOD_URL)
        .variable("CREDENTIALS_DIRECTORY", "c")
        .file("c/jwt-secret-key", "hunter2-hunter2")
        .file(".env", "JWT_SECRET_KEY_PREVIOUS=hunter2")
        .file("p.toml", "backlog = 100");
    let (text, warnings) = start.printed();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows.len(), SETTINGS.len());
    for row in [
        ["workers", "3", "flag"],
        ["pool-size", "5", "environment PEACE_POOL_SIZE"],
        [
            "database-url",
            "postgresql://app:(hidden)@localhost:5432/peace",
            "environment DATABASE_URL",
        ],
        ["jwt-secret-key", "(hidden)", "credential jwt-secret-key"],
        ["jwt-secret-key-previous", "(hidden)", ".env"],
        ["backlog", "100", "file p.toml"],
        ["bind", "127.0.0.1:8000", "default"],
    ] {
        assert!(rows.iter().any(|shown| shown == &row), "{row:?} in\n{text}");
    }
    assert!(!text.contains("hunter2") && !warnings.join("").contains("hunter2"));
}

#[test]
fn config_show_works_with_broken_settings() {
    let start = Start::new("config show --workers abc")
        .variable("DATABASE_URL", "postgres://u:hunter2@h@h/d")
        .variable("JWT_SECRET_KEY_FILE", "missing");
    let (text, notes) = start.printed();
    assert!(text.lines().any(|line| line.starts_with("workers ") && line.contains(" abc ")));
    assert!(text.lines().any(|line| line.contains("(unreadable)")));
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(!text.contains("hunter2") && !notes.join("").contains("hunter2"));
}

#[test]
fn config_check_says_that_all_is_good() {
    let (text, _) = Start::new("config check --workers 2").printed();
    assert_eq!(text, format!("settings: good (1 given, {} by default)\n", SETTINGS.len() - 1));
}

#[test]
fn no_debug_text_shows_a_secret() {
    let start = Start::production().variable("JWT_SECRET_KEY_PREVIOUS", GOOD_KEY);
    let text = format!("{:?}", start.load());
    assert!(text.contains("localhost"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains(GOOD_KEY), "{text}");
}

#[test]
fn commands_that_need_no_settings_read_none() {
    let broken = |line| Start::new(line).variable("PEACE_WORKERS", "abc").file(".env", "broken");
    for line in ["--help", "--version", "completions bash", "completions fish", "config --help"] {
        assert!(!broken(line).printed().0.is_empty(), "{line}");
    }
    assert!(matches!(broken("routes").load().unwrap().command, Command::Routes));
    assert_eq!(broken("serve").refused().len(), 2);
}

#[test]
fn the_table_of_the_readme_has_a_row_for_each_setting() {
    let table = readme_table();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[..2], ["| flag | variable | default | meaning |", "|---|---|---|---|"]);
    assert_eq!(lines.len(), SETTINGS.len() + 2);
    for line in &lines {
        assert_eq!(line.matches('|').count() - line.matches("\\|").count(), 5, "{line}");
    }
    let workers = "| `--workers`, `-w` | `PEACE_WORKERS`, `WEB_CONCURRENCY` \
                   | CPUs this process may use |";
    assert!(lines.iter().any(|line| line.starts_with(workers)));
    let secret = "|  | `JWT_SECRET_KEY` (or `_FILE`) |";
    assert!(lines.iter().any(|line| line.starts_with(secret)));
    assert!(lines.iter().any(|line| line.contains("`DEBUG`") && line.ends_with("(later) |")));
}

#[test]
fn names_and_variables_of_the_table_are_unique_and_every_record_is_complete() {
    let mut names = std::collections::BTreeSet::new();
    for setting in SETTINGS {
        assert!(!setting.meaning.is_empty() && !setting.meaning.ends_with('.'), "{}", setting.name);
        assert!(setting.meaning.len() <= 90, "{}", setting.name);
        assert!(!setting.variables.is_empty(), "{}", setting.name);
        assert!(!setting.secret || setting.variables.len() == 1, "{}", setting.name);
        for name in setting.variables.iter().chain([&setting.name]) {
            assert!(names.insert(*name), "{name} stands twice");
        }
    }
}

#[test]
fn paths_are_taken_from_the_folder_of_the_start_unless_they_are_absolute() {
    let start = Start::new("").file("key", GOOD_KEY);
    let absolute = start.folder.path().join("key");
    assert!(absolute.is_absolute() && Path::new("key").is_relative());
    let start = start.variable("JWT_SECRET_KEY_FILE", absolute.to_str().unwrap());
    assert_eq!(start.config().jwt_secret.unwrap().expose_secret(), GOOD_KEY);
}

#[test]
fn the_database_alone_comes_from_every_source_in_their_order() {
    let found = |start: &Start, flag| match start.database(flag) {
        Ok(Some(Database::Url(url))) => url.config().get_dbname().unwrap_or_default().to_owned(),
        other => panic!("{other:?}"),
    };
    let start = Start::new("").file(".env", "DATABASE_URL=postgres://localhost/dotenv");
    assert_eq!(found(&start, None), "dotenv");
    let start = start.file("url", "postgres://localhost/file").variable("DATABASE_URL_FILE", "url");
    assert_eq!(found(&start, None), "file");
    let start = Start::new("").variable("DATABASE_URL", "postgres://localhost/environment");
    assert_eq!(found(&start, None), "environment");
    assert_eq!(found(&start, Some("postgres://localhost/flag")), "flag");
}

#[test]
fn the_database_alone_is_embedded_in_development_only() {
    assert_eq!(Start::new("").database(None), Ok(Some(Database::Embedded)));
    assert_eq!(Start::new("").variable("PEACE_ENV", "production").database(None), Ok(None));
    let start = Start::new("").file(".env", "PEACE_ENV=production");
    assert_eq!(start.database(None), Ok(None));
}

#[test]
fn the_database_alone_is_not_kept_back_by_other_settings() {
    let start = Start::new("").variable("DATABASE_URL", GOOD_URL);
    let start = start.variable("PEACE_WORKERS", "many").variable("PEACE_ENV", "production");
    assert!(matches!(start.database(None), Ok(Some(Database::Url(_)))));
    let broken = start.file(".env", "what is this");
    assert!(matches!(broken.database(None), Ok(Some(Database::Url(_)))), "it is named elsewhere");

    for start in [
        Start::new("").file(".env", "what is this"),
        Start::new("").variable("PEACE_ENV", "produktion"),
        Start::new("").variable("DATABASE_URL", "mysql://hunter2"),
        Start::new("").variable("DATABASE_URL_FILE", "nowhere"),
    ] {
        let told = start.database(None).unwrap_err().in_one_line();
        assert!(!told.contains("hunter2"), "{told}");
    }
}

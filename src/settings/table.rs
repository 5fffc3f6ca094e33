//! The table of settings: one record each, and the only list of them.
//!
//! Flags, help, completions, README's table, `config show` and `config check` are all made from
//! it. To add a setting, add a record here and, where code reads it, a field in `config`.

use std::time::Duration;

use super::setting::{Effect, Fallback, Flag, Kind, Section, Setting};

const HOUR: Duration = Duration::from_secs(3600);
const UP_TO_AN_HOUR: Kind = Kind::Time { min: Duration::from_millis(1), max: HOUR };
const ZERO_TO_AN_HOUR: Kind = Kind::Time { min: Duration::ZERO, max: HOUR };
const MANY: usize = 1_000_000_000;

/// What most records have in common.
const PLAIN: Setting = Setting {
    name: "",
    flag: Flag::Long,
    variables: &[],
    section: Section::Processes,
    kind: Kind::Path,
    default: Fallback::Unset("none"),
    meaning: "",
    secret: false,
    effect: Effect::Now,
};

/// Every setting, in the order of help and README.
pub const SETTINGS: &[Setting] = &[
    // Processes
    Setting {
        name: "config",
        variables: &["PEACE_CONFIG"],
        meaning: "settings file (TOML); its keys are the names of the settings",
        ..PLAIN
    },
    Setting {
        name: "env",
        variables: &["PEACE_ENV"],
        kind: Kind::Choice(&["development", "production"]),
        default: Fallback::Text("development"),
        meaning: "production refuses embedded databases, weak secrets, faults and debug texts",
        ..PLAIN
    },
    Setting {
        name: "workers",
        flag: Flag::Short('w'),
        variables: &["PEACE_WORKERS", "WEB_CONCURRENCY"],
        kind: Kind::Whole { min: 1, max: 256 },
        default: Fallback::Cpus,
        meaning: "worker processes, each with one event loop and one connection pool",
        ..PLAIN
    },
    Setting {
        name: "user",
        variables: &["PEACE_USER"],
        kind: Kind::Account,
        default: Fallback::Unset("unchanged"),
        meaning: "user the workers run as, by name or number; the supervisor stays root",
        ..PLAIN
    },
    Setting {
        name: "group",
        variables: &["PEACE_GROUP"],
        kind: Kind::Account,
        default: Fallback::Unset("that user's"),
        meaning: "their one group",
        ..PLAIN
    },
    Setting {
        name: "pid-file",
        variables: &["PEACE_PID_FILE"],
        meaning: "file that holds the supervisor's process id and keeps a second copy out",
        ..PLAIN
    },
    Setting {
        name: "control",
        variables: &["PEACE_CONTROL"],
        kind: Kind::Optional(&Kind::Path),
        default: Fallback::Unset(
            "$RUNTIME_DIRECTORY/control.sock; .peace/control.sock in development; else off",
        ),
        meaning: "socket that `peace-supervisor ctl` asks at",
        ..PLAIN
    },
    // Network
    Setting {
        name: "bind",
        variables: &["PEACE_BIND", PORT],
        section: Section::Network,
        kind: Kind::Bind,
        default: Fallback::Text("127.0.0.1:8000"),
        meaning: "address of the API, or unix:/PATH; PORT alone means 0.0.0.0:PORT",
        ..PLAIN
    },
    Setting {
        name: "admin-bind",
        variables: &["PEACE_ADMIN_BIND"],
        section: Section::Network,
        kind: Kind::Optional(&Kind::Address),
        default: Fallback::Unset("loopback, port of --bind + 1, in development; off in production"),
        meaning: "address of /metrics, /status and /health of all processes; for operators only",
        ..PLAIN
    },
    Setting {
        name: "max-connections",
        variables: &["PEACE_MAX_CONNECTIONS"],
        section: Section::Network,
        kind: Kind::Whole { min: 1, max: 1_000_000 },
        default: Fallback::Text("4096"),
        meaning: "connections a worker holds at once; more are turned away",
        ..PLAIN
    },
    Setting {
        name: "backlog",
        variables: &["PEACE_BACKLOG"],
        section: Section::Network,
        kind: Kind::Whole { min: 1, max: 65_535 },
        default: Fallback::Text("2048"),
        meaning: "connections the kernel queues per worker (it caps them at somaxconn)",
        ..PLAIN
    },
    Setting {
        name: "steering",
        variables: &["PEACE_STEERING"],
        section: Section::Network,
        kind: Kind::Switch,
        default: Fallback::Text("on"),
        meaning: "keep new connections away from workers that do not serve",
        ..PLAIN
    },
    Setting {
        name: "docs",
        variables: &["PEACE_DOCS"],
        section: Section::Network,
        kind: Kind::Switch,
        default: Fallback::Text("on"),
        meaning: "serve /docs, /openapi.json, /problems and, in development, a page of links at /",
        ..PLAIN
    },
    Setting {
        name: "trusted-proxies",
        variables: &["PEACE_TRUSTED_PROXIES"],
        section: Section::Network,
        kind: Kind::Optional(&Kind::Networks),
        meaning: "proxies whose word about the client and the trace counts, as 10.0.0.0/8, or unix:",
        ..PLAIN
    },
    Setting {
        name: "cors-origins",
        variables: &["PEACE_CORS_ORIGINS"],
        section: Section::Network,
        kind: Kind::Optional(&Kind::Origins),
        meaning: "web origins whose pages may call the API, as https://app.example.org; * is all",
        ..PLAIN
    },
    // Database
    Setting {
        name: "database-url",
        variables: &["DATABASE_URL"],
        section: Section::Database,
        kind: Kind::DatabaseUrl,
        default: Fallback::Unset("embedded PostgreSQL; production requires a URL"),
        meaning: "postgres://, postgresql://, postgresql+asyncpg:// or key=value text",
        secret: true,
        ..PLAIN
    },
    Setting {
        name: "pool-size",
        variables: &["PEACE_POOL_SIZE"],
        section: Section::Database,
        kind: Kind::Whole { min: 1, max: 100 },
        default: Fallback::Text("4"),
        meaning: "connections each worker keeps to the database",
        ..PLAIN
    },
    Setting {
        name: "database-pooler",
        variables: &["PEACE_DATABASE_POOLER"],
        section: Section::Database,
        kind: Kind::Choice(&["none", "transaction"]),
        default: Fallback::Text("none"),
        meaning: "a pooler between us and PostgreSQL that hands out single transactions",
        ..PLAIN
    },
    // Security
    Setting {
        name: "jwt-secret-key",
        flag: Flag::None,
        variables: &["JWT_SECRET_KEY"],
        section: Section::Security,
        kind: Kind::SecretKey,
        default: Fallback::Unset("development: generated once into .peace/jwt-secret"),
        meaning: "signs access tokens; production requires 32 bytes or more",
        secret: true,
        ..PLAIN
    },
    Setting {
        name: "jwt-secret-key-previous",
        flag: Flag::None,
        variables: &["JWT_SECRET_KEY_PREVIOUS"],
        section: Section::Security,
        kind: Kind::SecretKey,
        meaning: "the key before this one; its tokens stay good until they expire",
        secret: true,
        ..PLAIN
    },
    Setting {
        name: "item-writes",
        flag: Flag::None,
        variables: &["PEACE_ITEM_WRITES"],
        section: Section::Security,
        kind: Kind::Choice(&["owner", "anyone"]),
        default: Fallback::Text("owner"),
        meaning: "who may write items: their owner, with a token, or anyone",
        ..PLAIN
    },
    Setting {
        name: "refresh-grace",
        variables: &["PEACE_REFRESH_GRACE"],
        section: Section::Security,
        kind: ZERO_TO_AN_HOUR,
        default: Fallback::Text("10s"),
        meaning: "a refresh token that is used again within this time does not end its session",
        ..PLAIN
    },
    Setting {
        name: "login-limits",
        variables: &["PEACE_LOGIN_LIMITS"],
        section: Section::Security,
        kind: Kind::Switch,
        default: Fallback::Text("on"),
        meaning: "refuse to look at more than 10 wrong passwords in 15 minutes (100 per address)",
        ..PLAIN
    },
    // Times
    Setting {
        name: "timeout",
        variables: &["PEACE_TIMEOUT"],
        section: Section::Times,
        kind: UP_TO_AN_HOUR,
        default: Fallback::Text("30s"),
        meaning: "a worker silent for this long is replaced",
        ..PLAIN
    },
    Setting {
        name: "boot-timeout",
        variables: &["PEACE_BOOT_TIMEOUT"],
        section: Section::Times,
        kind: UP_TO_AN_HOUR,
        default: Fallback::Text("30s"),
        meaning: "time a worker has from fork to ready",
        ..PLAIN
    },
    Setting {
        name: "graceful-timeout",
        variables: &["PEACE_GRACEFUL_TIMEOUT"],
        section: Section::Times,
        kind: UP_TO_AN_HOUR,
        default: Fallback::Text("30s"),
        meaning: "time requests in flight have after a graceful stop",
        ..PLAIN
    },
    Setting {
        name: "keepalive-grace",
        variables: &["PEACE_KEEPALIVE_GRACE"],
        section: Section::Times,
        kind: ZERO_TO_AN_HOUR,
        default: Fallback::Text("5s"),
        meaning: "time a draining worker keeps idle connections for a next request",
        ..PLAIN
    },
    Setting {
        name: "shutdown-delay",
        variables: &["PEACE_SHUTDOWN_DELAY"],
        section: Section::Times,
        kind: ZERO_TO_AN_HOUR,
        default: Fallback::Text("0"),
        meaning: "time between a graceful stop and its drain, for load balancers to notice",
        ..PLAIN
    },
    Setting {
        name: "housekeeping-interval",
        variables: &["PEACE_HOUSEKEEPING_INTERVAL"],
        section: Section::Times,
        kind: UP_TO_AN_HOUR,
        default: Fallback::Text("5m"),
        meaning: "time, more or less, between two looks for expired rows to delete",
        ..PLAIN
    },
    // Replacement
    Setting {
        name: "max-requests",
        variables: &["PEACE_MAX_REQUESTS"],
        section: Section::Replacement,
        kind: Kind::Optional(&Kind::Whole { min: 1, max: MANY }),
        default: Fallback::Unset("off"),
        meaning: "replace a worker after this many requests",
        ..PLAIN
    },
    Setting {
        name: "max-requests-jitter",
        variables: &["PEACE_MAX_REQUESTS_JITTER"],
        section: Section::Replacement,
        kind: Kind::Optional(&Kind::Whole { min: 1, max: MANY }),
        default: Fallback::Unset("off"),
        meaning: "and up to this many more, at random",
        ..PLAIN
    },
    Setting {
        name: "max-rss",
        variables: &["PEACE_MAX_RSS"],
        section: Section::Replacement,
        kind: Kind::Optional(&Kind::Size { bytes_min: 16 << 20, bytes_max: 1 << 40 }),
        default: Fallback::Unset("off"),
        meaning: "replace a worker that holds this much memory, as 512MiB",
        ..PLAIN
    },
    Setting {
        name: "max-lifetime",
        variables: &["PEACE_MAX_LIFETIME"],
        section: Section::Replacement,
        kind: Kind::Optional(&Kind::Time {
            min: Duration::from_secs(1),
            max: Duration::from_secs(30 * 24 * 3600),
        }),
        default: Fallback::Unset("off"),
        meaning: "replace a worker of this age",
        ..PLAIN
    },
    // Logs
    Setting {
        name: "log-format",
        variables: &["PEACE_LOG_FORMAT"],
        section: Section::Logs,
        kind: Kind::Choice(&["json", "pretty"]),
        default: Fallback::Unset("pretty on a terminal, else json"),
        meaning: "form of log lines",
        ..PLAIN
    },
    Setting {
        name: "log-file",
        variables: &["PEACE_LOG_FILE"],
        section: Section::Logs,
        default: Fallback::Unset("standard error"),
        meaning: "file that log lines are appended to; SIGUSR1 opens it anew",
        ..PLAIN
    },
    Setting {
        name: "access-log",
        variables: &["PEACE_ACCESS_LOG"],
        section: Section::Logs,
        kind: Kind::Switch,
        default: Fallback::Text("on"),
        meaning: "one log line per request",
        ..PLAIN
    },
    Setting {
        name: "log-filter",
        flag: Flag::None,
        variables: &["RUST_LOG"],
        section: Section::Logs,
        kind: Kind::LogFilter,
        default: Fallback::Text("info"),
        meaning: "which log lines are written, as info or info,worker=debug",
        ..PLAIN
    },
    Setting {
        name: "otlp-endpoint",
        variables: &["PEACE_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        section: Section::Logs,
        kind: Kind::Optional(&Kind::Collector),
        default: Fallback::Unset("off"),
        meaning: "collector that traces of requests are sent to, as http://127.0.0.1:4318",
        ..PLAIN
    },
    Setting {
        name: "trace-sample",
        variables: &["PEACE_TRACE_SAMPLE"],
        section: Section::Logs,
        kind: Kind::Share,
        default: Fallback::Text("1"),
        meaning: "part of the requests that is traced where no trusted caller decides",
        ..PLAIN
    },
    // Development
    Setting {
        name: "debug",
        flag: Flag::None,
        variables: &["DEBUG"],
        section: Section::Development,
        kind: Kind::Switch,
        default: Fallback::Text("off"),
        meaning: "add debug text to the answers of errors; refused in production",
        effect: Effect::Later,
        ..PLAIN
    },
    Setting {
        name: "faults",
        flag: Flag::None,
        variables: &["PEACE_FAULTS"],
        section: Section::Development,
        kind: Kind::Faults,
        default: Fallback::Text("off"),
        meaning: "1 adds the /debug routes, boot-exit:SLOT fails a worker; refused in production",
        ..PLAIN
    },
];

/// The variable that platforms give the port by; it gives no address.
pub(super) const PORT: &str = "PORT";

/// The record of this name.
///
/// **Panics** when there is none: names are written in code only.
pub(super) fn setting(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|one| one.name == name).expect("the name stands in the table")
}

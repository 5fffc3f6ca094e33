//! Where PostgreSQL is: every form of the URL, made into one connection configuration.
//!
//! `value` calls it; the parser is tokio-postgres's own, but for the options of TLS, which it does
//! not know (`options`, `encryption`). It promises that no message repeats any part of a URL, that
//! a parsed one shows all but its password, and that of several servers one is asked for that takes
//! writes, unless the URL says `any`. Whether the server answers, it does not know.
//! Source: libpq, "Connection Strings".

mod encryption;
mod options;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::value::Wrong;
use crate::tls::{Tls, TlsError, Verify};
use options::Taken;

/// How to write one that is accepted.
pub(super) const MEND: &str = "give postgres://USER:PASSWORD@HOST:PORT/NAME or key=value text";

/// The options whose values tokio-postgres may refuse: its message may be repeated for these only.
const CHECKED_OPTIONS: &[&str] = &[
    "sslnegotiation",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "channel_binding",
    "load_balance_hosts",
    "host",
];

/// Which of several servers is taken. The driver does not tell whether it was given.
const TARGET: &str = "target_session_attrs";

/// A checked database URL. `Debug` and `Display` show it without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    config: Box<Config>,
    tls: Option<Tls>,
}

impl DatabaseUrl {
    /// A server on this machine, which is spoken to in clear.
    pub fn in_clear(mut config: Config) -> Self {
        config.ssl_mode(SslMode::Disable);
        Self { config: Box::new(config), tls: None }
    }

    /// What to connect with. Its hosts, ports and options are as the URL gave them; its `sslmode` is
    /// `require` where [`DatabaseUrl::tls`] gives something, else `disable`.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// And over which TLS. Reads its files: to be called once, in a process that does not fork.
    ///
    /// # Errors
    /// The first file that is no good.
    pub fn tls(&self) -> Result<Option<Arc<ClientConfig>>, TlsError> {
        self.tls.as_ref().map(Tls::read).transpose()
    }

    /// How it is encrypted, in libpq's words.
    fn ssl_mode(&self) -> Option<&'static str> {
        self.tls.as_ref().map(|tls| match tls.verify {
            Verify::Nothing => "require",
            Verify::Authority(_) => "verify-ca",
            Verify::Name(_) => "verify-full",
        })
    }
}

impl FromStr for DatabaseUrl {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let text = match text.strip_prefix("postgresql+asyncpg://") {
            Some(rest) => format!("postgresql://{rest}"),
            None => text.to_owned(),
        };
        check_scheme(&text)?;
        check_user(&text)?;
        let is_ours = |name: &str| name == TARGET || encryption::is_ours(name);
        let Taken { rest, options } = options::take(&text, is_ours);
        let mut config: Config = rest.parse().map_err(|error| refused(&error))?;
        check_hosts(&config)?;
        config.target_session_attrs(target(&options, &config)?);
        let tls = encryption::tls(&options, &config)?;
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        Ok(Self { config: Box::new(config), tls })
    }
}

/// A URL of another database would be read as key=value text.
fn check_scheme(text: &str) -> Result<(), Wrong> {
    let scheme = text.split_once("://").map_or("postgres", |(scheme, _)| scheme);
    let is_word = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
    if is_word && !matches!(scheme, "postgres" | "postgresql") {
        return Err(Wrong::new("not a URL of PostgreSQL", MEND));
    }
    Ok(())
}

/// `@` ends the user and the password of a URL, wherever it stands: of a password behind it, or of one
/// that is an option, the rest would be taken for a host, and shown as one.
fn check_user(text: &str) -> Result<(), Wrong> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let Some((before, behind)) = rest.and_then(|rest| rest.split_once('@')) else { return Ok(()) };
    if behind.contains('@') {
        return Err(Wrong::new("more than one @", "write an @ of the password as %40"));
    }
    // A password alone may hold a `?`.
    let has_options = |(user, rest): (&str, &str)| !user.contains(':') || rest.contains('=');
    if before.contains('/') || before.split_once('?').is_some_and(has_options) {
        let mend = "write an @ of the password as %40, a / as %2F and a ? as %3F";
        return Err(Wrong::new("an @ behind a path or behind options", mend));
    }
    Ok(())
}

/// Which of the servers is taken. This program writes: where there are several, and nothing is said, one
/// that lets it.
fn target(options: &[(String, String)], config: &Config) -> Result<TargetSessionAttrs, Wrong> {
    let given = options.iter().rev().find(|(name, _)| name == TARGET);
    let several = config.get_hosts().len().max(config.get_hostaddrs().len()) > 1;
    match given.map(|(_, value)| value.as_str()) {
        None if several => Ok(TargetSessionAttrs::ReadWrite),
        None | Some("any") => Ok(TargetSessionAttrs::Any),
        Some("read-write" | "primary") => Ok(TargetSessionAttrs::ReadWrite),
        Some("read-only" | "standby" | "prefer-standby") => {
            let what = "a target_session_attrs that asks for a server without writes";
            Err(Wrong::new(what, "give read-write"))
        }
        Some(_) => Err(Wrong::new("a bad value of target_session_attrs", "give read-write or any")),
    }
}

/// tokio-postgres's reason, if it is one that cannot hold a piece of the text.
fn refused(error: &tokio_postgres::Error) -> Wrong {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let option = CHECKED_OPTIONS
        .iter()
        .find(|option| reason == format!("invalid value for option `{option}`"));
    match option {
        Some(option) => Wrong::new(format!("a bad value of {option}"), MEND),
        None if reason.starts_with("unknown option") => {
            Wrong::new("an unknown option", "remove it, or write it as libpq does")
        }
        None => Wrong::new("not a database URL", MEND),
    }
}

fn check_hosts(config: &Config) -> Result<(), Wrong> {
    let (names, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
    let hosts = names.max(addresses);
    if names.min(addresses) > 0 && names != addresses {
        return Err(Wrong::new("more hosts than hostaddrs", "give one for each, or none"));
    }
    if hosts == 0 {
        return Err(Wrong::new("no host", "add localhost, or the folder of a socket as host="));
    }
    if ![0, 1, hosts].contains(&config.get_ports().len()) {
        return Err(Wrong::new("more ports than hosts", "give one port, or one for each host"));
    }
    let names = hosts_text(config);
    if names.iter().any(String::is_empty) {
        return Err(Wrong::new("an empty host", MEND));
    }
    if names.iter().any(|name| name.contains(',')) {
        return Err(Wrong::new("a comma in a host", "give postgres://A:5432,B:5432/NAME"));
    }
    if names.iter().map(String::as_str).chain(config.get_dbname()).any(|text| text.contains('@')) {
        return Err(Wrong::new("an @ in a host or in the name of the database", MEND));
    }
    Ok(())
}

/// The hosts as people write them; their addresses where no host is named.
fn hosts_text(config: &Config) -> Vec<String> {
    let bracketed = |name: &str| match name.contains(':') {
        true => format!("[{name}]"),
        false => name.to_owned(),
    };
    let hosts = config.get_hosts();
    if hosts.is_empty() {
        return config.get_hostaddrs().iter().map(|one| bracketed(&one.to_string())).collect();
    }
    let text = |host: &Host| match host {
        Host::Unix(folder) => folder.display().to_string(),
        Host::Tcp(name) => bracketed(name),
    };
    hosts.iter().map(text).collect()
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        out.write_str("postgresql://")?;
        if let Some(user) = config.get_user() {
            let password = if config.get_password().is_some() { ":(hidden)" } else { "" };
            write!(out, "{user}{password}@")?;
        }
        for (index, host) in hosts_text(config).iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let port = config.get_ports().get(index).or(config.get_ports().first());
            write!(out, "{comma}{host}:{}", port.unwrap_or(&5432))?;
        }
        write!(out, "/{}", config.get_dbname().unwrap_or_default())?;
        self.ssl_mode().map_or(Ok(()), |mode| write!(out, "?sslmode={mode}"))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_accepted_and_shown_without_its_password() {
        for (text, shown) in [
            (
                "postgres://u:hunter2@localhost/peace",
                "postgresql://u:(hidden)@localhost:5432/peace",
            ),
            ("postgresql://u@127.0.0.1:5433/p", "postgresql://u@127.0.0.1:5433/p"),
            ("postgresql+asyncpg://u:hunter2@[::1]:1/p", "postgresql://u:(hidden)@[::1]:1/p"),
            (
                "host=localhost user=u password='hunter2 x' dbname=p",
                "postgresql://u:(hidden)@localhost:5432/p",
            ),
            (
                "postgres:///p?host=/run/pg&user=u&password=hunter2",
                "postgresql://u:(hidden)@/run/pg:5432/p",
            ),
            (
                "postgres://u:hunter2%40@db1:1,db2:2/p?sslmode=disable",
                "postgresql://u:(hidden)@db1:1,db2:2/p",
            ),
            ("host=db hostaddr=127.0.0.1 user=u dbname=p", "postgresql://u@db:5432/p"),
            ("hostaddr=::1 user=u dbname=p", "postgresql://u@[::1]:5432/p"),
            ("postgres://u:hunter2?@localhost/p", "postgresql://u:(hidden)@localhost:5432/p"),
            ("postgres://u:hunter2@db/p", "postgresql://u:(hidden)@db:5432/p?sslmode=verify-full"),
            (
                "postgresql+asyncpg://u@db1:1,db2:2/p?ssl=require",
                "postgresql://u@db1:1,db2:2/p?sslmode=require",
            ),
        ] {
            let url: DatabaseUrl = text.parse().unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("DatabaseUrl({shown})"));
        }
    }

    #[test]
    fn several_hosts_are_kept() {
        let url: DatabaseUrl =
            "postgres://u@db1:1,db2:2/p?sslmode=disable&target_session_attrs=read-write"
                .parse()
                .unwrap();
        assert_eq!(url.config().get_hosts().len(), 2);
        assert_eq!(url.config().get_ports(), [1, 2]);
    }

    #[test]
    fn of_several_servers_one_is_asked_for_that_takes_writes() {
        use TargetSessionAttrs::{Any, ReadWrite};
        let read_only = "a target_session_attrs that asks for a server without writes";
        for (text, expected) in [
            ("host=localhost", Ok(Any)),
            ("host=localhost target_session_attrs=read-write", Ok(ReadWrite)),
            ("host=localhost,::1", Ok(ReadWrite)),
            ("hostaddr=127.0.0.1,::1", Ok(ReadWrite)),
            ("postgres://localhost:1,localhost:2/p", Ok(ReadWrite)),
            ("postgres://localhost:1,localhost:2/p?target_session_attrs=primary", Ok(ReadWrite)),
            ("postgres://localhost:1,localhost:2/p?target_session_attrs=any", Ok(Any)),
            ("host=localhost target_session_attrs=read-only", Err(read_only)),
            ("host=localhost,::1 target_session_attrs=prefer-standby", Err(read_only)),
            ("host=::1 target_session_attrs=hunter2", Err("a bad value of target_session_attrs")),
        ] {
            let url: Result<DatabaseUrl, Wrong> = text.parse();
            let target = url.map(|url| url.config().get_target_session_attrs());
            assert_eq!(
                target.map_err(|wrong| wrong.what),
                expected.map_err(String::from),
                "{text}"
            );
        }
    }

    const BEHIND: &str = "an @ behind a path or behind options";
    const MISSING_ROOTS: &str = "sslrootcert names no file that can be read";

    #[test]
    fn every_bad_url_is_refused_and_no_part_of_it_is_repeated() {
        for (text, what) in [
            ("hunter2", "not a database URL"),
            ("mysql://u:hunter2@localhost/p", "not a URL of PostgreSQL"),
            ("mysql://u:hunter2@localhost/p?hunter2=1", "not a URL of PostgreSQL"),
            ("postgresql+psycopg://u:hunter2@localhost/p", "not a URL of PostgreSQL"),
            ("postgres://u:hunter2@localhost:hunter2/p", "a bad value of port"),
            ("postgres://u:hunter2@localhost/p?hunter2=1", "an unknown option"),
            ("postgres://u:hunter2@localhost/p?hunter2", "not a database URL"),
            ("postgres://u:pass@hunter2@localhost/p", "more than one @"),
            ("postgres://u:p@hunter2/x@localhost/p", "more than one @"),
            ("postgres:///p?host=/run/pg&user=u&password=pass@hunter2", BEHIND),
            ("postgres://localhost/p?user=u&password=pass@hunter2", BEHIND),
            ("postgres://u:pass/word@hunter2/p", BEHIND),
            ("postgres://localhost?user=u&password=pass@hunter2", BEHIND),
            ("postgres://localhost:5432?user=u&password=pass@hunter2", BEHIND),
            ("postgresql+asyncpg:///p?host=h&password=pass@hunter2", BEHIND),
            ("host=localhost password=pass hunter2 user=u", "not a database URL"),
            ("host=localhost password='hunter2", "not a database URL"),
            (
                "host=localhost dbname=postgres://u:hunter2@h/d",
                "an @ in a host or in the name of the database",
            ),
            ("host=localhost dbname=u:hunter2@h", "an @ in a host or in the name of the database"),
            ("postgres:///hunter2", "no host"),
            ("user=hunter2", "no host"),
            ("postgres://u:hunter2@:5432/p", "an empty host"),
            ("postgres://u:hunter2@localhost/p?port=1", "more ports than hosts"),
            ("host=a,b hostaddr=127.0.0.1 user=hunter2", "more hosts than hostaddrs"),
            ("postgres:///p?host=hunter2,db", "a comma in a host"),
            ("postgres://u:hunter2@db/p?sslmode=hunter2", "an unknown sslmode"),
            ("postgres://u:p@db/p?sslmode=require&sslrootcert=/hunter2", MISSING_ROOTS),
        ] {
            let wrong = text.parse::<DatabaseUrl>().unwrap_err();
            assert_eq!(wrong.what, what, "{text}");
            assert!(!wrong.to_string().contains("hunter2"), "{wrong}");
        }
    }
}

//! The database's address, in every spelling that people bring along.
//!
//! The command line calls it, and the application's settings may; it calls tokio-postgres.
//! It promises that no part of the text, which may hold a password, gets into an error.

use std::borrow::Cow;

use tokio_postgres::Config;

/// The address cannot be used; the text does not repeat it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database URL cannot be read ({reason}): write postgres://user:password@host:5432/name"
)]
pub struct UrlError {
    reason: String,
}

/// Turns SQLAlchemy's `postgresql+asyncpg://` (any driver) into `postgresql://`.
///
/// Anything else, `key=value` pairs included, stays as it is.
pub fn without_driver(url: &str) -> Cow<'_, str> {
    match url.split_once("://") {
        Some((scheme, rest)) if scheme.starts_with("postgresql+") => {
            Cow::Owned(format!("postgresql://{rest}"))
        }
        _ => Cow::Borrowed(url),
    }
}

/// Reads `postgres://`, `postgresql://`, `postgresql+asyncpg://` or `key=value` pairs.
pub fn parse_url(url: &str) -> Result<Config, UrlError> {
    let config: Config =
        without_driver(url.trim()).parse().map_err(|error| UrlError { reason: reason(&error) })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(UrlError { reason: "it names no host".to_owned() });
    }
    Ok(config)
}

/// The driver's words, unless they could quote a piece of the text.
fn reason(error: &tokio_postgres::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if source.starts_with("invalid value") { source } else { "unknown option or syntax".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::Host;

    #[test]
    fn every_spelling_is_read() {
        let spellings = [
            "postgres://me:secret@db:5433/peace",
            "postgresql://me:secret@db:5433/peace",
            "postgresql+asyncpg://me:secret@db:5433/peace",
            "host=db port=5433 user=me password=secret dbname=peace",
            " postgres://me:secret@db:5433/peace\n",
        ];
        for text in spellings {
            let config = parse_url(text).unwrap();
            assert_eq!(config.get_hosts(), [Host::Tcp("db".into())], "{text}");
            assert_eq!(config.get_ports(), [5433], "{text}");
            assert_eq!(config.get_password(), Some(&b"secret"[..]), "{text}");
            assert_eq!(config.get_dbname(), Some("peace"), "{text}");
        }
    }

    #[test]
    fn a_bad_one_is_refused_without_repeating_it() {
        let cases = [
            ("postgres://me:hunter2@db:port/peace", "invalid value for option `port`"),
            ("postgres://me:hunter2@db/peace?hunter2=1", "unknown option or syntax"),
            ("password=one hunter2=two host=db", "unknown option or syntax"),
            ("hunter2", "unknown option or syntax"),
            ("", "it names no host"),
            ("user=me password=hunter2", "it names no host"),
        ];
        for (text, reason) in cases {
            let error = parse_url(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

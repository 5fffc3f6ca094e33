//! What `sslmode` and its companions ask for: TLS or none, and whom it takes for the server.
//!
//! `database` calls it with the options that the driver does not know, and what the driver made of
//! the rest. Promises: nothing leaves this machine in clear, or for a server whose certificate
//! nobody looks at, unless the URL says so; no message repeats any part of the URL. The files are
//! only looked for; `tls` reads them.
//! Source: libpq, "SSL Support" and "Parameter Key Words".

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::super::value::Wrong;
use crate::tls::{Identity, Roots, Tls, Verify};

/// The options that are read here; `ssl` is how asyncpg calls `sslmode`.
const OPTIONS: [&str; 5] = ["sslmode", "ssl", "sslrootcert", "sslcert", "sslkey"];

const MEND_MODE: &str = "give sslmode=verify-full, or disable on a network you trust";

pub(super) fn is_ours(option: &str) -> bool {
    OPTIONS.contains(&option)
}

/// How the connections of `config` are encrypted; the last one of each of `options` counts.
pub(super) fn tls(options: &[(String, String)], config: &Config) -> Result<Option<Tls>, Wrong> {
    let given = |name: &str| {
        let found = options.iter().rev().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    };
    let roots = given("sslrootcert").map(|value| match value {
        "system" => Roots::System,
        path => Roots::File(path.into()),
    });
    let mode = given("sslmode").or(given("ssl"));
    let is_meant =
        ["sslrootcert", "sslcert", "sslkey"].into_iter().any(|name| given(name).is_some());
    let Some(verify) = verify(mode, roots, is_local(config) && !is_meant)? else { return Ok(None) };
    if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)))
        && config.get_hostaddrs().is_empty()
    {
        // Nothing of it passes a network, and PostgreSQL speaks no TLS there.
        return Ok(None);
    }
    check_names(config)?;
    check_files(&verify)?;
    Ok(Some(Tls { verify, identity: identity(given("sslcert"), given("sslkey"))? }))
}

/// Whom `mode` takes for the server; `None` for no TLS at all.
fn verify(
    mode: Option<&str>,
    roots: Option<Roots>,
    may_be_clear: bool,
) -> Result<Option<Verify>, Wrong> {
    match (mode, roots) {
        (Some("disable"), _) => Ok(None),
        (None | Some("allow" | "prefer"), _) if may_be_clear => Ok(None),
        (Some("allow" | "prefer"), _) => {
            Err(Wrong::new("an sslmode that anybody on the way can turn off", MEND_MODE))
        }
        (None | Some("verify-full"), roots) => {
            Ok(Some(Verify::Name(roots.unwrap_or(Roots::System))))
        }
        (Some("require"), None) => Ok(Some(Verify::Nothing)),
        // As libpq does: whoever names an authority wants it asked.
        (Some("require" | "verify-ca"), Some(roots @ Roots::File(_))) => {
            Ok(Some(Verify::Authority(roots)))
        }
        (Some("require" | "verify-ca"), _) => Err(Wrong::new(
            "an sslmode that would believe whoever has any certificate",
            "give sslmode=verify-full, or your own authority's file as sslrootcert",
        )),
        (Some(_), _) => {
            Err(Wrong::new("an unknown sslmode", "give disable, require, verify-ca or verify-full"))
        }
    }
}

/// Whether what is sent stays on this machine. Addresses decide where both are given.
fn is_local(config: &Config) -> bool {
    if !config.get_hostaddrs().is_empty() {
        return config.get_hostaddrs().iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) if name == "localhost" => true,
        Host::Tcp(name) => name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
    })
}

/// TLS needs a name for each server.
fn check_names(config: &Config) -> Result<(), Wrong> {
    if config.get_hosts().is_empty() {
        return Err(Wrong::new("a hostaddr without a host, for TLS", "add host=NAME"));
    }
    match config.get_hosts().iter().any(|host| matches!(host, Host::Unix(_))) {
        true => Err(Wrong::new("a socket among hosts that speak TLS", "leave it out")),
        false => Ok(()),
    }
}

fn check_files(verify: &Verify) -> Result<(), Wrong> {
    match verify {
        Verify::Authority(Roots::File(path)) | Verify::Name(Roots::File(path)) => {
            check_readable("sslrootcert", path)
        }
        _ => Ok(()),
    }
}

fn identity(certificate: Option<&str>, key: Option<&str>) -> Result<Option<Identity>, Wrong> {
    match (certificate.map(Path::new), key.map(Path::new)) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            check_readable("sslcert", certificate)?;
            check_readable("sslkey", key)?;
            Ok(Some(Identity { certificate: certificate.into(), key: key.into() }))
        }
        _ => Err(Wrong::new("sslcert or sslkey without the other", "give both, or neither")),
    }
}

fn check_readable(option: &str, path: &Path) -> Result<(), Wrong> {
    match File::open(path) {
        Ok(_) => Ok(()),
        Err(_) => Err(Wrong::new(
            format!("{option} names no file that can be read"),
            "give the path of a PEM file",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::DatabaseUrl;
    use super::*;

    fn encryption(text: &str) -> Result<Option<Tls>, String> {
        let url: Result<DatabaseUrl, Wrong> = text.parse();
        url.map(|url| url.tls).map_err(|wrong| wrong.what)
    }

    fn verify(text: &str) -> Option<Verify> {
        encryption(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}")).map(|tls| tls.verify)
    }

    /// A file that is there.
    const FILE: &str = file!();

    #[test]
    fn what_leaves_this_machine_is_encrypted_unless_somebody_says_otherwise() {
        for text in ["host=db", "host=localhost,db", "host=localhost hostaddr=10.0.0.1"] {
            assert_eq!(verify(text), Some(Verify::Name(Roots::System)), "{text}");
            assert_eq!(verify(&format!("{text} sslmode=disable")), None, "{text}");
        }
        for text in ["host=localhost", "host=::1,127.0.0.2", "host=db hostaddr=127.0.0.1"] {
            assert_eq!(verify(text), None, "{text}");
            assert_eq!(verify(&format!("{text} sslmode=prefer")), None, "{text}");
            assert_eq!(verify(&format!("{text} sslmode=require")), Some(Verify::Nothing), "{text}");
        }
        assert_eq!(verify("host=/run/pg sslmode=verify-full"), None);
    }

    #[test]
    fn whom_a_mode_takes_for_the_server() {
        let file = || Roots::File(FILE.into());
        for (options, expected) in [
            ("sslmode=require", Verify::Nothing),
            ("sslmode=require sslrootcert=FILE", Verify::Authority(file())),
            ("sslmode=verify-ca sslrootcert=FILE", Verify::Authority(file())),
            ("sslmode=verify-full", Verify::Name(Roots::System)),
            ("sslmode=verify-full sslrootcert=system", Verify::Name(Roots::System)),
            ("sslmode=verify-full sslrootcert=FILE", Verify::Name(file())),
            ("sslrootcert=FILE", Verify::Name(file())),
            ("sslmode=disable sslmode=require", Verify::Nothing),
        ] {
            let text = format!("host=localhost {}", options.replace("FILE", FILE));
            assert_eq!(verify(&text), Some(expected), "{options}");
        }
    }

    #[test]
    fn a_client_shows_both_or_neither() {
        let both = format!("host=localhost sslcert={FILE} sslkey={FILE}");
        let identity = encryption(&both).unwrap().unwrap().identity;
        assert_eq!(identity, Some(Identity { certificate: FILE.into(), key: FILE.into() }));
        let one = format!("host=localhost sslcert={FILE}");
        assert_eq!(encryption(&one), Err("sslcert or sslkey without the other".to_owned()));
    }

    #[test]
    fn what_would_be_less_than_it_seems_is_refused() {
        let believes_all = "an sslmode that would believe whoever has any certificate";
        for (text, what) in [
            ("host=db sslmode=prefer", "an sslmode that anybody on the way can turn off"),
            ("host=db sslmode=allow", "an sslmode that anybody on the way can turn off"),
            ("host=db sslmode=verify-ca", believes_all),
            ("host=db sslmode=verify-ca sslrootcert=system", believes_all),
            ("host=db sslmode=require sslrootcert=system", believes_all),
            ("host=db sslmode=Require", "an unknown sslmode"),
            ("host=/run/pg sslmode=sometimes", "an unknown sslmode"),
            ("host=db sslmode=verify-full sslrootcert=/nonexistent", NO_ROOTS),
            ("host=db,/run/pg", "a socket among hosts that speak TLS"),
            ("hostaddr=10.0.0.1", "a hostaddr without a host, for TLS"),
        ] {
            assert_eq!(encryption(text), Err(what.to_owned()), "{text}");
        }
    }

    const NO_ROOTS: &str = "sslrootcert names no file that can be read";
}

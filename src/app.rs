//! What all handlers share, and how it is put together.
//!
//! The worker calls [`build`] once, in its own process after the fork; every handler then finds
//! the [`App`] in its context. Nothing in it changes while the worker lives, but that it is leaving.
//! Does not know: the routes (`resources`), or what a setting is called (`settings`).

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use secrecy::SecretString;
use worker::{BuildError, Database, Router};

use crate::security::fingerprints::Fingerprints;
use crate::security::passwords::Passwords;
use crate::security::tokens::Tokens;
use crate::settings::{Config, Environment, ItemWrites};
use crate::{development, docs, resources};

/// What handlers work with.
pub struct App {
    /// The worker's pool of connections to PostgreSQL.
    pub database: Database,
    /// Issues and reads access tokens.
    pub tokens: Tokens,
    /// Tells requests that come again from others.
    pub fingerprints: Fingerprints,
    /// Hashes and verifies passwords.
    pub passwords: Passwords,
    /// Who may write items.
    pub item_writes: ItemWrites,
    /// Whether this worker was told to leave, or soon will be.
    pub leaving: Rc<Cell<bool>>,
}

/// What the application is told, the same for every worker.
#[derive(Debug)]
pub struct AppSettings {
    jwt_secret: SecretString,
    jwt_secret_previous: Option<SecretString>,
    item_writes: ItemWrites,
    debug_routes: bool,
    docs: bool,
    in_development: bool,
}

impl AppSettings {
    /// Takes them from the settings. In development a missing secret is made and kept in a file.
    ///
    /// **Errors** when that file can be neither read nor made. **Blocks** on the disk.
    pub fn new(config: &Config) -> io::Result<Self> {
        let jwt_secret = match &config.jwt_secret {
            Some(secret) => secret.clone(),
            None => development::jwt_secret()?,
        };
        Ok(Self {
            jwt_secret,
            jwt_secret_previous: config.jwt_secret_previous.clone(),
            item_writes: config.item_writes,
            debug_routes: config.faults.as_ref().is_some_and(|faults| faults.routes),
            docs: config.docs,
            in_development: config.environment == Environment::Development,
        })
    }
}

/// Puts the application together. It starts the password thread, so only after the fork.
///
/// **Errors** when the system has no thread to give, or two routes contradict each other.
pub fn build(
    database: Database,
    settings: &AppSettings,
    leaving: Rc<Cell<bool>>,
) -> Result<Router, BuildError> {
    let passwords = Passwords::start().map_err(|error| {
        BuildError::Refused(format!("no thread for passwords ({error}): raise the process limit"))
    })?;
    let AppSettings { jwt_secret, jwt_secret_previous, item_writes, .. } = settings;
    let app = App {
        database,
        tokens: Tokens::new(jwt_secret, jwt_secret_previous.as_ref()),
        fingerprints: Fingerprints::new(jwt_secret, jwt_secret_previous.as_ref()),
        passwords,
        item_writes: *item_writes,
        leaving,
    };
    let mut routes = resources::routes(settings.debug_routes);
    if settings.docs {
        docs::routes(&mut routes, settings.in_development);
    }
    Ok(routes.seal(Rc::new(app))?)
}

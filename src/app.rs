//! What all handlers share, and how it is put together.
//!
//! The worker calls [`build`] once, in its own process after the fork; every handler then finds
//! the [`App`] in its context. Nothing in it changes while the worker lives, but that it is leaving.
//! Does not know: the routes (`resources`), or what a setting is called (`settings`).

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::task::spawn_local;
use worker::{BuildError, Database, Router};

use crate::addresses::Network;
use crate::login_limits::LoginLimits;
use crate::metrics::{self, AppMeters};
use crate::security::fingerprints::Fingerprints;
use crate::security::passwords::Passwords;
use crate::security::tokens::Tokens;
use crate::settings::{Config, Environment, ItemWrites};
use crate::{development, docs, housekeeping, readiness, resources};

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
    /// Where it counts.
    pub meters: AppMeters,
    /// Where passwords may be guessed so often and no more.
    pub login_limits: Option<LoginLimits>,
    /// Whose word about the client's address counts.
    pub trusted_proxies: Vec<Network>,
    /// How soon a refresh token may come twice.
    pub refresh_grace: Duration,
    /// Whether this worker was told to leave, or soon will be.
    pub leaving: Rc<Cell<bool>>,
}

/// What the application is told, the same for every worker.
#[derive(Debug)]
pub struct AppSettings {
    jwt_secret: SecretString,
    jwt_secret_previous: Option<SecretString>,
    item_writes: ItemWrites,
    login_limits: bool,
    trusted_proxies: Vec<Network>,
    refresh_grace: Duration,
    housekeeping: Duration,
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
            login_limits: config.login_limits,
            trusted_proxies: config.trusted_proxies.clone(),
            refresh_grace: config.refresh_grace,
            housekeeping: config.housekeeping,
            debug_routes: config.faults.as_ref().is_some_and(|faults| faults.routes),
            docs: config.docs,
            in_development: config.environment == Environment::Development,
        })
    }
}

/// Puts the application together. It starts the password thread and the housekeeping, so only after
/// the fork and in the worker's event loop.
///
/// **Errors** when the system has no thread to give, or two routes contradict each other.
pub fn build(
    database: Database,
    settings: &AppSettings,
    meters: AppMeters,
    leaving: Rc<Cell<bool>>,
) -> Result<Router, BuildError> {
    let passwords = Passwords::start().map_err(|error| {
        BuildError::Refused(format!("no thread for passwords ({error}): raise the process limit"))
    })?;
    let passwords = passwords.counted_in(meters.passwords);
    spawn_local(readiness::watch(database.clone(), meters));
    spawn_local(housekeeping::keep(database.clone(), settings.housekeeping, Rc::clone(&leaving)));
    let AppSettings { jwt_secret, jwt_secret_previous, .. } = settings;
    let app = App {
        database,
        tokens: Tokens::new(jwt_secret, jwt_secret_previous.as_ref()),
        fingerprints: Fingerprints::new(jwt_secret, jwt_secret_previous.as_ref()),
        passwords,
        item_writes: settings.item_writes,
        meters,
        login_limits: settings.login_limits.then(LoginLimits::default),
        trusted_proxies: settings.trusted_proxies.clone(),
        refresh_grace: settings.refresh_grace,
        leaving,
    };
    let mut routes = resources::routes(settings.debug_routes);
    if settings.docs {
        docs::routes(&mut routes, settings.in_development);
    }
    routes.counted_in(metrics::durations().clone());
    Ok(routes.seal(Rc::new(app))?)
}

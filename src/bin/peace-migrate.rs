//! The command `peace-migrate`: what this application declares, and where its database is, handed to
//! the library.

use std::path::Path;
use std::process::ExitCode;

use migrations::Application;
use peace::settings::{self, Database, Sources};
use peace::{embedded, resources};
use tokio_postgres::Config;

fn main() -> ExitCode {
    let application = Application {
        tables: &resources::tables(),
        env: &|name| std::env::var(name).ok(),
        database: &database,
    };
    ExitCode::from(migrations::run(std::env::args_os(), &application))
}

/// Where the server looks too; instead of an embedded database of its own it takes the one that
/// `deploy/up` runs in this folder.
fn database(flag: Option<String>) -> Result<Option<Config>, String> {
    let found = settings::database(flag, &Sources::of_process());
    match found.map_err(|refusal| refusal.in_one_line())? {
        Some(Database::Url(url)) => Ok(Some(url.config().clone())),
        Some(Database::Embedded) => {
            embedded::answering(Path::new(".")).map_err(|error| error.to_string())
        }
        None => Ok(None),
    }
}

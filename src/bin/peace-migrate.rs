//! The command `peace-migrate`: what this application declares, and where its database is, handed to
//! the library.

use std::path::Path;
use std::process::ExitCode;

use migrations::{Access, Application};
use peace::settings::{self, Database, DatabaseUrl, Sources};
use peace::{embedded, resources};

fn main() -> ExitCode {
    let application = Application {
        tables: &resources::tables(),
        env: &|name| std::env::var(name).ok(),
        database: &database,
        read_url: &read_url,
    };
    ExitCode::from(migrations::run(std::env::args_os(), &application))
}

/// Where the server looks too; instead of an embedded database of its own it takes the one that
/// `deploy/up` runs in this folder.
fn database(flag: Option<String>) -> Result<Option<Access>, String> {
    let found = settings::database(flag, &Sources::of_process());
    match found.map_err(|refusal| refusal.in_one_line())? {
        Some(Database::Url(url)) => access(&url).map(Some),
        Some(Database::Embedded) => match embedded::answering(Path::new(".")) {
            Ok(found) => Ok(found.map(Access::from)),
            Err(error) => Err(error.to_string()),
        },
        None => Ok(None),
    }
}

fn read_url(text: &str) -> Result<Access, String> {
    access(&text.parse().map_err(|wrong: settings::Wrong| wrong.to_string())?)
}

fn access(url: &DatabaseUrl) -> Result<Access, String> {
    let tls = url.tls().map_err(|error| format!("the database URL: {error}"))?;
    Ok(Access { config: url.config().clone(), tls })
}

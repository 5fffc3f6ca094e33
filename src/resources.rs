//! The resources of this API: the one place that names them all.
//!
//! `app` asks it for the routes, `serving` for the statements worth preparing, `main` for the list
//! of routes, `peace-migrate` for the tables. To add a resource, write its file beside the others and
//! add two lines here: its `mod` and its entry in `RESOURCES`. Forget one of them and the compiler
//! says so.

use migrations::Table;
use uuid::Uuid;
use worker::{Operation, Routes, payload};

use crate::app::App;
use crate::errors::OWN;
use crate::settings::ItemWrites;
use crate::{housekeeping, idempotency, login_limits, sessions};

/// The statements of a resource, by the names of their constants.
macro_rules! statements {
    ($($sql:path),* $(,)?) => {
        &[$($crate::resources::Statement {
            name: concat!(module_path!(), "::", stringify!($sql)),
            sql: $sql,
        }),*]
    };
}

mod account;
mod auth;
mod debug;
mod health;
mod items;
mod logout;
mod password;
mod users;

const RESOURCES: &[Resource] = &[
    auth::RESOURCE,     // /auth/token, /auth/refresh
    logout::RESOURCE,   // /auth/logout, /auth/logout-all
    health::RESOURCE,   // /health, /version
    items::RESOURCE,    // /items
    password::RESOURCE, // /users/{pubid}/password
    account::RESOURCE,  // /users/{pubid}: what is one's own
    users::RESOURCE,    // /users
];

/// What every resource file hands over.
struct Resource {
    /// Its chapter of the API document: the first word of its routes' names, and what it is about.
    chapter: Chapter,
    /// Declares its routes.
    routes: fn(&mut Routes<App>),
    /// Where its rows are.
    tables: &'static [Table],
    /// The statements of its requests; a worker prepares them when it connects.
    statements: &'static [Statement],
}

payload! {
    /// The path of a row.
    struct RowPath {
        pubid: Uuid = required(worker::Uuid),
    }
}

/// A name, and what stands below it.
type Chapter = (&'static str, &'static str);

/// A statement, and the constant that it is: `peace::resources::items::SELECT`.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// For messages.
    pub name: &'static str,
    /// What is sent.
    pub sql: &'static str,
}

/// Every route; with `debug`, also those that make a worker misbehave.
pub fn routes(debug: bool) -> Routes<App> {
    let mut routes = Routes::new();
    for resource in RESOURCES {
        (resource.routes)(&mut routes);
    }
    if debug {
        debug::routes(&mut routes);
    }
    routes
}

/// Every public route as the API document tells it: where the settings let anyone write items, nobody
/// is asked for a token there.
pub fn told(item_writes: ItemWrites) -> Routes<App> {
    let mut routes = routes(false);
    let (chapter, _) = items::RESOURCE.chapter;
    let is_open = |operation: &&mut Operation| {
        item_writes == ItemWrites::Anyone && operation.name.split('-').next() == Some(chapter)
    };
    for operation in routes.operations_mut().filter(is_open) {
        operation.problems.retain(|kind| !OWN.contains(kind));
    }
    routes
}

/// The chapters of the API document, in order; a resource may stand in another one's.
pub fn chapters() -> Vec<Chapter> {
    let mut chapters: Vec<Chapter> = Vec::new();
    for Resource { chapter: (name, about), .. } in RESOURCES {
        match chapters.iter_mut().find(|(known, _)| known == name) {
            Some((_, text)) if text.is_empty() => *text = about,
            Some(_) => {}
            None => chapters.push((name, about)),
        }
    }
    chapters
}

/// The schema as this program declares it.
pub fn tables() -> Vec<Table> {
    let tables = RESOURCES.iter().flat_map(|resource| resource.tables);
    let others =
        &[idempotency::Answer::TABLE, login_limits::Tries::TABLE, sessions::Session::TABLE];
    tables.chain(others).copied().collect()
}

/// Every statement that requests execute.
pub fn statements() -> Vec<Statement> {
    let statements = RESOURCES.iter().flat_map(|resource| resource.statements);
    let others = [
        housekeeping::STATEMENTS,
        idempotency::STATEMENTS,
        login_limits::STATEMENTS,
        sessions::STATEMENTS,
    ];
    statements.chain(others.into_iter().flatten()).copied().collect()
}

/// The routes as a table for a terminal: method, path, name.
pub fn listing() -> String {
    let routes = routes(false);
    let line = |operation: &Operation| {
        format!("{:<7} {:<24} {}\n", operation.method.as_str(), operation.pattern, operation.name)
    };
    routes.operations().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;

    use super::*;

    #[test]
    fn names_and_places_of_routes_are_unique() {
        let routes = routes(true);
        let (mut names, mut places) = (HashSet::new(), HashSet::new());
        for operation in routes.operations() {
            assert!(names.insert(operation.name), "{}", operation.name);
            assert!(places.insert((&operation.method, operation.pattern)), "{}", operation.name);
        }
    }

    #[test]
    fn every_route_says_once_how_it_fails() {
        for operation in routes(true).operations() {
            let statuses: Vec<u16> = operation.problems.iter().map(|kind| kind.status).collect();
            let body = operation.inputs.iter().any(|input| !input.media_types.is_empty());
            assert_eq!(!operation.inputs.is_empty(), statuses.contains(&422), "{}", operation.name);
            assert_eq!(body, statuses.contains(&415), "{}", operation.name);
            assert!(!statuses.contains(&403) || statuses.contains(&401), "{}", operation.name);
            let codes: HashSet<&str> = operation.problems.iter().map(|kind| kind.code).collect();
            assert_eq!(codes.len(), operation.problems.len(), "{}", operation.name);
        }
    }

    /// What is left out of a PATCH stays; clients may say so with the name that such a body has.
    #[test]
    fn every_patch_takes_a_merge_patch() {
        for operation in routes(true).operations().filter(|one| one.method == "PATCH") {
            let taken = operation.inputs.iter().flat_map(|input| input.media_types);
            let taken: Vec<&str> = taken.copied().collect();
            assert_eq!(
                taken,
                ["application/merge-patch+json", "application/json"],
                "{}",
                operation.name
            );
        }
    }

    #[test]
    fn no_statement_is_listed_twice_or_left_empty() {
        let mut seen = HashSet::new();
        for Statement { name, sql } in statements() {
            assert!(!sql.trim().is_empty(), "{name}");
            assert!(seen.insert(sql), "{name}");
        }
    }

    /// The compiler does not miss a statement that its resource forgot to list: it is prepared
    /// late, and costs a round trip more where it is used first.
    #[test]
    fn every_statement_of_a_resource_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/resources");
        for file in fs::read_dir(folder).unwrap() {
            let source = fs::read_to_string(file.unwrap().path()).unwrap();
            let queries = source.split_once("\n// Queries\n").map_or("", |(_, queries)| queries);
            let names = queries.lines().filter_map(|line| line.strip_prefix("const "));
            let names = names.filter_map(|line| line.split_once(": &str =")).map(|(name, _)| name);
            let listed = listed(&source, "statements: statements![");
            for name in names {
                assert!(listed.contains(name), "{name} is not in RESOURCE.statements");
            }
        }
    }

    /// Nor does it miss a table: `peace-migrate` would know nothing of it.
    #[test]
    fn every_table_of_a_resource_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/resources");
        for file in fs::read_dir(folder).unwrap() {
            let source = fs::read_to_string(file.unwrap().path()).unwrap();
            let listed = listed(&source, "tables: &[");
            for declared in source.split("migrations::table! {").skip(1) {
                let (_, model) = declared.split_once("struct ").unwrap();
                let (model, _) = model.split_once(':').unwrap();
                let table = format!("{model}::TABLE");
                assert!(listed.contains(&*table), "{table} is not in RESOURCE.tables");
            }
        }
    }

    /// The words between `begin` and the next bracket.
    fn listed<'a>(source: &'a str, begin: &str) -> HashSet<&'a str> {
        let listed = source.split_once(begin).map_or("", |(_, listed)| listed);
        let listed = listed.split_once(']').map_or("", |(listed, _)| listed);
        listed.split(',').map(str::trim).collect()
    }

    /// The switch must not come along when their file is copied.
    #[test]
    fn only_items_can_be_open_to_everybody() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/resources");
        let mut knowing = Vec::new();
        for file in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let source = fs::read_to_string(file.path()).unwrap();
            knowing.extend(source.contains("item_writes").then_some(file.file_name()));
        }
        assert_eq!(knowing, ["items.rs"], "the others ask `callers::caller`");
    }

    #[test]
    fn the_listing_names_every_public_route_and_no_debug_route() {
        let listing = listing();
        assert!(listing.contains("PATCH   /users/{pubid}           users-patch\n"), "{listing}");
        assert!(!listing.contains("/debug/"), "{listing}");
        assert_eq!(listing.lines().count(), routes(false).operations().count());
    }
}

//! Black-box tests: the real program, real signals, a real PostgreSQL, and nothing in between.
//!
//! A test sees what an operator or a client can see: replies, log lines, exit codes, processes and
//! sockets as the kernel lists them, and the database. It waits for events, under a deadline; it
//! does not sleep and it mocks nothing. A missing PostgreSQL is a failure.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod harness;

/// Whose the workers are; and the program that asks how they are.
mod accounts;
/// `POST /auth/token` and what its tokens are good for.
mod auth;
/// Every route under every kind of wrong input.
mod contract;
/// Whose pages may read answers.
mod cors;
/// Transactions that wait for each other.
mod deadlocks;
/// `/openapi.json`, `/docs`, `/problems`.
mod docs;
/// `peace-e2e`: clients that check every answer.
mod e2e;
/// The PostgreSQL that the program runs itself.
mod embedded;
/// Several servers: one falls out, another takes over.
mod failover;
/// What faults do: a panic, a blocked event loop, a client that leaves.
mod faults;
/// Whoever is not ann writes nothing of hers, wherever her ids are put.
mod foreign;
/// Tokens that somebody else has made.
mod forged;
/// A row can be read through every worker as soon as its creation was answered.
mod fresh;
/// A page costs the same in small tables and in large ones.
mod growth;
/// Logins do not make other requests wait.
mod hashing;
/// What has expired is deleted.
mod housekeeping;
/// `/items`, and datetimes.
mod items;
/// What is in the log: lines of requests, files that are moved away, and what is never there.
mod journal;
/// Sessions that end, clients that leave and tables that change, under readers who share a connection.
mod lane;
/// Stops, crashes and failed boots of workers.
mod lifecycle;
/// Filters and orders of lists, and the way from page to page.
mod lists;
/// `peace-loadtest`: what it measures, and what it leaves.
mod loadtest;
/// Passwords are guessed so often and no more.
mod login_limits;
/// What is counted, and who tells it.
mod metrics;
/// `peace-migrate`.
mod migrations;
/// The service manager: what it is told, its watchdog, the sockets it keeps.
mod notify;
/// Stop delay, pause, pid file, `ctl`.
mod operate;
/// Backup and restore as the page for operators has it.
mod operations;
/// The supervisor is killed.
mod orphans;
/// The database goes away and comes back.
mod outage;
/// What only the users themselves may do.
mod own_user;
/// Paths and methods.
mod paths;
/// Rows of the Python template.
mod python_rows;
/// HTTP/1.1, byte by byte.
mod raw;
/// README's commands do what README says.
mod readme;
/// Workers that are worn are replaced.
mod recycle;
/// Starts that are refused: one line, the right exit code, nothing left.
mod refusals;
/// Requests that come again, and are done once.
mod repeats;
/// One database call per read, and none that is hidden.
mod round_trips;
/// The sums on the page about more hosts.
mod scaling;
/// What the scripts do about a machine that lacks something.
mod scripts;
/// No secret is told.
mod secrets;
/// N workers share one port.
mod serve;
/// Tokens that follow one another, and what ends them.
mod sessions;
/// The command line: `config show`, `config check`, completions.
mod settings;
/// The database host falls silent.
mod silence;
/// Starts and stops in bad company: nobody reads the log, the last start was killed.
mod startup;
/// A stored password hash that changes while it is being verified.
mod stored_hashes;
/// TLS to PostgreSQL.
mod tls;
/// `peace-supervisor top` without a terminal.
mod top;
/// Which trace a request is a part of, and what a collector gets.
mod traces;
/// A socket with a name in the place of a port.
mod unix;
/// Another program takes over, in the same process.
mod upgrade;
/// `/users`.
mod users;
/// Nobody overwrites what they have not seen.
mod versions;
/// Nothing is lost: not by a roll, a crash, a hang, nor a stop.
mod zero_loss;

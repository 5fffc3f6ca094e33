//! What the tests work with: a cluster, databases, the program, a client, the kernel's view.

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod folder;
pub(crate) mod log;
pub(crate) mod peace;
pub(crate) mod proc;
pub(crate) mod turn;
pub(crate) mod wait;

pub(crate) use client::{Connection, Reply, Request, get, post, put, request};
pub(crate) use database::Database;
pub(crate) use peace::{Launch, Peace};
pub(crate) use turn::Turn;

//! What the tests work with: a cluster, databases, the program, a client, the kernel's view.

pub(crate) mod api;
pub(crate) mod built;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod declared;
pub(crate) mod folder;
pub(crate) mod jwt;
pub(crate) mod launch;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod network;
pub(crate) mod peace;
pub(crate) mod proc;
pub(crate) mod turn;
pub(crate) mod wait;
pub(crate) mod walk;

pub(crate) use client::{Connection, Request, get, post, put, request};
pub(crate) use database::Database;
pub(crate) use launch::Launch;
pub(crate) use network::Network;
pub(crate) use peace::Peace;
pub(crate) use turn::Turn;

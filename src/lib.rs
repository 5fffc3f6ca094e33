//! peace
pub mod app;
pub mod callers;
pub mod ctl;
pub mod datetimes;
pub mod development;
pub mod embedded;
pub mod errors;
pub mod journal;
pub mod pages;
pub mod pid_file;
pub mod platform;
pub mod programs;
pub mod resources;
pub mod security;
pub mod serving;
pub mod settings;
pub mod tls;

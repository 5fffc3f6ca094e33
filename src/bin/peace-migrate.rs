//! The command `peace-migrate`: hands the process's arguments and environment to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(migrations::run(std::env::args_os(), |name| std::env::var(name).ok(), &[]))
}

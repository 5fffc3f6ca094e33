//! Whether data may go: a file says why, or whoever runs it says so.
//!
//! `runner`, `rehearse` and the scripts ask before anything runs; it calls `guard` for what the files
//! say and `loss` for what the database has.
//! It promises that an answer of no comes before the first step, or before the first one whose names
//! were not there yet.

use crate::database::apply::{Direction, Step};
use crate::database::loss::{self, Look};
use crate::database::runner::{Event, Options};
use crate::database::session::Session;
use crate::error::Error;
use crate::files::guard::{self, Loss};

/// No way up may destroy data without saying why.
pub(crate) fn to_files(steps: &[Step<'_>], options: &Options<'_>) -> Result<(), Error> {
    let silent = steps.iter().filter(|step| {
        step.direction == Direction::Up && step.revision.allow_destructive.is_none()
    });
    let findings: Vec<String> = silent
        .flat_map(|step| {
            let file = &step.script.file;
            guard::destructive(step.script)
                .into_iter()
                .map(move |(line, what)| format!("{file}:{line}: {what}"))
        })
        .collect();
    if findings.is_empty() || options.allow_loss {
        Ok(())
    } else {
        Err(Error::Destructive(findings))
    }
}

/// Looks for data over the whole way down; returns what could not be found yet, for each step.
pub(crate) async fn to_way_down(
    session: &Session,
    steps: &[Step<'_>],
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Vec<Loss>>, Error> {
    let (mut found, mut open) = (Vec::new(), Vec::new());
    for step in steps {
        let look = match step.direction {
            Direction::Up => Look::default(),
            Direction::Down => loss::look(session, step.script).await?,
        };
        found.extend(look.found);
        open.push(look.open);
    }
    to_loss(found, options, progress)?;
    Ok(open)
}

/// What is there and would be lost.
pub(crate) fn to_loss(
    found: Vec<String>,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<(), Error> {
    if found.is_empty() {
        return Ok(());
    }
    if !options.allow_loss {
        return Err(Error::Loss(found));
    }
    found.iter().for_each(|what| progress(Event::Losing { what }));
    Ok(())
}

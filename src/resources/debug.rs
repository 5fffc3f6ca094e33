//! How to make a worker misbehave, for tests of what happens then.
//!
//! | route | what it does |
//! |---|---|
//! | `GET /debug/panic` | the handler panics: 500 |
//! | `GET /debug/spin?ms=` | the event loop stands still for so long, then 200 `null` |
//! | `GET /debug/sleep?ms=` | the request waits for so long, the others go on, then 200 `null` |
//! | `GET /debug/cross?first=&second=&ms=` | a transaction locks two users, the second so much later |
//!
//! Two of the last, at once and in opposite order, stand in each other's way: a deadlock.
//! Only mounted where faults were asked for (`PEACE_FAULTS`), which production refuses.

use std::time::{Duration, Instant};

use uuid::Uuid;
use worker::kinds::INTERNAL;
use worker::{Context, Integer, Query, Reply, Routes, Transaction, payload};

use crate::app::App;
use crate::errors::{DATABASE, Result};

/// Ten minutes: longer than any limit that a test waits for.
const MS_MAX: i64 = 600_000;

pub(super) fn routes(routes: &mut Routes<App>) {
    routes.get("/debug/panic", "debug-panic", panic).fails(&[&INTERNAL]);
    routes.get("/debug/spin", "debug-spin", spin);
    routes.get("/debug/sleep", "debug-sleep", sleep);
    routes.get("/debug/cross", "debug-cross", cross).fails(DATABASE);
}

payload! {
    struct Wait {
        ms: i64 = required(Integer::range(0, MS_MAX)),
    }

    struct Cross {
        first: Uuid = required(worker::Uuid),
        second: Uuid = required(worker::Uuid),
        ms: i64 = required(Integer::range(0, MS_MAX)),
    }
}

/// The rule has let no negative one pass.
fn duration(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

async fn panic(_cx: Context<App>) -> Result<Reply<()>> {
    panic!("/debug/panic was asked for");
}

async fn spin(_cx: Context<App>, query: Query<Wait>) -> Result<Reply<()>> {
    let Wait { ms } = query.read()?;
    let start = Instant::now();
    while start.elapsed() < duration(ms) {
        std::hint::spin_loop();
    }
    Ok(Reply(()))
}

async fn sleep(_cx: Context<App>, query: Query<Wait>) -> Result<Reply<()>> {
    let Wait { ms } = query.read()?;
    tokio::time::sleep(duration(ms)).await;
    Ok(Reply(()))
}

const LOCK: &str = r#"select 1 from "user" where id = $1 for update"#;

async fn cross(cx: Context<App>, query: Query<Cross>) -> Result<Reply<()>> {
    let Cross { first, second, ms } = query.read()?;
    let locking = async move |tx: &Transaction<'_>| {
        tx.row(LOCK, &[&first]).await?;
        tokio::time::sleep(duration(ms)).await;
        tx.row(LOCK, &[&second]).await?;
        Ok(Reply(()))
    };
    cx.app().database.transaction(locking).await
}

//! How to make a worker misbehave, for tests of what happens then.
//!
//! | route | what it does |
//! |---|---|
//! | `GET /debug/panic` | the handler panics: 500 |
//! | `GET /debug/spin?ms=` | the event loop stands still for so long, then 200 `null` |
//! | `GET /debug/sleep?ms=` | the request waits for so long, the others go on, then 200 `null` |
//!
//! Only mounted where faults were asked for (`PEACE_FAULTS`), which production refuses.

use std::time::{Duration, Instant};

use worker::kinds::INTERNAL;
use worker::{Context, Fields, Integer, Payload, Query, Reply, Routes};

use crate::app::App;
use crate::errors::{ApiError, INPUT};

/// Ten minutes: longer than any limit that a test waits for.
const MS_MAX: i64 = 600_000;

pub(super) fn routes(routes: &mut Routes<App>) {
    routes.get("/debug/panic", "debug-panic", panic).fails(&[&INTERNAL]);
    routes.get("/debug/spin", "debug-spin", spin).fails(INPUT);
    routes.get("/debug/sleep", "debug-sleep", sleep).fails(INPUT);
}

struct For {
    duration: Duration,
}

impl Payload for For {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let ms = fields.required("ms", Integer::range(0, MS_MAX));
        let (ms,) = fields.all((ms,))?;
        Some(Self { duration: Duration::from_millis(ms.unsigned_abs()) })
    }
}

async fn panic(_cx: Context<App>) -> Result<Reply<()>, ApiError> {
    panic!("/debug/panic was asked for");
}

async fn spin(_cx: Context<App>, query: Query<For>) -> Result<Reply<()>, ApiError> {
    let For { duration } = query.read()?;
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
    Ok(Reply(()))
}

async fn sleep(_cx: Context<App>, query: Query<For>) -> Result<Reply<()>, ApiError> {
    let For { duration } = query.read()?;
    tokio::time::sleep(duration).await;
    Ok(Reply(()))
}

//! The load: made in processes of its own, so that its cost can be told from the server's.
//!
//! The conductor starts `peace-loadtest generate` with an [`Order`] and waits for its [`Line`]s; that
//! process is one thread with one event loop, as a worker is, and ends when its input does. [`process`]
//! is the conductor's end of it, everything else the generator's.

mod client;
mod fault;
mod load;
pub(crate) mod order;
mod pace;
pub(crate) mod process;
mod requests;
mod socket;
mod tally;
#[cfg(test)]
mod tests;

use std::io::{BufRead as _, BufReader, Read, Write};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use load::Load;
use order::{Line, Order};

/// An order with the rows of some million users.
const ORDER_BYTES_MAX: u64 = 512 * 1024 * 1024;
const GONE: &str = "the conductor has left";
/// Descriptors that are no connections.
const DESCRIPTORS_SPARE: u64 = 64;

/// The whole generator: obeys one order, and leaves when the input ends, whatever it is doing. Gives
/// the exit code: 0 when it has told all.
pub(crate) fn serve(input: impl Read + Send + 'static, output: impl Write) -> u8 {
    let mut mouth = Mouth(output);
    match obey(input, &mut mouth) {
        Ok(()) => 0,
        Err(error) => {
            // Who has gone does not hear it either.
            _ = mouth.say(&Line::Failed(error));
            1
        }
    }
}

/// Where lines go.
struct Mouth<W>(W);

impl<W: Write> Mouth<W> {
    fn say(&mut self, line: &Line) -> Result<(), String> {
        let mut text = serde_json::to_vec(line).map_err(|error| error.to_string())?;
        text.push(b'\n');
        let said = self.0.write_all(&text).and_then(|()| self.0.flush());
        said.map_err(|error| format!("nobody listens: {error}"))
    }
}

fn obey(input: impl Read + Send + 'static, mouth: &mut Mouth<impl Write>) -> Result<(), String> {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(LocalOptions::default());
    let runtime = runtime.map_err(|error| format!("no event loop: {error}"))?;
    runtime.block_on(async {
        let mut ears = listen(input)?;
        let order = ears.recv().await.ok_or("no order came")?;
        let order: Order =
            serde_json::from_str(&order).map_err(|error| format!("not an order: {error}"))?;
        make_room(order.connections as u64)?;
        let load = unless_gone(&mut ears, Load::connect(order)).await??;
        mouth.say(&Line::Ready)?;
        ears.recv().await.ok_or(GONE)?;
        let load = load.run(|piece| mouth.say(&Line::Piece(piece)));
        let outcome = unless_gone(&mut ears, load).await??;
        mouth.say(&Line::Done(Box::new(outcome)))?;
        // Somebody may still want to know what this process has used.
        while ears.recv().await.is_some() {}
        Ok(())
    })
}

async fn unless_gone<T>(
    ears: &mut UnboundedReceiver<String>,
    work: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::select! {
        done = work => Ok(done),
        _ = ears.recv() => Err(GONE.to_owned()),
    }
}

/// A descriptor for each connection: the soft limit is 1024 on most systems.
fn make_room(connections: u64) -> Result<(), String> {
    let needed = connections.saturating_add(DESCRIPTORS_SPARE);
    let refused = |error| format!("the limit of descriptors: {error}");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(refused)?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(format!(
            "{connections} connections need {needed} descriptors and the limit is {hard}: \
             raise it (ulimit -n), or take fewer connections"
        ));
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(refused)
}

/// Reads lines on a thread of its own: a pipe or a file, it blocks nobody. The channel ends when the
/// input does.
fn listen(input: impl Read + Send + 'static) -> Result<UnboundedReceiver<String>, String> {
    let (heard, ears) = unbounded_channel();
    let mut lines = BufReader::new(input.take(ORDER_BYTES_MAX)).lines();
    let read = move || {
        while let Some(Ok(line)) = lines.next()
            && heard.send(line).is_ok()
        {}
    };
    let thread = thread::Builder::new().name("input".to_owned()).spawn(read);
    thread.map_err(|error| format!("no thread: {error}"))?;
    Ok(ears)
}

//! The lane beside its pool, with a server that does what it is told to: a real one cannot be made to fall
//! silent for one of its sessions only, or to have a place for just one.

use std::{
    collections::HashMap,
    env, fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process,
    sync::Mutex,
    thread,
};

use tokio::{
    runtime::{Builder, LocalOptions},
    time::{sleep, timeout},
};

use super::*;
use crate::database::Database;
use crate::meters::Meters;

const SQL: &str = "SELECT id FROM thing";
const SOON: Duration = Duration::from_secs(5);

/// What the server is told, and what it knows.
#[derive(Default)]
struct Told {
    /// Sessions that are there, by their number; those of the lane are marked.
    sessions: HashMap<u64, (UnixStream, bool)>,
    begun: u64,
    sessions_max: Option<usize>,
    /// Sessions of the lane say nothing any more.
    mute_lane: bool,
    /// There is no table yet.
    no_table: bool,
}

/// Gone when dropped, but for threads that wait for clients until the process ends.
struct Server {
    folder: PathBuf,
    told: Arc<Mutex<Told>>,
}

impl Server {
    fn start(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("peace-lane-{name}-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
        let told = Arc::<Mutex<Told>>::default();
        let clients = Clients(Arc::clone(&told));
        thread::spawn(move || {
            for socket in listener.incoming() {
                let clients = clients.clone();
                thread::spawn(move || clients.serve(socket.unwrap()));
            }
        });
        Self { folder, told }
    }

    fn tell(&self, tell: impl FnOnce(&mut Told)) {
        tell(&mut self.told.lock().unwrap());
    }

    fn lanes(&self) -> usize {
        let told = self.told.lock().unwrap();
        told.sessions.values().filter(|(_, is_lane)| *is_lane).count()
    }

    /// Ends the sessions of the lane, or those of the pool.
    fn end(&self, of_lane: bool) {
        let told = self.told.lock().unwrap();
        for (socket, is_lane) in told.sessions.values() {
            if *is_lane == of_lane {
                socket.shutdown(std::net::Shutdown::Both).unwrap();
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The server's side of its clients.
#[derive(Clone)]
struct Clients(Arc<Mutex<Told>>);

impl Clients {
    fn serve(&self, mut socket: UnixStream) {
        let Some(number) = self.welcome(&mut socket) else { return };
        let _ = self.answer_all(&mut socket, number);
        self.0.lock().unwrap().sessions.remove(&number);
    }

    fn welcome(&self, socket: &mut UnixStream) -> Option<u64> {
        let mut length = [0; 4];
        socket.read_exact(&mut length).ok()?;
        socket.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4]).ok()?;
        let number = {
            let mut told = self.0.lock().unwrap();
            let is_full = told.sessions_max.is_some_and(|max| told.sessions.len() >= max);
            told.begun += 1;
            let number = told.begun;
            if !is_full {
                told.sessions.insert(number, (socket.try_clone().unwrap(), false));
            }
            (!is_full).then_some(number)
        };
        let words = match number {
            Some(_) => [message(b'R', &[0; 4]), message(b'Z', b"I")].concat(),
            None => message(b'E', b"SFATAL\0VFATAL\0C53300\0Mtoo many connections\0\0"),
        };
        socket.write_all(&words).ok()?;
        number
    }

    fn answer_all(&self, socket: &mut UnixStream, number: u64) -> Option<()> {
        loop {
            let mut head = [0; 5];
            socket.read_exact(&mut head).ok()?;
            let mut body = vec![0; u32::from_be_bytes(*head[1..].first_chunk()?) as usize - 4];
            socket.read_exact(&mut body).ok()?;
            let (is_mute, no_table) = {
                let mut told = self.0.lock().unwrap();
                let session = &mut told.sessions.get_mut(&number)?.1;
                *session |= head[0] == b'Q' && body.starts_with(b"SET default");
                (*session && told.mute_lane, told.no_table)
            };
            if !is_mute {
                socket.write_all(&answer(head[0], no_table)).ok()?;
            }
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// What is said to one message.
fn answer(tag: u8, no_table: bool) -> Vec<u8> {
    match tag {
        b'Q' => [message(b'C', b"SET\0"), message(b'Z', b"I")].concat(),
        b'P' if no_table => message(b'E', b"SERROR\0VERROR\0C42P01\0Mno table\0\0"),
        b'P' => message(b'1', b""),
        b'D' if no_table => Vec::new(),
        b'D' => {
            let column = [&b"id\0"[..], &[0; 6], &23_u32.to_be_bytes(), &[0; 8]].concat();
            let columns = [&1_i16.to_be_bytes()[..], &column].concat();
            [message(b't', &[0, 0]), message(b'T', &columns)].concat()
        }
        b'B' => message(b'2', b""),
        b'E' => {
            let row = [&1_i16.to_be_bytes()[..], &4_i32.to_be_bytes(), &7_i32.to_be_bytes()];
            [message(b'D', &row.concat()), message(b'C', b"SELECT 1\0")].concat()
        }
        b'S' => message(b'Z', b"I"),
        _ => Vec::new(),
    }
}

/// Runs `test` with a pool of one connection, and a lane, at a server of its own.
fn with_server(name: &str, lifetime: Duration, test: impl AsyncFnOnce(&Database, &Server)) {
    with_told_server(name, lifetime, |_| {}, test);
}

fn with_told_server(
    name: &str,
    lifetime: Duration,
    told: impl FnOnce(&mut Told),
    test: impl AsyncFnOnce(&Database, &Server),
) {
    let server = Server::start(name);
    server.tell(told);
    let place = format!("host={} user=peace", server.folder.display()).parse().unwrap();
    let config = DatabaseConfig {
        pool_size: 1,
        connection_lifetime: lifetime,
        warm: vec![SQL],
        ..DatabaseConfig::new(place, 0, 1)
    };
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.unwrap().block_on(async {
        let database = Database::open(config, Meters::detached(0));
        database.ready(SOON).await.unwrap();
        test(&database, &server).await;
        database.close(Duration::ZERO).await;
    });
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"));
}

async fn read(database: &Database) -> i32 {
    let row = timeout(SOON, database.row(SQL, &[])).await.expect("an answer in time");
    row.unwrap().unwrap().get("id")
}

/// Until reads are answered by the lane.
async fn until_lane(database: &Database, server: &Server) {
    until("the lane is there", || server.lanes() > 0 && database.stats().connections > 1).await;
    let detours = database.stats().detours;
    assert_eq!(read(database).await, 7);
    assert_eq!(database.stats().detours, detours);
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_session_that_cannot_be_replaced_when_it_is_old_keeps_its_clock() {
    let lifetime = Duration::from_millis(300);
    with_server("renew", lifetime, async |database, server| {
        until_lane(database, server).await;
        server.tell(|told| told.sessions_max = Some(0));
        sleep(lifetime * 2).await;
        assert_eq!(read(database).await, 7);
        server.tell(|told| told.mute_lane = true);
        let asked = tokio::time::Instant::now();
        assert_eq!(read(database).await, 7);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    });
}

#[test]
fn what_a_session_owes_when_it_is_replaced_is_not_waited_for_in_vain() {
    let lifetime = Duration::from_millis(300);
    with_server("owes", lifetime, async |database, server| {
        until_lane(database, server).await;
        sleep(lifetime - Duration::from_millis(30)).await;
        server.tell(|told| told.mute_lane = true);
        let (answer, ()) = tokio::join!(read(database), async {
            until("it is replaced", || server.lanes() > 1).await;
        });
        assert_eq!(answer, 7);
    });
}

#[test]
fn a_pool_that_is_refused_gets_the_place_of_the_lane() {
    let one = |told: &mut Told| told.sessions_max = Some(1);
    with_told_server("place", LONG, one, async |database, server| {
        assert_eq!(server.lanes(), 0);
        server.end(false);
        until("the lane has the place", || server.lanes() == 1).await;
        let written: Result<(), DbError> = database.transaction(async |_| Ok(())).await;
        assert!(written.is_ok(), "{written:?}");
        assert_eq!(server.lanes(), 0);
    });
}

#[test]
fn a_statement_whose_table_came_later_is_learned() {
    let none = |told: &mut Told| told.no_table = true;
    with_told_server("learn", LONG, none, async |database, server| {
        until("the lane is there", || database.stats().connections == 2).await;
        assert!(matches!(database.row(SQL, &[]).await, Err(DbError::SchemaBehind(_))));
        server.tell(|told| told.no_table = false);
        sleep(LEARN_AFTER).await;
        assert_eq!(read(database).await, 7);
        let before = database.stats().detours;
        until("the next lane is there", || {
            server.told.lock().unwrap().begun == 3 && database.stats().connections == 2
        })
        .await;
        assert_eq!(read(database).await, 7);
        assert_eq!(database.stats().detours, before);
    });
}

#[test]
fn a_server_that_is_given_up_is_left_by_those_who_wait_too() {
    with_server("era", LONG, async |database, server| {
        until_lane(database, server).await;
        server.tell(|told| told.mute_lane = true);
        // There is no room elsewhere.
        let _permit = database.pool.lend().await.unwrap();
        let (answer, ()) = tokio::join!(timeout(SOON, database.row(SQL, &[])), async {
            sleep(PATIENCE * 2).await;
            database.pool.link.fell_silent("a test says so");
        });
        assert!(matches!(answer, Ok(Err(DbError::Unavailable { .. }))), "{answer:?}");
    });
}

/// Log lines of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn why_a_session_ended_is_told() {
    let lines = Lines::default();
    let written = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || written.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    with_server("why", LONG, async |database, server| {
        until_lane(database, server).await;
        server.end(true);
        let told = "the connection of the reads has ended: unexpected end of file";
        until("it is told", || String::from_utf8_lossy(&lines.0.lock().unwrap()).contains(told))
            .await;
    });
}

//! A wire at work, with a server that says what it is told to: a real one cannot be made to answer in
//! pieces, or to fail at a place of our choice.

use std::{
    error::Error,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::Semaphore,
    task::{JoinHandle, spawn_local},
    time::{advance, sleep, timeout},
};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::*;
use crate::meters::Meters;

const SQL: &str = "SELECT id, name FROM thing WHERE id = $1";
const REFUSED: &str = "SELECT gone FROM thing";
const ODD: &str = "SELECT mood FROM thing";
const TWINS: &str = "SELECT a.name, b.name FROM thing a, thing b";
const SOON: Duration = Duration::from_secs(5);

/// The other end of a wire.
struct Server(DuplexStream);

impl Server {
    /// What the client sends until it has nothing more to send, as the tags of its messages.
    async fn hear(&mut self) -> String {
        let mut bytes = vec![0; 64 * 1024];
        let count = timeout(SOON, self.0.read(&mut bytes)).await.unwrap().unwrap();
        let (mut rest, mut tags) = (&bytes[..count], String::new());
        while let Some((tag, behind)) = rest.split_first() {
            tags.push(char::from(*tag));
            let length = u32::from_be_bytes(*behind.first_chunk().unwrap());
            rest = &behind[length as usize..];
        }
        tags
    }

    async fn say(&mut self, messages: &[Vec<u8>]) {
        self.0.write_all(&messages.concat()).await.unwrap();
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn row(id: i32, name: Option<&str>) -> Vec<u8> {
    let mut body = [&2_i16.to_be_bytes()[..], &4_i32.to_be_bytes(), &id.to_be_bytes()].concat();
    match name {
        Some(name) => {
            body.extend(i32::try_from(name.len()).unwrap().to_be_bytes());
            body.extend(name.as_bytes());
        }
        None => body.extend((-1_i32).to_be_bytes()),
    }
    message(b'D', &body)
}

fn bound() -> Vec<u8> {
    message(b'2', b"")
}

fn complete() -> Vec<u8> {
    message(b'C', b"SELECT 1\0")
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn error(fields: &[&str]) -> Vec<u8> {
    let mut body: Vec<u8> =
        fields.iter().flat_map(|field| [field.as_bytes(), b"\0"].concat()).collect();
    body.push(0);
    message(b'E', &body)
}

/// Parameters and columns of a statement, by the numbers of their types.
fn described(params: &[u32], columns: &[(&str, u32)]) -> Vec<u8> {
    let count = |length: usize| i16::try_from(length).unwrap().to_be_bytes();
    let mut types = count(params.len()).to_vec();
    types.extend(params.iter().flat_map(|oid| oid.to_be_bytes()));
    let mut names = count(columns.len()).to_vec();
    for (name, oid) in columns {
        names.extend([name.as_bytes(), b"\0", &[0; 6], &oid.to_be_bytes(), &[0; 8]].concat());
    }
    [message(b'1', b""), message(b't', &types), message(b'T', &names)].concat()
}

/// A wire, its server, and the task that drives it.
struct Set {
    wire: Rc<Wire>,
    server: Server,
    link: Arc<Link>,
    driving: JoinHandle<io::Result<()>>,
}

impl Set {
    async fn up() -> Self {
        let (socket, other) = duplex(1024 * 1024);
        let mut server = Server(other);
        let link = Arc::new(Link::new("test".to_owned(), Meters::detached(0)));
        server
            .say(&[
                described(&[23], &[("id", 23), ("name", 25)]),
                ready(),
                error(&["SERROR", "VERROR", "C42P01", "Mrelation \"thing\" does not exist"]),
                ready(),
                described(&[], &[("mood", 70_000)]),
                ready(),
                described(&[], &[("name", 25), ("name", 25)]),
                ready(),
            ])
            .await;
        let opened =
            Wire::open(Box::new(socket), &[SQL, REFUSED, ODD, TWINS], &link, link.era()).await;
        let (wire, driver) = opened.unwrap();
        assert_eq!(server.hear().await, "PDSPDSPDSPDS");
        let driving = spawn_local(driver.run());
        Self { wire, server, link, driving }
    }

    fn ask(&self, id: i32) -> oneshot::Receiver<Reply> {
        self.wire.ask(SQL, &[&id as &(dyn ToSql + Sync)], || false).unwrap().unwrap()
    }
}

async fn reply(receiver: oneshot::Receiver<Reply>) -> Reply {
    timeout(SOON, receiver).await.unwrap().expect("a reply")
}

async fn id(receiver: oneshot::Receiver<Reply>) -> i32 {
    reply(receiver).await.unwrap().first().unwrap().get("id")
}

#[tokio::test(flavor = "local")]
async fn what_is_asked_in_one_turn_leaves_together_behind_one_sync_and_is_answered_in_its_order() {
    let mut set = Set::up().await;
    let asked = [1, 2, 3].map(|number| set.ask(number));
    assert_eq!(set.server.hear().await, "BEBEBES");
    assert_eq!(set.wire.in_flight(), 4, "three answers and a Sync");
    for number in [10, 20, 30] {
        set.server.say(&[bound(), row(number, Some("x")), complete()]).await;
    }
    set.server.say(&[ready()]).await;
    for (receiver, number) in asked.into_iter().zip([10, 20, 30]) {
        assert_eq!(id(receiver).await, number);
    }
    let next = set.ask(4);
    assert_eq!(set.server.hear().await, "BES");
    set.server.say(&[bound(), row(40, None), complete(), ready()]).await;
    let rows = reply(next).await.unwrap();
    assert_eq!(rows.first().unwrap().get::<Option<&str>>("name"), None);
    assert_eq!((set.wire.in_flight(), set.wire.answers.get()), (0, 4));
}

#[tokio::test(flavor = "local")]
async fn one_that_fails_takes_those_behind_it_along_and_nobody_after_the_sync() {
    let mut set = Set::up().await;
    let (first, second, third) = (set.ask(1), set.ask(2), set.ask(3));
    assert_eq!(set.server.hear().await, "BEBEBES");
    let refusal = error(&["SFEHLER", "VERROR", "C22012", "Mdivision by zero"]);
    set.server.say(&[bound(), row(10, None), complete(), refusal, ready()]).await;
    assert_eq!(id(first).await, 10);
    let failed = reply(second).await.unwrap_err();
    assert!(matches!(failed, Failed::Error(DbError::BadValue(_))), "{failed:?}");
    assert!(matches!(reply(third).await, Err(Failed::Skipped { .. })));

    let next = set.ask(4);
    assert_eq!(set.server.hear().await, "BES");
    set.server.say(&[bound(), row(40, None), complete(), ready()]).await;
    assert_eq!(id(next).await, 40);
}

#[tokio::test(flavor = "local")]
async fn a_batch_has_its_limit() {
    let mut set = Set::up().await;
    let asked: Vec<_> = (0..=BATCH_MAX).map(|_| set.ask(1)).collect();
    assert_eq!(set.server.hear().await, format!("{}SBES", "BE".repeat(BATCH_MAX as usize)));
    drop(asked);
}

#[tokio::test(flavor = "local")]
async fn an_answer_may_come_in_any_pieces_and_be_of_any_length() {
    let mut set = Set::up().await;
    let long = "x".repeat(200_000);
    let asked = (set.ask(1), set.ask(2));
    set.server.hear().await;
    let first = [bound(), row(1, Some("a")), row(2, Some("b")), complete()].concat();
    for byte in first {
        set.server.say(&[vec![byte]]).await;
        tokio::task::yield_now().await;
    }
    set.server.say(&[bound(), row(3, Some(&long)), complete(), ready()]).await;
    let rows = reply(asked.0).await.unwrap();
    assert_eq!(
        rows.read(|row| (row.get("id"), row.get("name"))),
        [(1, "a".to_owned()), (2, "b".to_owned())]
    );
    let rows = reply(asked.1).await.unwrap();
    assert_eq!(rows.first().unwrap().get::<String>("name"), long);
}

#[tokio::test(flavor = "local")]
async fn the_answer_to_somebody_who_has_left_is_nobody_elses() {
    let mut set = Set::up().await;
    let (leaves, stays) = (set.ask(1), set.ask(2));
    set.server.hear().await;
    drop(leaves);
    assert_eq!(set.wire.in_flight(), 3, "still in flight");
    for number in [10, 20] {
        set.server.say(&[bound(), row(number, None), complete()]).await;
    }
    set.server.say(&[ready()]).await;
    assert_eq!(id(stays).await, 20);
}

#[tokio::test(flavor = "local")]
async fn when_the_session_ends_all_who_wait_hear_of_it() {
    let nobody = "the server sent what nobody asked for";
    for (goodbye, why) in [
        (vec![], "unexpected end of file"),
        (error(&["SFATAL", "VFATAL", "C57P01", "Mwas terminated"]), "was terminated"),
        (message(b'?', b"what nobody asked for"), nobody),
        (complete(), nobody),
        ([bound(), ready(), ready()].concat(), nobody),
        // A transaction was begun.
        ([bound(), message(b'Z', b"T")].concat(), nobody),
        // A row without columns, one with too many, one that is no message, one of 2 GiB.
        ([bound(), message(b'D', &[0, 0])].concat(), nobody),
        ([bound(), message(b'D', &[0, 3])].concat(), nobody),
        ([bound(), message(b'D', &[])].concat(), nobody),
        ([bound(), b"D\x7f\xff\xff\xff\0\x02".to_vec()].concat(), "longer than 64 MiB"),
    ] {
        let Set { wire, mut server, link, driving } = Set::up().await;
        assert_eq!(link.live(), 1);
        let asked = match goodbye == complete() {
            true => None,
            false => Some(wire.ask(SQL, &[&1], || false).unwrap().unwrap()),
        };
        if asked.is_some() {
            server.hear().await;
        }
        server.say(&[goodbye]).await;
        drop(server);
        let ended = timeout(SOON, driving).await.unwrap().unwrap().unwrap_err();
        assert!(ended.to_string().contains(why), "{ended}, not {why}");
        if let Some(asked) = asked {
            let heard = asked.await;
            assert!(!matches!(heard, Ok(Ok(_))), "{heard:?}");
        }
        assert!(!wire.is_open());
        assert_eq!((link.live(), wire.in_flight()), (0, 0));
    }
}

#[tokio::test(flavor = "local")]
async fn a_statement_prepared_for_other_tables_is_told_apart() {
    for fields in [
        &["VERROR", "C0A000", "Mcached plan must not change result type", "RRevalidateCachedQuery"]
            [..],
        &["VERROR", "C26000", "Mprepared statement does not exist"],
    ] {
        let mut set = Set::up().await;
        let asked = set.ask(1);
        set.server.hear().await;
        set.server.say(&[error(fields), ready()]).await;
        assert!(matches!(reply(asked).await, Err(Failed::Stale)), "{fields:?}");
        assert!(set.wire.is_open());
    }
}

#[tokio::test(flavor = "local")]
async fn what_the_server_refuses_or_only_it_knows_is_not_asked_here() {
    let set = Set::up().await;
    for sql in [REFUSED, ODD, TWINS, "SELECT never_prepared"] {
        assert!(set.wire.ask(sql, &[], || false).is_none(), "{sql}");
        assert_eq!(set.wire.was_refused(sql), sql == REFUSED, "{sql}");
    }
}

#[tokio::test(flavor = "local")]
async fn what_does_not_fit_a_statement_is_not_sent() {
    let mut set = Set::up().await;
    let wrong_type = set.wire.ask(SQL, &[&"text"], || false).unwrap();
    assert!(wrong_type.unwrap_err().to_string().contains("a parameter does not fit"));
    let wrong_count = set.wire.ask(SQL, &[&1, &2], || false).unwrap();
    let said = wrong_count.unwrap_err().to_string();
    assert_eq!(said, "the statement takes 1 parameters and was given 2");
    let _asked = set.ask(1);
    assert_eq!(set.server.hear().await, "BES", "and nothing of the others");
}

#[tokio::test(flavor = "local")]
async fn one_that_is_closed_answers_what_it_owes_and_says_goodbye() {
    let mut set = Set::up().await;
    let asked = set.ask(1);
    assert_eq!(set.server.hear().await, "BES");
    set.wire.close();
    assert!(!set.wire.is_open());
    set.server.say(&[bound(), row(10, None), complete(), ready()]).await;
    assert_eq!(id(asked).await, 10);
    assert_eq!(set.server.hear().await, "X");
    timeout(SOON, set.driving).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "local")]
async fn one_that_is_given_up_waits_for_nothing() {
    let set = Set::up().await;
    let asked = set.ask(1);
    set.wire.abandon();
    timeout(SOON, set.driving).await.unwrap().unwrap().unwrap();
    assert!(asked.await.is_err());
    assert_eq!(set.link.live(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_would_wait_for_long_goes_elsewhere_where_there_is_room() {
    let set = Set::up().await;
    let ask = |can_detour| set.wire.ask(SQL, &[&1], || can_detour);
    let _first = ask(true).expect("nobody is before it");
    // It is sent.
    tokio::task::yield_now().await;
    advance(LATE).await;
    let _second = ask(true).expect("the one before it has not waited for long");
    advance(Duration::from_millis(1)).await;
    tokio::task::yield_now().await;
    assert!(ask(true).is_none());
    assert!(ask(false).is_some(), "there is no room elsewhere");
}

/// Asks elsewhere, and stays there, when told so.
async fn detours(asked: oneshot::Receiver<Reply>, pool: Rc<Semaphore>) -> bool {
    let is_detour = matches!(asked.await.unwrap(), Err(Failed::Detour));
    if is_detour {
        pool.acquire().await.unwrap().forget();
    }
    is_detour
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn while_nobody_is_answered_as_many_go_elsewhere_as_find_room_there() {
    let mut set = Set::up().await;
    let pool = Rc::new(Semaphore::new(2));
    let (wire, permits) = (Rc::clone(&set.wire), Rc::clone(&pool));
    spawn_local(async move { wire.watch(SOON, &permits).await });
    let asked = [1, 2, 3, 4].map(|id| spawn_local(detours(set.ask(id), Rc::clone(&pool))));
    set.server.hear().await;
    sleep(PATIENCE).await;
    assert_eq!(pool.available_permits(), 2, "nobody is sent away at once");
    sleep(PATIENCE * 10).await;
    assert_eq!(pool.available_permits(), 0);
    assert_eq!(asked.iter().filter(|asked| asked.is_finished()).count(), 2);
    // One comes free.
    pool.add_permits(1);
    sleep(PATIENCE).await;
    assert_eq!(asked.iter().filter(|asked| asked.is_finished()).count(), 3);
    for number in [10, 20, 30, 40] {
        set.server.say(&[bound(), row(number, None), complete()]).await;
    }
    set.server.say(&[ready()]).await;
    let mut sent = Vec::new();
    for one in asked {
        sent.push(one.await.unwrap());
    }
    assert_eq!(sent, [true, true, true, false], "the last one was answered here");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_queue_of_quick_statements_stays_where_it_is() {
    let mut set = Set::up().await;
    let wire = Rc::clone(&set.wire);
    spawn_local(async move { wire.watch(SOON, &Semaphore::new(4)).await });
    let mut asked: Vec<_> = (0..100).map(|id| set.ask(id)).collect();
    set.server.hear().await;
    for number in 0..50 {
        set.server.say(&[bound(), row(number, None), complete()]).await;
        if number + 1 == BATCH_MAX.cast_signed() {
            set.server.say(&[ready()]).await;
        }
    }
    sleep(PATIENCE + LATE).await;
    let next = set.wire.ask(SQL, &[&1], || true);
    assert!(next.is_some(), "those before it have waited for long, and are answered quickly");
    sleep(PATIENCE * 3).await;
    assert!(set.wire.ask(SQL, &[&1], || true).is_none(), "nobody is answered any more");
    for late in asked.drain(50..) {
        assert!(matches!(reply(late).await, Err(Failed::Detour)));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_is_not_answered_in_time_hears_it_although_the_wire_answers_others() {
    let mut set = Set::up().await;
    let (wire, limit) = (Rc::clone(&set.wire), SOON);
    let watching = spawn_local(async move { wire.watch(limit, &Semaphore::new(0)).await });
    let mut asked = VecDeque::from([1, 2, 3, 4].map(|id| set.ask(id)));
    set.server.hear().await;
    for _ in 0..2 {
        sleep(limit / 5 * 2).await;
        set.server.say(&[bound(), row(10, None), complete()]).await;
        assert_eq!(id(asked.pop_front().unwrap()).await, 10);
    }
    sleep(limit / 5 + PATIENCE * 2).await;
    for late in asked {
        assert!(matches!(late.await, Ok(Err(Failed::Late))));
    }
    assert!(set.wire.is_open() && !watching.is_finished());
    sleep(limit).await;
    assert_eq!(watching.await.unwrap(), "it gave no answer within 5s");
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_is_too_long_is_no_answer_and_none_at_all_where_nobody_waits() {
    let long = "x".repeat(1 << 20);
    let rows: Vec<_> = (0..65).map(|_| row(1, Some(&long))).collect();
    for is_awaited in [false, true] {
        let mut set = Set::up().await;
        let asked = is_awaited.then(|| set.ask(1));
        if asked.is_none() {
            drop(set.ask(1));
        }
        set.server.hear().await;
        set.server.say(&[bound()]).await;
        for row in &rows {
            let said = set.server.0.write_all(row).await;
            assert!(said.is_ok() || is_awaited);
        }
        if let Some(asked) = asked {
            let said = format!("{:?}", reply(asked).await);
            assert!(said.contains("an answer is longer than 64 MiB"), "{said}");
            assert!(timeout(SOON, set.driving).await.unwrap().unwrap().is_err());
        } else {
            set.server.say(&[complete(), ready()]).await;
            let next = set.ask(2);
            set.server.hear().await;
            set.server.say(&[bound(), row(20, None), complete(), ready()]).await;
            assert_eq!(id(next).await, 20);
        }
    }
}

/// A value that cannot be written down.
#[derive(Debug)]
struct Panics;

impl ToSql for Panics {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        panic!("of no use")
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[tokio::test(flavor = "local")]
async fn of_a_value_that_panics_nothing_is_sent() {
    let mut set = Set::up().await;
    let ask = || drop(set.wire.ask(SQL, &[&Panics], || false));
    assert!(catch_unwind(AssertUnwindSafe(ask)).is_err());
    let next = set.ask(1);
    assert_eq!(set.server.hear().await, "BES");
    set.server.say(&[bound(), row(10, None), complete(), ready()]).await;
    assert_eq!(id(next).await, 10);
}

#[tokio::test(flavor = "local")]
async fn who_waits_for_a_statement_is_told_of_the_next_one_once() {
    let set = Set::up().await;
    let wire = Rc::clone(&set.wire);
    let waiting = spawn_local(async move { wire.is_asked().await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let _asked = (set.ask(1), set.ask(2));
    timeout(SOON, waiting).await.unwrap().unwrap();
    assert!(!set.wire.is_idle.get());
    timeout(SOON, set.wire.is_asked()).await.unwrap();
}

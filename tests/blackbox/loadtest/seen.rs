//! What is measured is what was there.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{Bench, SHORT, answered, empty, errors, number, runs};
use crate::harness::wait::until_true;
use crate::harness::{Launch, Turn, get};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_comparison_leaves_a_report_that_agrees_with_server_and_database() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let bench = Bench::new();
    let report = bench.report(&database, "500ms", ["--workers", "1,2", "--rounds", "2"]);
    assert_eq!((&report["format"], &report["card"]["rounds"]), (&json!(1), &json!(2)));
    let closed = runs(&report, &json!("closed"));
    let workers: Vec<_> = closed.iter().map(|run| run["workers"].as_u64().unwrap()).collect();
    assert_eq!(workers, [1, 2, 2, 1], "rounds are interleaved, there and back");
    for run in report["runs"].as_array().unwrap() {
        assert_eq!(errors(run), 0, "{}", run["traffic"]["errors"]);
        // Every slot told what it has answered.
        let share: Vec<u64> =
            run["share"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        assert_eq!(share.len() as u64, run["workers"].as_u64().unwrap());
        let told: u64 = share.iter().sum();
        assert_eq!(told, answered(run));
        let cpu = &run["cpu"];
        for meter in ["server_s", "generator_s"] {
            assert!(number(&cpu[meter]) > 0.0, "{meter}: {cpu}");
        }
        assert!(number(&run["memory"]["total_bytes"]) > 1e6, "{}", run["memory"]);
    }
    for life in report["lives"].as_array().unwrap() {
        // Reads that are sent together share a transaction; the server's own come on top.
        let per_request = number(&life["transactions"]) / number(&life["requests"]);
        assert!(per_request > 0.02 && per_request < 1.1, "{per_request}: {life}");
        assert!(number(&life["ready_s"]) > 0.0);
    }
    let page = std::fs::read_to_string(bench.folder.path().join("report/report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("2 workers"), "{page:.200}");
}

#[test]
fn everything_that_was_offered_is_accounted_for() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let report = Bench::new().report(
        &database,
        "1s",
        ["--workers", "1", "--rounds", "1", "--rate", "200,400"],
    );
    for rate in [200_u64, 400] {
        let [run] = runs(&report, &json!({ "rate": rate }))[..] else { panic!("{report}") };
        let unsent = run["traffic"]["unsent"].as_u64().unwrap();
        assert_eq!(answered(run) + errors(run) + unsent, rate, "{}", run["traffic"]);
        assert_eq!(run["offered"], f64::from(u32::try_from(rate).unwrap()));
    }
}

#[test]
fn every_built_in_scenario_is_answered() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let bench = Bench::new();
    let list = bench.run(["scenarios"]);
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.lines().count() >= 5, "{list}");
    for name in list.lines() {
        let words = ["--workers", "1", "--rounds", "1", "--rate", "20"];
        let report = bench.report(&database, "1s", words.into_iter().chain(["--scenario", name]));
        let runs = report["runs"].as_array().unwrap();
        assert!(runs.iter().all(|run| errors(run) == 0 && answered(run) > 2), "{name}: {report}");
    }
}

#[test]
fn a_list_of_100_has_as_many_rows_however_few_items_there_are() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let words = ["--workers", "1", "--rounds", "1", "--rate", "20", "--scenario", "list-100"];
    let report = Bench::new().report(&database, "1s", words);
    for run in report["runs"].as_array().unwrap() {
        let bytes = number(&run["traffic"]["received_bytes"]) / answered(run) as f64;
        // Two ids, a datetime, a name and the members' names.
        assert!((100.0 * 140.0..100.0 * 180.0).contains(&bytes), "{bytes}: {run}");
    }
}

#[test]
fn a_scenario_of_ones_own_is_a_small_file() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let bench = Bench::new();
    bench.folder.write(
        "orders.toml",
        r#"
        about = "Users by rows of our own."
        [rows.buyer]
        sql = 'select id as pubid from "user" limit 7'
        [rows.page]
        columns = ["limit"]
        rows = [["1"], ["2"]]
        [[request]]
        name = "a buyer"
        weight = 3
        path = "/users/{buyer.pubid}"
        [[request]]
        name = "a page"
        path = "/users?limit={page.limit}"
        status = 200
        "#,
    );
    let words = ["--workers", "1", "--rounds", "1", "--rate", "50", "--scenario", "orders.toml"];
    let report = bench.report(&database, "500ms", words);
    assert!(report["runs"].as_array().unwrap().iter().all(|run| errors(run) == 0), "{report}");
    assert_eq!(report["card"]["scenario"]["about"], "Users by rows of our own.");
}

/// Each order hangs on a user and may hang on an item. Each new item is an order here, as there is no
/// route that makes one. How many there are is written down whenever rows are read.
const ORDERS: &str = r#"
    create table orders (
        user_id uuid not null references "user" on delete cascade, item_id uuid references item
    );
    create function buy() returns trigger language plpgsql as
        $$ begin insert into orders values (new.user_id, new.id); return new; end $$;
    create table found (orders bigint);
"#;

#[test]
fn rows_of_ones_own_table_are_made_once_and_are_the_same_for_every_server() {
    let turn = Turn::shared();
    let database = crate::harness::Database::new(&turn);
    let sql = database.sql();
    sql.run(ORDERS);
    let bench = Bench::new();
    bench.folder.write(
        "orders.toml",
        r#"
        about = "Orders."
        setup = """
        insert into orders select id from "user" order by name limit 7;
        create or replace trigger buy after insert on item for each row execute function buy()
        """
        cleanup = "delete from orders where item_id is not null"
        [rows.order]
        sql = """
        insert into found select count(*) from orders;
        select user_id from orders
        """
        [[request]]
        name = "read"
        path = "/users/{order.user_id}"
        [[request]]
        name = "buy"
        method = "POST"
        path = "/items"
        headers = { authorization = "Bearer {writer.token}", content-type = "application/json" }
        body = '{"name": "load {unique}", "user_pubid": "{writer.pubid}"}'
        status = 201
        "#,
    );
    let words = ["--workers", "1,1", "--rounds", "1", "--rate", "50", "--scenario", "orders.toml"];
    for measured in 1..=2_usize {
        sql.run("drop trigger if exists buy on item");
        let report = bench.report(&database, "500ms", words);
        assert!(report["runs"].as_array().unwrap().iter().all(|run| errors(run) == 0), "{report}");
        let found: Vec<i64> =
            sql.rows("select orders from found", &[]).iter().map(|row| row.get(0)).collect();
        assert_eq!(found, vec![7; 2 * measured], "two servers each time");
        let left: i64 = sql.value("select count(*) from orders", &[]);
        assert_eq!(left, 7, "the last one's are gone, too");
    }
}

/// As many at the same time as a worker would refuse are not asked for.
#[test]
fn logins_are_slow_and_none_is_refused() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let words = ["--workers", "1", "--rounds", "1", "--scenario", "logins"];
    let report = Bench::new().report(&database, "500ms", words);
    assert_eq!(report["card"]["connections"], 16);
    let [run] = runs(&report, &json!("closed"))[..] else { panic!("{report}") };
    assert_eq!(errors(run), 0, "{}", run["traffic"]);
}

/// The other server is ours, too, so that it can answer; it is measured as any command is.
#[test]
fn another_server_is_a_series_of_its_own() {
    let turn = Turn::shared();
    let database = empty(&turn);
    let bench = Bench::new();
    let command = format!(
        "cd {}; exec {} --bind 127.0.0.1:{{port}} --workers {{workers}} --access-log off",
        bench.folder.path().display(),
        env!("CARGO_BIN_EXE_peace-supervisor")
    );
    let words =
        ["--workers", "1,2", "--rounds", "1", "--rate", "50", "--name", "Other", "--command"];
    let report = bench.report(&database, "500ms", words.into_iter().chain([command.as_str()]));
    assert_eq!(report["series"][1]["name"], "Other");
    let others = report["runs"].as_array().unwrap().iter().filter(|run| run["series"] == 1);
    let workers: Vec<_> = others.map(|run| (&run["workers"], answered(run) > 5)).collect();
    assert_eq!(workers, [(&json!(1), true), (&json!(2), true)]);
}

#[test]
fn a_running_server_keeps_nothing_of_it() {
    let turn = Turn::shared();
    let database = crate::harness::Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(2).serve();
    let bench = Bench::new();
    let url = format!("http://{}", peace.address());
    let words = [
        "run",
        "--out",
        "report",
        "--rounds",
        "1",
        "--rate",
        "50",
        "--scenario",
        "mixed",
        "--duration",
        "500ms",
    ];
    let output = bench.run(words.into_iter().chain(["--url", &url]).chain(SHORT));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = bench.read_report();
    assert_eq!(report["runs"][0]["workers"], json!(null));
    assert_eq!(errors(&report["runs"][0]), 0, "{report}");
    assert_eq!(peace.ask(&get("/users")).json()["users"], json!([]), "its users are deleted");
}

#[test]
fn an_interruption_while_users_are_made_leaves_none() {
    let turn = Turn::shared();
    let database = crate::harness::Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).serve();
    let bench = Bench::new();
    let url = format!("http://{}", peace.address());
    let mut child = bench.start(["run", "--users", "100000", "--url", &url]);
    let sql = database.sql();
    let users = || sql.value::<i64>(r#"select count(*) from "user""#, &[]);
    until_true("some users are made", LIMIT, || users() > 2);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    until_true("it ends", LIMIT, || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(users(), 0);
    bench.check_nothing_is_left();
}

/// Nothing is given: neither a database nor a number of workers.
#[test]
fn a_first_look_needs_nothing_but_postgresql() {
    let _turn = Turn::shared();
    let bench = Bench::new();
    let words = ["run", "--quick", "--rounds", "1", "--out", "report", "--duration", "500ms"];
    let output = bench.run(words.into_iter().chain(SHORT));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report = bench.read_report();
    assert_eq!(report["card"]["is_quick"], true);
    let database = report["card"]["database"].as_str().unwrap();
    assert!(database.contains("embedded"), "{database}");
    for run in report["runs"].as_array().unwrap() {
        assert!(number(&run["cpu"]["postgres_s"]) > 0.0, "the embedded server is seen: {run}");
    }
}

//! Lists as a client goes through them: from `Link` to `Link`, in either order, of one name or of all,
//! while rows come and go.

use serde_json::Value;

use crate::harness::api::{check_problem, failures};
use crate::harness::client::Reply;
use crate::harness::database::Sql;
use crate::harness::{Database, Launch, Peace, Turn, get, request};

/// Two of the users: whose items the list of items is of, and whose it is not.
const ANN: &str = "00000000-0000-7000-8000-000000000010";
const BOB: &str = "00000000-0000-7000-8000-000000000040";

/// A list, as a client asks for it, and how its rows are made and told in plain SQL.
struct List {
    /// The member of its answers that holds the rows.
    name: &'static str,
    /// Path and query, to be gone on with.
    target: String,
    /// What stands in the table: `id` and `name` of the rows that the list is of.
    rows: String,
    /// Makes a row of this number.
    insert: fn(u32) -> String,
}

/// The numbers of the rows that are there at first, in order of their ids.
const NUMBERS: [u32; 7] = [16, 32, 48, 64, 80, 96, 112];

fn id(number: u32) -> String {
    format!("00000000-0000-7000-8000-0000000000{number:02x}")
}

impl List {
    fn both() -> [Self; 2] {
        let users = Self {
            name: "users",
            target: "/users?".to_owned(),
            rows: r#"select id, name from "user""#.to_owned(),
            insert: |number| {
                format!(r#"insert into "user" (id, name) values ('{}', 'u{number}')"#, id(number))
            },
        };
        let items = Self {
            name: "items",
            target: format!("/items?user_pubid={ANN}&"),
            rows: format!("select id, name from item where user_id = '{ANN}'"),
            insert: |number| {
                format!("insert into item values ('{}', '{ANN}', 'a', '2026-11-23')", id(number))
            },
        };
        [users, items]
    }

    /// Those of the table that a client should get, in this order: all, or those of one name.
    fn expected(&self, sql: &Sql, sort: &str, name: Option<&str>) -> Vec<String> {
        let direction = if sort.contains("-id") { "desc" } else { "asc" };
        let all = format!(
            "select id::text from ({}) all_rows where $1::text is null or name = $1 \
             order by id {direction}",
            self.rows
        );
        sql.rows(&all, &[&name]).iter().map(|row| row.get(0)).collect()
    }

    /// The ids on a page of it.
    fn ids(&self, reply: &Reply) -> Vec<String> {
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        let page = reply.json();
        let rows = page[self.name].as_array().unwrap_or_else(|| panic!("no list: {page}"));
        rows.iter().map(|row| row["pubid"].as_str().unwrap().to_owned()).collect()
    }

    /// Follows `Link` from here to the last page; `meanwhile` is called between two pages.
    fn walk(&self, peace: &Peace, first: &str, mut meanwhile: impl FnMut(usize)) -> Vec<Page> {
        let mut pages = Vec::new();
        let mut next = Some(first.to_owned());
        while let Some(target) = next {
            let reply = peace.ask_told(&get(target));
            next = link(&reply);
            pages.push(self.ids(&reply));
            meanwhile(pages.len());
            assert!(pages.len() < 50, "{first} has no end: {pages:?}");
        }
        pages
    }
}

/// The ids of its rows.
type Page = Vec<String>;

/// Where the next page is. The answer says so twice: in `Link`, and as the cursor in the body.
fn link(reply: &Reply) -> Option<String> {
    let page = &reply.json()["page"];
    let Some(link) = reply.header("link") else {
        assert!(page.get("next_cursor").is_none(), "no Link beside a next_cursor: {page}");
        return None;
    };
    let target = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(r#">; rel="next""#));
    let target = target.unwrap_or_else(|| panic!("{link} is no link to a next page"));
    assert_eq!(parameter(target, "cursor"), page["next_cursor"].as_str(), "{target}");
    Some(target.to_owned())
}

fn parameter<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(one, _)| *one == name).map(|(_, value)| value)
}

/// As many users as numbers, as many items of ann's, and one of bob's in their middle.
fn serve(turn: &Turn, database: &Database<'_>) -> Peace {
    let sql = database.sql();
    for list in List::both() {
        for number in NUMBERS {
            sql.run(&(list.insert)(number));
        }
    }
    let theirs = id(33);
    sql.run(&format!("insert into item values ('{theirs}', '{BOB}', 'a', '2026-11-23')"));
    Launch::on(turn, database).workers(1).serve()
}

#[test]
fn links_lead_to_every_row_once_in_either_order_whatever_the_limit() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (peace, sql) = (serve(&turn, &database), database.sql());
    for list in List::both() {
        for sort in ["", "sort=id&", "sort=-id&"] {
            let expected = list.expected(&sql, sort, None);
            assert!(expected.len() >= NUMBERS.len());
            for limit in [1, 3, expected.len() - 1, expected.len(), 200] {
                let first = format!("{}{sort}limit={limit}", list.target);
                let pages = list.walk(&peace, &first, |_| ());
                let chunks: Vec<Page> = expected.chunks(limit).map(<[String]>::to_vec).collect();
                assert_eq!(pages, chunks, "{first}");
            }
        }
    }
}

/// After the first of pages of two rows its last row goes, on which the cursor stands, and so does the
/// first row of the next page; one comes before what was shown, one between, one at either end.
#[test]
fn rows_that_come_and_go_on_the_way_move_none_of_the_others() {
    let turn = Turn::shared();
    for (sort, shown, gone, comes) in [
        ("", [16, 32], [32, 48], [8, 24, 56, 120]),
        ("sort=-id&", [112, 96], [96, 80], [120, 104, 72, 8]),
    ] {
        let database = Database::new(&turn);
        let (peace, sql) = (serve(&turn, &database), database.sql());
        for list in List::both() {
            let table = if list.name == "users" { r#""user""# } else { "item" };
            let meanwhile = |page: usize| {
                if page == 1 {
                    for number in gone {
                        sql.run(&format!("delete from {table} where id = '{}'", id(number)));
                    }
                    for number in comes {
                        sql.run(&(list.insert)(number));
                    }
                }
            };
            let first = format!("{}{sort}limit=2", list.target);
            let shown = shown.map(id).to_vec();
            let pages = list.walk(&peace, &first, meanwhile);
            assert_eq!(pages[0], shown, "{first}");
            let now = list.expected(&sql, sort, None);
            let is_behind = |one: &&String| match sort {
                "" => one.as_str() > shown[1].as_str(),
                _ => one.as_str() < shown[1].as_str(),
            };
            let rest: Vec<String> = now.iter().filter(is_behind).cloned().collect();
            assert!(rest.contains(&id(comes[2])) && rest.contains(&id(comes[3])), "{rest:?}");
            assert_eq!(pages[1..].concat(), rest, "{first}");
        }
    }
}

#[test]
fn a_name_keeps_the_user_of_this_name_in_either_order() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (peace, sql) = (serve(&turn, &database), database.sql());
    sql.run(&format!(r#"update "user" set name = 'a&ä' where id = '{BOB}'"#));
    let [users, _] = List::both();
    for sort in ["", "sort=id&", "sort=-id&"] {
        for (name, sent, count) in [
            ("u48", "u48", 1),
            ("a&ä", "a%26%C3%A4", 1),
            ("nobody", "nobody", 0),
            ("U48", "U48", 0),
            ("u", "u", 0),
            ("", "", 0),
        ] {
            let expected = users.expected(&sql, sort, Some(name));
            assert_eq!(expected.len(), count, "{name}");
            for limit in [1, 50] {
                let first = format!("/users?name={sent}&{sort}limit={limit}");
                let pages = users.walk(&peace, &first, |_| ());
                assert_eq!((pages.len(), pages.concat()), (1, expected.clone()), "{first}");
            }
        }
    }
}

#[test]
fn a_link_asks_for_the_next_page_as_the_first_was_asked_for() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = serve(&turn, &database);
    let asked = format!("/items/?sort=-id&name=a%26%C3%A4&unknown=x%3Cy&user_pubid={ANN}&limit=2");
    for method in ["GET", "HEAD"] {
        let reply = peace.ask_told(&request(method, &asked));
        let link = reply.header("link").unwrap();
        let start = format!("<{asked}&cursor=");
        assert!(link.starts_with(&start) && link.ends_with(r#">; rel="next""#), "{link}");
    }
    let second = link(&peace.ask_told(&get(&asked))).unwrap();
    let third = link(&peace.ask_told(&get(&second))).unwrap();
    assert_eq!(third.matches("cursor=").count(), 1, "{third}");
    assert_ne!(parameter(&second, "cursor"), parameter(&third, "cursor"));
    assert_eq!(third.split("cursor=").next(), second.split("cursor=").next());
}

#[test]
fn a_cursor_goes_on_in_its_own_order_and_in_no_other() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let (peace, sql) = (serve(&turn, &database), database.sql());
    for list in List::both() {
        let mut cursors = Vec::new();
        for (own, other) in [("id", "-id"), ("-id", "id")] {
            let first = format!("{}sort={own}&limit=3", list.target);
            let next = link(&peace.ask_told(&get(first))).unwrap();
            let cursor = parameter(&next, "cursor").unwrap().to_owned();
            let expected = list.expected(&sql, own, None)[3..6].to_vec();
            for sort in ["".to_owned(), format!("sort={own}&")] {
                let reply =
                    peace.ask_told(&get(format!("{}{sort}limit=3&cursor={cursor}", list.target)));
                assert_eq!(list.ids(&reply), expected, "{own}, as {sort:?}");
            }
            let refused =
                peace.ask_told(&get(format!("{}sort={other}&cursor={cursor}", list.target)));
            check_refused(&refused, "query.cursor", "value_error");
            cursors.push(cursor);
        }
        assert_ne!(cursors[0], cursors[1]);
        for sort in ["name", "-name", "ID", "+id", "id,-id", ""] {
            let refused = peace.ask_told(&get(format!("{}sort={sort}", list.target)));
            check_refused(&refused, "query.sort", "enum");
        }
    }
}

/// Whatever it says about rows: the next ones of another list are none of its next ones.
#[test]
fn a_cursor_goes_on_among_the_same_rows_and_among_no_others() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = serve(&turn, &database);
    let lists = [
        "/users?".to_owned(),
        "/users?name=u16&".to_owned(),
        format!("/items?user_pubid={ANN}&"),
        format!("/items?user_pubid={BOB}&"),
    ];
    for one in &lists {
        let Some(next) = link(&peace.ask_told(&get(format!("{one}limit=1")))) else { continue };
        let cursor = parameter(&next, "cursor").unwrap();
        for other in &lists {
            let reply = peace.ask_told(&get(format!("{other}cursor={cursor}")));
            match one == other {
                true => assert_eq!(reply.status, 200, "{next}"),
                false => check_refused(&reply, "query.cursor", "value_error"),
            }
        }
    }
    // The items that are shown with their user go on where the list of that user's items does.
    let upper = ANN.to_uppercase();
    let insert = format!(
        "insert into item select gen_random_uuid(), '{ANN}', 'more', now() from generate_series(1, 200)"
    );
    database.sql().run(&insert);
    let shown = peace.ask_told(&get(format!("/users/{ANN}?incl_items=true"))).json();
    let cursor = shown["items_next"].as_str().unwrap();
    let rest = peace.ask_told(&get(format!("/items?user_pubid={upper}&cursor={cursor}"))).json();
    assert_eq!(rest["items"].as_array().unwrap().len(), NUMBERS.len());
}

fn check_refused(reply: &Reply, place: &str, kind: &str) {
    check_problem(reply, 422, place);
    assert_eq!(failures(reply), [(place.to_owned(), kind.to_owned())]);
    assert_eq!(reply.header("link"), None);
}

#[test]
fn a_list_of_nothing_is_an_empty_last_page() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = serve(&turn, &database);
    let nobody = "00000000-0000-7000-8000-0000000000ff";
    for target in [format!("/items?user_pubid={nobody}"), "/users?name=nobody".to_owned()] {
        let reply = peace.ask_told(&get(&target));
        let expected = serde_json::json!({"limit": 50});
        assert_eq!((reply.status, &reply.json()["page"]), (200, &expected), "{target}");
        assert_eq!(link(&reply), None);
        let rows: Vec<Value> = reply
            .json()
            .as_object()
            .unwrap()
            .values()
            .filter(|one| one.is_array())
            .cloned()
            .collect();
        assert_eq!(rows, [serde_json::json!([])], "{target}");
    }
}

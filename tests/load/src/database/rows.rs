//! The rows that a load is about: put there before the first server starts, and the same for each.
//!
//! Called by `run` and by the conductor after each life of a server. It knows the application's two
//! tables, as a client of the database does; what a scenario needs in others it puts there itself.
//!
//! Whose a database is: users that all have our names were put there by an earlier measurement, so it
//! may be replaced. Without users, it may if all its tables are empty.

use tokio_postgres::{Error, Row, SimpleQueryMessage};
use uuid::Uuid;

use super::Database;
use crate::population::{self, Item, Population, User};
use crate::scenario::Scenario;

/// Rows in one statement.
const BATCH: usize = 10_000;
/// Rows of a kind that the generators know; drawn evenly from all.
const SAMPLE_MAX: i64 = 10_000;
/// What the names of our rows begin with.
const OURS: &str = "load-";
/// Tables that can hold somebody's rows: neither the migrations' own nor an extension's.
const TABLES: &str = "select format('%I.%I', space.nspname, one.relname)
    from pg_class as one join pg_namespace as space on space.oid = one.relnamespace
    where one.relkind in ('r', 'p') and space.nspname = any (current_schemas(false))
    and one.relname not in ('alembic_version', 'peace_migration', 'peace_migration_log')
    and not exists (select from pg_depend as part
        where part.classid = 'pg_class'::regclass and part.objid = one.oid and part.deptype = 'e')
    order by 1";

impl Database {
    /// Fails when there is what no measurement has put there. Only reads.
    pub(super) fn refuse_somebodys(&self) -> Result<(), String> {
        let unknown = |why| format!("--database-url: cannot see whether it is empty: {why}");
        match self.somebodys().map_err(unknown)? {
            None => Ok(()),
            Some(rows) => Err(format!(
                "the database of --database-url holds {rows}: give an empty one, everything in it \
                 is replaced"
            )),
        }
    }

    /// The rows that somebody may need, in words.
    fn somebodys(&self) -> Result<Option<String>, String> {
        if self.number(r#"select count(to_regclass('"user"'))"#)? > 0 {
            // As JSON, because it may be a table without our columns.
            let users = format!(
                r#"select count(*), count(*) filter (where to_jsonb(one) ->> 'name' like '{OURS}%')
                from "user" as one"#
            );
            let count = |row: &Row, at: usize| row.get::<_, i64>(at);
            for row in &self.rows(&users)? {
                match (count(row, 0), count(row, 1)) {
                    (0, _) => {}
                    (all, ours) if all == ours => return Ok(None),
                    (all, ours) if all == ours + 1 => return Ok(Some("1 user".to_owned())),
                    (all, ours) => return Ok(Some(format!("{} users", all - ours))),
                }
            }
        }
        for row in self.rows(TABLES)? {
            let table: String = row.get(0);
            let any = format!("select count(*) from (select from {table} limit 1) as one");
            if self.number(&any)? > 0 {
                return Ok(Some(format!("rows in {table}")));
            }
        }
        Ok(None)
    }

    /// Replaces what is in it by so many rows and those of the scenario; all users have this password.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) fn fill(
        &self,
        users: u32,
        items: u32,
        password: &str,
        scenario: &Scenario,
    ) -> Result<Population, String> {
        let hash = population::hash(password)?;
        let refused = |why: String| format!("the database cannot be filled: {why}");
        let done = self.wait(async {
            self.client.batch_execute(r#"truncate item, "user" cascade"#).await?;
            let ids = self.add_users(users, &hash).await?;
            self.add_items(items, &ids).await
        });
        done.map_err(refused)?;
        self.change("setup", scenario.setup.as_deref())?;
        let done = self.wait(async {
            self.client.batch_execute("vacuum analyze").await?;
            self.client.batch_execute("checkpoint").await
        });
        done.map_err(refused)?;
        self.population(password)
    }

    /// Runs the statements that the scenario has under this key, all or none. How many rows it were.
    fn change(&self, key: &str, sql: Option<&str>) -> Result<u64, String> {
        let Some(sql) = sql else { return Ok(0) };
        let done = self.wait(self.client.simple_query(sql));
        let messages = done.map_err(|why| format!("the scenario's `{key}` is refused: {why}"))?;
        let counts = messages.iter().map(|message| match message {
            SimpleQueryMessage::CommandComplete(count) => *count,
            _ => 0,
        });
        Ok(counts.sum())
    }

    async fn add_users(&self, count: u32, hash: &str) -> Result<Vec<Uuid>, Error> {
        let insert = r#"insert into "user" (id, name, password_hash)
            select id, name, $3 from unnest($1::uuid[], $2::text[]) as new (id, name)"#;
        let numbers: Vec<u32> = (0..count).collect();
        let mut all = Vec::new();
        for numbers in numbers.chunks(BATCH) {
            let ids: Vec<Uuid> = numbers.iter().map(|_| Uuid::now_v7()).collect();
            let names: Vec<String> =
                numbers.iter().map(|number| format!("{OURS}user-{number}")).collect();
            self.client.execute(insert, &[&ids, &names, &hash]).await?;
            all.extend(ids);
        }
        Ok(all)
    }

    /// One after the other to one user after the other.
    async fn add_items(&self, count: u32, users: &[Uuid]) -> Result<(), Error> {
        let insert = "insert into item (id, user_id, name, added)
            select id, user_id, name, now() at time zone 'utc'
            from unnest($1::uuid[], $2::uuid[], $3::text[]) as new (id, user_id, name)";
        let numbers: Vec<u32> = (0..count).collect();
        for numbers in numbers.chunks(BATCH) {
            let ids: Vec<Uuid> = numbers.iter().map(|_| Uuid::now_v7()).collect();
            let owner = |number: &u32| users[*number as usize % users.len()];
            let owners: Vec<Uuid> = numbers.iter().map(owner).collect();
            let names: Vec<String> =
                numbers.iter().map(|number| format!("{OURS}item-{number}")).collect();
            self.client.execute(insert, &[&ids, &owners, &names]).await?;
        }
        Ok(())
    }

    /// Some of the rows, drawn evenly; the same ones each time.
    fn population(&self, password: &str) -> Result<Population, String> {
        let user = |row: &Row| User {
            pubid: row.get::<_, Uuid>(0).to_string(),
            name: row.get(1),
            password: password.to_owned(),
        };
        let item = |row: &Row| Item {
            pubid: row.get::<_, Uuid>(0).to_string(),
            user: row.get::<_, Uuid>(1).to_string(),
        };
        let drawn = format!("order by md5(id::text) limit {SAMPLE_MAX}");
        let users = self.rows(&format!(r#"select id, name from "user" {drawn}"#))?;
        let items = self.rows(&format!("select id, user_id from item {drawn}"))?;
        let users: Vec<User> = users.iter().map(user).collect();
        let writers = users.iter().take(population::WRITERS_MAX);
        let writers: Vec<Uuid> = writers.filter_map(|user| user.pubid.parse().ok()).collect();
        let theirs = format!("select id, user_id from item where user_id = any($1) {drawn}");
        let theirs = self.wait(self.client.query(&theirs, &[&writers]))?;
        let [items, writer_items] = [items, theirs].map(|rows| rows.iter().map(item).collect());
        Ok(Population { users, items, writer_items })
    }

    /// Removes what a load has added. The scenario's rows first: they may refer to items.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) fn forget_new_rows(&self, scenario: &Scenario) -> Result<(), String> {
        let cleaned = self.change("cleanup", scenario.cleanup.as_deref())?;
        let new = format!("delete from item where name not like '{OURS}item-%'");
        self.wait(async {
            if cleaned > 0 {
                self.client.batch_execute("vacuum analyze").await?;
            }
            match self.client.execute(&new, &[]).await? {
                0 => Ok(()),
                _ => self.client.batch_execute("vacuum analyze item").await,
            }
        })
    }
}

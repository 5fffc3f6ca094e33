//! Users: everyone may read them, and become one.
//!
//! Who signs up is checked in this order: the body (422), whether the request was answered before
//! (`Idempotency-Key`), then the name (409). What users do with their own is in `account`, what
//! concerns their password in `password`.

use secrecy::SecretString;
use uuid::Uuid;
use worker::{
    Boolean, Conditions, Context, Created, Database, DbError, IdempotencyKey, Json, Linked, Path,
    Query, Repeatable, Reply, Routes, Row, Tagged, Text, both, payload, response,
};

use super::items::{self, Item, ItemResponse};
use super::{Resource, RowPath};
use crate::app::App;
use crate::errors::{ApiError, CHANGE, DATABASE, NAME_TAKEN, ONCE, ONE, Result, UNIQUE};
use crate::idempotency::Attempt;
use crate::pages::{Page, PageResponse, Sort};
use crate::security::passwords::Secret;
use crate::versions::Versioned;

pub(super) const RESOURCE: Resource = Resource {
    chapter: ("users", "Everyone may read users, each may change their own."),
    routes,
    tables: &[User::TABLE],
    statements: statements![
        SELECT_PAGE,
        SELECT_PAGE_BACKWARD,
        SELECT_NAMED,
        SELECT,
        SELECT_WITH_ITEMS,
        INSERT,
    ],
};

fn routes(routes: &mut Routes<App>) {
    let reading = [ONE, DATABASE].concat();
    let creating = [CHANGE, ONCE, UNIQUE, &[&NAME_TAKEN]].concat();
    routes.get("/users", "users-list", list).about("List users").fails(DATABASE);
    routes.get("/users/{pubid}", "users-read", read).about("Read a user").fails(&reading);
    routes.post("/users", "users-create", create).about("Sign up").fails(&creating);
}

// The table

migrations::table! {
    pub(super) struct User: "user" from Row<'_> {
        id: Uuid = "uuid primary key",
        name: String = "varchar(30) not null unique",
        fullname: Option<String> = "varchar",
    }
    unread password_hash: Option<String> = "varchar";
    unread version: i64 = "bigint not null default 1";
}

// Payloads and responses

/// Longest name, in characters.
const NAME_MAX: usize = 30;
/// No longer, in characters, than that a page of 200 users stays small. The column takes more, and
/// so did other programs on it: a longer one is shown, not written.
pub(super) const FULLNAME: Text = Text::max(200).like("Ann Example");
/// Items shown with their user, at most.
const ITEMS_MAX: i64 = 200;

payload! {
    struct ListUsers {
        /// Only the user of this name.
        name: Option<String> = optional(Text::max(NAME_MAX)),
        page: Page = |fields| Page::read(fields, "users"),
    }

    struct ReadUser {
        /// Also show their first 200 items.
        incl_items: Option<bool> = optional(Boolean),
    }

    struct CreateUser {
        name: String = required(Text::max(NAME_MAX).like("ann")),
        password: SecretString = required(Secret::new_password()),
        fullname: Option<String> = optional(FULLNAME),
    }
}

response! {
    /// A user.
    pub(super) struct UserResponse {
        pubid: Uuid,
        name: String = "ann",
        fullname: Option<String> = "Ann Example",
        /// Where asked for.
        items: Option<Vec<ItemResponse>>,
        /// The cursor of `GET /items` for the items that are not shown.
        items_next: Option<String>,
    }

    /// A page of users, in order of creation.
    struct UsersResponse {
        users: Vec<UserResponse>,
        page: PageResponse,
    }
}

impl From<User> for UserResponse {
    fn from(User { id, name, fullname }: User) -> Self {
        Self { pubid: id, name, fullname, items: None, items_next: None }
    }
}

// Handlers

pub(super) type Answer = Result<Tagged<Reply<UserResponse>>>;

async fn list(cx: Context<App>, query: Query<ListUsers>) -> Result<Linked<Reply<UsersResponse>>> {
    let ListUsers { name, page } = query.read()?;
    let page = page.of(&[name.as_deref()])?;
    let database = &cx.app().database;
    let users = match name {
        None => select_page(database, &page).await?,
        Some(name) => select_named(database, &name, &page).await?,
    };
    let (users, page) = page.cut(users, |user| user.id);
    Ok(Linked { next: page.next(&cx), success: Reply(UsersResponse { users, page }) })
}

async fn read(
    cx: Context<App>,
    path: Path<RowPath>,
    query: Query<ReadUser>,
    conditions: Conditions,
) -> Answer {
    let (RowPath { pubid }, ReadUser { incl_items }) = both(path.read(), query.read())?;
    let database = &cx.app().database;
    if incl_items != Some(true) {
        return select(database, pubid).await?.reply_to(&conditions);
    }
    let page = Page::first(items::LIST, ITEMS_MAX, Sort::Ascending);
    let page = page.of(&[Some(&pubid.to_string())])?;
    let (user, items) = select_with_items(database, pubid, page.rows_max()).await?;
    let (items, page) = page.cut(items, |item| item.id);
    let (items, items_next) = (Some(items), page.next_cursor);
    // Items change without their user, so the user's version is no tag of both, and what has no tag
    // is under no condition.
    Ok(Reply(UserResponse { items, items_next, ..user.into() }).into())
}

async fn create(
    cx: Context<App>,
    key: IdempotencyKey,
    body: Json<CreateUser>,
) -> Result<Repeatable<Tagged<Created<UserResponse>>>> {
    let (CreateUser { name, password, fullname }, bytes) = body.read_with_bytes().await?;
    let App { database, passwords, .. } = cx.app();
    let attempt = Attempt::of(&cx, &key, None, &bytes)?;
    if let Some(answered) = attempt.answered(database).await? {
        return Ok(answered); // before the password is hashed, which takes longer than all the rest
    }
    let new = (Uuid::now_v7(), name, fullname, passwords.hash(password).await?);
    attempt.insert(database, INSERT, new, User::from_row, name_taken).await
}

// Queries

const NO_USER: ApiError = ApiError::NotFound("user");

const SELECT_PAGE: &str =
    r#"select id, name, fullname from "user" where id > $1 order by id limit $2"#;
const SELECT_PAGE_BACKWARD: &str =
    r#"select id, name, fullname from "user" where id < $1 order by id desc limit $2"#;

async fn select_page(database: &Database, page: &Page) -> Result<Vec<User>> {
    let sql = page.sort.sql(SELECT_PAGE, SELECT_PAGE_BACKWARD);
    let rows = database.rows(sql, &[&page.from, &page.rows_max()]).await?;
    Ok(rows.read(User::from_row))
}

/// A name is one user's, so there is no order.
const SELECT_NAMED: &str =
    r#"select id, name, fullname from "user" where name = $1 and id > $2 and id < $3"#;

async fn select_named(database: &Database, name: &str, page: &Page) -> Result<Vec<User>> {
    let (after, before) = page.between();
    let rows = database.rows(SELECT_NAMED, &[&name, &after, &before]).await?;
    Ok(rows.read(User::from_row))
}

const SELECT: &str = r#"select id, name, fullname, version from "user" where id = $1"#;

pub(super) async fn select(database: &Database, id: Uuid) -> Result<Versioned<User>> {
    let row = database.row(SELECT, &[&id]).await?.ok_or(NO_USER)?;
    Ok(Versioned::from_row(&row, User::from_row))
}

/// The user in every row, with one of their items; without any, one row whose item is null.
const SELECT_WITH_ITEMS: &str = r#"
    select u.name as user_name, u.fullname, i.id, i.user_id, i.name, i.added
    from "user" u left join lateral (
        select * from item where user_id = u.id order by id limit $2
    ) i on true
    where u.id = $1 order by i.id"#;

/// A user with their first items, at most `max`, in one round trip.
async fn select_with_items(database: &Database, id: Uuid, max: i64) -> Result<(User, Vec<Item>)> {
    let rows = database.rows(SELECT_WITH_ITEMS, &[&id, &max]).await?;
    let user = rows.first().ok_or(NO_USER)?;
    let user = User { id, name: user.get("user_name"), fullname: user.get("fullname") };
    let has_item = |row: &Row<'_>| row.get::<Option<Uuid>>("id").is_some();
    let items = rows.iter().filter(has_item).map(|row| Item::from_row(&row));
    Ok((user, items.collect()))
}

const INSERT: &str = r#"
    insert into "user" (id, name, fullname, password_hash) values ($1, $2, $3, $4)
    returning id, id as user_id, name, fullname, version"#;

fn name_taken(error: DbError) -> ApiError {
    match error {
        DbError::Constraint { name, .. } if name == "user_name_key" => ApiError::NameTaken,
        other => other.into(),
    }
}

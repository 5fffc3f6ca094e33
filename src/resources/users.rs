//! Users: everyone may read them, each may change their own.
//!
//! Whoever changes a user is checked in this order: the token (401), the id in the path (422),
//! whose it is (403), the body (422), then the database (404). What concerns their password is in
//! `password`.

use secrecy::SecretString;
use uuid::Uuid;
use worker::{
    Boolean, Change, Context, Created, Database, DbError, Json, Path, Query, Reply, Routes, Row,
    Text, both, payload, response,
};

use super::Resource;
use super::items::{self, Item, ItemResponse};
use crate::app::App;
use crate::callers;
use crate::errors::{ApiError, CHANGE, DATABASE, NAME_TAKEN, ONE, OWN, Result};
use crate::pages::{Page, PageResponse};
use crate::security::passwords::Secret;

pub(super) const RESOURCE: Resource = Resource {
    chapter: ("users", "Everyone may read users, each may change their own."),
    routes,
    tables: &[User::TABLE],
    statements: statements![SELECT_PAGE, SELECT, SELECT_WITH_ITEMS, INSERT, UPDATE, DELETE],
};

fn routes(routes: &mut Routes<App>) {
    let (reading, changing) = ([ONE, DATABASE].concat(), [OWN, ONE, CHANGE].concat());
    routes.get("/users", "users-list", list).about("List users").fails(DATABASE);
    routes.get("/users/{pubid}", "users-read", read).about("Read a user").fails(&reading);
    routes
        .post("/users", "users-create", create)
        .about("Sign up")
        .fails(CHANGE)
        .fails(&[&NAME_TAKEN]);
    routes.put("/users/{pubid}", "users-replace", replace).about("Replace a user").fails(&changing);
    routes.patch("/users/{pubid}", "users-patch", patch).about("Change a user").fails(&changing);
    routes.delete("/users/{pubid}", "users-delete", delete).about("Delete a user").fails(&changing);
}

// The table

migrations::table! {
    pub(super) struct User: "user" from Row<'_> {
        id: Uuid = "uuid primary key",
        name: String = "varchar(30) not null unique",
        fullname: Option<String> = "varchar",
    }
    unread password_hash: Option<String> = "varchar";
}

// Payloads and responses

/// Longest name, in characters.
const NAME_MAX: usize = 30;
/// No longer, in characters, than that a page of 200 users stays small. The column takes more, and
/// so did other programs on it: a longer one is shown, not written.
const FULLNAME: Text = Text::max(200).like("Ann Example");
/// Items shown with their user, at most.
const ITEMS_MAX: i64 = 200;

payload! {
    struct ListUsers {
        page: Page = |fields| Page::read(fields, "users"),
    }

    pub(super) struct UserPath {
        pub(super) pubid: Uuid = required(worker::Uuid),
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

    struct ReplaceUser {
        /// Left out, it is cleared.
        fullname: Option<String> = optional(FULLNAME),
    }

    struct PatchUser: closed {
        /// Left out, it stays; null clears it.
        fullname: Change<String> = change(FULLNAME),
    }
}

response! {
    /// A user.
    struct UserResponse {
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

type Answer = Result<Reply<UserResponse>>;

async fn list(cx: Context<App>, query: Query<ListUsers>) -> Result<Reply<UsersResponse>> {
    let ListUsers { page } = query.read()?;
    let users = select_page(&cx.app().database, &page).await?;
    let (users, page) = page.cut(users, |user| user.id);
    Ok(Reply(UsersResponse { users, page }))
}

async fn read(cx: Context<App>, path: Path<UserPath>, query: Query<ReadUser>) -> Answer {
    let (UserPath { pubid }, ReadUser { incl_items }) = both(path.read(), query.read())?;
    let database = &cx.app().database;
    if incl_items != Some(true) {
        return Ok(Reply(select(database, pubid).await?.into()));
    }
    let page = Page::first(items::LIST, ITEMS_MAX);
    let (user, items) = select_with_items(database, pubid, page.rows_max()).await?;
    let (items, page) = page.cut(items, |item| item.id);
    let (items, items_next) = (Some(items), page.next_cursor);
    Ok(Reply(UserResponse { items, items_next, ..user.into() }))
}

async fn create(cx: Context<App>, body: Json<CreateUser>) -> Result<Created<UserResponse>> {
    let CreateUser { name, password, fullname } = body.read().await?;
    let password_hash = cx.app().passwords.hash(password).await?;
    let new = User { id: Uuid::now_v7(), name, fullname };
    let user = insert(&cx.app().database, new, password_hash).await?;
    Ok(Created { location: format!("/users/{}", user.id), body: user.into() })
}

async fn replace(cx: Context<App>, path: Path<UserPath>, body: Json<ReplaceUser>) -> Answer {
    let pubid = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let ReplaceUser { fullname } = body.read().await?;
    Ok(Reply(update(&cx.app().database, pubid, fullname).await?.into()))
}

async fn patch(cx: Context<App>, path: Path<UserPath>, body: Json<PatchUser>) -> Answer {
    let pubid = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    let PatchUser { fullname } = body.read().await?;
    let database = &cx.app().database;
    let user = match fullname {
        Change::Keep => select(database, pubid).await?,
        Change::Clear => update(database, pubid, None).await?,
        Change::Set(fullname) => update(database, pubid, Some(fullname)).await?,
    };
    Ok(Reply(user.into()))
}

async fn delete(cx: Context<App>, path: Path<UserPath>) -> Result<Reply<()>> {
    let pubid = callers::caller(&cx)?.must_be(path.read()?.pubid)?; // 401, 422, 403
    match cx.app().database.write(DELETE, (pubid,)).await? {
        0 => Err(NO_USER),
        _ => Ok(Reply(())),
    }
}

// Queries

pub(super) const NO_USER: ApiError = ApiError::NotFound("user");

const SELECT_PAGE: &str =
    r#"select id, name, fullname from "user" where id > $1 order by id limit $2"#;

async fn select_page(database: &Database, page: &Page) -> Result<Vec<User>> {
    let rows = database.rows(SELECT_PAGE, &[&page.after, &page.rows_max()]).await?;
    Ok(rows.read(User::from_row))
}

const SELECT: &str = r#"select id, name, fullname from "user" where id = $1"#;

async fn select(database: &Database, id: Uuid) -> Result<User> {
    let row = database.row(SELECT, &[&id]).await?.ok_or(NO_USER)?;
    Ok(User::from_row(&row))
}

/// For `auth`: a token may outlive its user.
pub(super) async fn exists(database: &Database, id: Uuid) -> Result<bool> {
    Ok(database.row(SELECT, &[&id]).await?.is_some())
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
    returning id, name, fullname"#;

async fn insert(database: &Database, new: User, password_hash: String) -> Result<User> {
    let values = (new.id, new.name, new.fullname, password_hash);
    let row = database.insert_row(INSERT, values).await.map_err(name_taken)?;
    Ok(User::from_row(&row))
}

fn name_taken(error: DbError) -> ApiError {
    match error {
        DbError::Constraint { name, .. } if name == "user_name_key" => ApiError::NameTaken,
        other => other.into(),
    }
}

const UPDATE: &str = r#"
    update "user" set fullname = $2 where id = $1
    returning id, name, fullname"#;

async fn update(database: &Database, id: Uuid, fullname: Option<String>) -> Result<User> {
    let row = database.write_row(UPDATE, (id, fullname)).await?.ok_or(NO_USER)?;
    Ok(User::from_row(&row))
}

const DELETE: &str = r#"delete from "user" where id = $1"#;

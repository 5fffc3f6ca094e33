//! Users: everyone may read them, each may change their own.
//!
//! | route | success | its own problems |
//! |---|---|---|
//! | `GET /users` `?limit=&cursor=` | 200 `{"users":[…],"page":{…}}`, in order of creation | |
//! | `GET /users/{pubid}` | 200 | 404 |
//! | `POST /users` `{name, password, fullname?}` | 201, `Location` | 409 the name is taken |
//! | `PUT /users/{pubid}` `{fullname?}` | 200; an absent `fullname` is cleared | 401, 403, 404 |
//! | `PATCH /users/{pubid}` `{fullname?}` | 200; an absent `fullname` is kept | 401, 403, 404 |
//! | `PUT /users/{pubid}/password` `{current, new}` | 204 | 401, 403 (or wrong `current`), 404 |
//! | `DELETE /users/{pubid}` | 200 `null`; their items go too | 401, 403, 404 |
//!
//! A name has at most 30 characters, a full name at most 200 (the column takes more, and so did
//! other programs on it: a longer one is shown, not written).
//! Whoever changes a user is checked in this order: the token (401), the id in the path (422),
//! whose it is (403), the body (422), then the database (404).

use secrecy::SecretString;
use serde::Serialize;
use tokio_postgres::Row;
use tracing::warn;
use uuid::Uuid;
use worker::{
    Change, Context, Created, Database, DbError, Empty, Fields, Json, Path, Payload, Query, Reply,
    Routes, Text, Transaction,
};

use super::Resource;
use crate::app::App;
use crate::callers;
use crate::errors::{
    ApiError, BODY, CHANGE, DATABASE, INPUT, NAME_TAKEN, ONE, OWN, WRONG_PASSWORD,
};
use crate::pages::{Page, PageResponse};
use crate::security::passwords;

pub(super) const RESOURCE: Resource = Resource {
    routes,
    statements: &[
        SELECT_FIRST_PAGE,
        SELECT_PAGE_AFTER,
        SELECT,
        SELECT_CREDENTIALS,
        SELECT_PASSWORD_HASH,
        SELECT_PASSWORD_HASH_FOR_UPDATE,
        INSERT,
        UPDATE,
        UPDATE_PASSWORD_HASH,
        DELETE,
    ],
};

fn routes(routes: &mut Routes<App>) {
    let changing = [OWN, ONE, INPUT, BODY, CHANGE, DATABASE].concat();

    routes.get("/users", "users-list", list).fails(INPUT).fails(DATABASE);
    routes
        .post("/users", "users-create", create)
        .fails(&[INPUT, BODY, CHANGE, DATABASE].concat())
        .fails(&[&NAME_TAKEN]);
    routes.get("/users/{pubid}", "users-read", read).fails(&[ONE, INPUT, DATABASE].concat());
    routes.put("/users/{pubid}", "users-replace", replace).fails(&changing);
    routes.patch("/users/{pubid}", "users-patch", patch).fails(&changing);
    routes
        .put("/users/{pubid}/password", "users-password", change_password)
        .fails(&changing)
        .fails(&[&WRONG_PASSWORD]);
    routes
        .delete("/users/{pubid}", "users-delete", delete)
        .fails(&[OWN, ONE, INPUT, CHANGE, DATABASE].concat());
}

// Payloads and responses

/// Longest name, in characters.
const NAME_MAX: usize = 30;
/// Longest full name, in characters: a page of 200 users stays small.
const FULLNAME_MAX: usize = 200;

struct UserPath {
    pubid: Uuid,
}

impl Payload for UserPath {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let pubid = fields.required("pubid", worker::Uuid);
        let (pubid,) = fields.all((pubid,))?;
        Some(Self { pubid })
    }
}

struct ListUsers {
    page: Page,
}

impl Payload for ListUsers {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let page = Page::read(fields, "users");
        let (page,) = fields.all((page,))?;
        Some(Self { page })
    }
}

struct CreateUser {
    name: String,
    password: SecretString,
    fullname: Option<String>,
}

impl Payload for CreateUser {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", Text::max(NAME_MAX));
        let password = fields.required("password", new_password());
        let fullname = fields.optional("fullname", Text::max(FULLNAME_MAX));
        let (name, password, fullname) = fields.all((name, password, fullname))?;
        Some(Self { name, password: password.into(), fullname })
    }
}

struct ReplaceUser {
    fullname: Option<String>,
}

impl Payload for ReplaceUser {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let fullname = fields.optional("fullname", Text::max(FULLNAME_MAX));
        let (fullname,) = fields.all((fullname,))?;
        Some(Self { fullname })
    }
}

struct PatchUser {
    fullname: Change<String>,
}

impl Payload for PatchUser {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.closed();
        let fullname = fields.change("fullname", Text::max(FULLNAME_MAX));
        let (fullname,) = fields.all((fullname,))?;
        Some(Self { fullname })
    }
}

struct ChangePassword {
    current: SecretString,
    new: SecretString,
}

impl Payload for ChangePassword {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        // One that is longer than any password is a wrong one, not a malformed one.
        let current = fields.required("current", Text::unbounded());
        let new = fields.required("new", new_password());
        let (current, new) = fields.all((current, new))?;
        Some(Self { current: current.into(), new: new.into() })
    }
}

fn new_password() -> Text {
    Text::between(passwords::LENGTH_MIN, passwords::LENGTH_MAX)
}

#[derive(Serialize)]
struct UserResponse {
    pubid: Uuid,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fullname: Option<String>,
}

impl From<User> for UserResponse {
    fn from(user: User) -> Self {
        Self { pubid: user.id, name: user.name, fullname: user.fullname }
    }
}

#[derive(Serialize)]
struct UsersResponse {
    users: Vec<UserResponse>,
    page: PageResponse,
}

// Handlers

async fn list(cx: Context<App>, query: Query<ListUsers>) -> Result<Reply<UsersResponse>, ApiError> {
    let ListUsers { page } = query.read()?;
    let mut users = select_page(&cx.app().database, &page).await?;
    let page = page.cut(&mut users, |user| user.id);
    Ok(Reply(UsersResponse { users: users.into_iter().map(UserResponse::from).collect(), page }))
}

async fn read(cx: Context<App>, path: Path<UserPath>) -> Result<Reply<UserResponse>, ApiError> {
    let UserPath { pubid } = path.read()?;
    let user = select(&cx.app().database, pubid).await?;
    Ok(Reply(user.into()))
}

async fn create(
    cx: Context<App>,
    body: Json<CreateUser>,
) -> Result<Created<UserResponse>, ApiError> {
    let CreateUser { name, password, fullname } = body.read().await?;
    let app = cx.app();
    let password_hash = app.passwords.hash(password).await?;
    let new = NewUser { id: Uuid::now_v7(), name, fullname, password_hash };
    let user = insert(&app.database, new).await?;
    Ok(Created { location: format!("/users/{}", user.id), body: user.into() })
}

async fn replace(
    cx: Context<App>,
    path: Path<UserPath>,
    body: Json<ReplaceUser>,
) -> Result<Reply<UserResponse>, ApiError> {
    let pubid = own(&cx, &path)?;
    let ReplaceUser { fullname } = body.read().await?;
    let user = update(&cx.app().database, pubid, fullname).await?;
    Ok(Reply(user.into()))
}

async fn patch(
    cx: Context<App>,
    path: Path<UserPath>,
    body: Json<PatchUser>,
) -> Result<Reply<UserResponse>, ApiError> {
    let pubid = own(&cx, &path)?;
    let PatchUser { fullname } = body.read().await?;
    let database = &cx.app().database;
    let user = match fullname {
        Change::Keep => select(database, pubid).await?,
        Change::Clear => update(database, pubid, None).await?,
        Change::Set(fullname) => update(database, pubid, Some(fullname)).await?,
    };
    Ok(Reply(user.into()))
}

async fn change_password(
    cx: Context<App>,
    path: Path<UserPath>,
    body: Json<ChangePassword>,
) -> Result<Empty, ApiError> {
    let pubid = own(&cx, &path)?;
    let ChangePassword { current, new } = body.read().await?;
    let app = cx.app();
    let stored = select_password_hash(&app.database, pubid).await?;
    let new_hash = app.passwords.replace(current, stored.clone(), new).await?;
    let new_hash = new_hash.ok_or(ApiError::WrongPassword)?;
    replace_password_hash(&app.database, pubid, stored, new_hash).await?;
    Ok(Empty)
}

async fn delete(cx: Context<App>, path: Path<UserPath>) -> Result<Reply<()>, ApiError> {
    let pubid = own(&cx, &path)?;
    delete_row(&cx.app().database, pubid).await?;
    Ok(Reply(()))
}

/// The user of the path, whom only they themselves may change.
fn own(cx: &Context<App>, path: &Path<UserPath>) -> Result<Uuid, ApiError> {
    let caller = callers::caller(cx)?; // 401
    let UserPath { pubid } = path.read()?; // 422
    caller.must_be(pubid)?; // 403
    Ok(pubid)
}

// Queries

const NO_USER: ApiError = ApiError::NotFound("user");

const SELECT_FIRST_PAGE: &str = r#"select id, name, fullname from "user" order by id limit $1"#;

const SELECT_PAGE_AFTER: &str =
    r#"select id, name, fullname from "user" where id > $2 order by id limit $1"#;

/// The rows of a page, and one more if there is one.
async fn select_page(database: &Database, page: &Page) -> Result<Vec<User>, ApiError> {
    let rows = match page.after {
        None => database.rows(SELECT_FIRST_PAGE, &[&page.rows_max()]).await?,
        Some(id) => database.rows(SELECT_PAGE_AFTER, &[&page.rows_max(), &id]).await?,
    };
    Ok(rows.iter().map(User::from_row).collect())
}

const SELECT: &str = r#"select id, name, fullname from "user" where id = $1"#;

async fn select(database: &Database, id: Uuid) -> Result<User, ApiError> {
    let row = database.row(SELECT, &[&id]).await?.ok_or(NO_USER)?;
    Ok(User::from_row(&row))
}

const SELECT_PASSWORD_HASH: &str = r#"select password_hash from "user" where id = $1"#;

async fn select_password_hash(database: &Database, id: Uuid) -> Result<Option<String>, ApiError> {
    let row = database.row(SELECT_PASSWORD_HASH, &[&id]).await?.ok_or(NO_USER)?;
    Ok(password_hash(id, &row))
}

const SELECT_CREDENTIALS: &str = r#"select id, password_hash from "user" where name = $1"#;

/// What a login is checked against. For `auth`.
pub(super) async fn select_credentials(
    database: &Database,
    name: &str,
) -> Result<Option<Credentials>, ApiError> {
    let row = database.row(SELECT_CREDENTIALS, &[&name]).await?;
    Ok(row.map(|row| Credentials::from_row(&row)))
}

const INSERT: &str = r#"
    insert into "user" (id, name, fullname, password_hash) values ($1, $2, $3, $4)
    returning id, name, fullname"#;

async fn insert(database: &Database, new: NewUser) -> Result<User, ApiError> {
    let NewUser { id, name, fullname, password_hash } = new;
    let row = database.write_row(INSERT, (id, name, fullname, password_hash)).await;
    let row = row.map_err(name_taken)?.ok_or(NO_USER)?;
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

async fn update(database: &Database, id: Uuid, fullname: Option<String>) -> Result<User, ApiError> {
    let row = database.write_row(UPDATE, (id, fullname)).await?.ok_or(NO_USER)?;
    Ok(User::from_row(&row))
}

const SELECT_PASSWORD_HASH_FOR_UPDATE: &str =
    r#"select password_hash from "user" where id = $1 for update"#;

const UPDATE_PASSWORD_HASH: &str = r#"update "user" set password_hash = $2 where id = $1"#;

/// Only while the hash is still `old`: of two changes at once the later one gave a password that
/// is no longer the current one. The passwords were hashed before: no row is locked meanwhile.
async fn replace_password_hash(
    database: &Database,
    id: Uuid,
    old: Option<String>,
    new: String,
) -> Result<(), ApiError> {
    database
        .transaction(async move |tx: &Transaction<'_>| {
            let row = tx.row(SELECT_PASSWORD_HASH_FOR_UPDATE, &[&id]).await?.ok_or(NO_USER)?;
            if row.get::<_, Option<String>>("password_hash") != old {
                return Err(ApiError::WrongPassword);
            }
            tx.execute(UPDATE_PASSWORD_HASH, &[&id, &new]).await?;
            Ok(())
        })
        .await
}

const DELETE: &str = r#"delete from "user" where id = $1"#;

async fn delete_row(database: &Database, id: Uuid) -> Result<(), ApiError> {
    match database.write(DELETE, (id,)).await? {
        0 => Err(NO_USER),
        _ => Ok(()),
    }
}

// Rows

struct User {
    id: Uuid,
    name: String,
    fullname: Option<String>,
}

impl User {
    fn from_row(row: &Row) -> Self {
        Self { id: row.get("id"), name: row.get("name"), fullname: row.get("fullname") }
    }
}

struct NewUser {
    id: Uuid,
    name: String,
    fullname: Option<String>,
    password_hash: String,
}

/// Whose password is asked for, and its hash; a user without one cannot log in.
pub(super) struct Credentials {
    pub(super) id: Uuid,
    pub(super) password_hash: Option<String>,
}

impl Credentials {
    fn from_row(row: &Row) -> Self {
        let id = row.get("id");
        Self { id, password_hash: password_hash(id, row) }
    }
}

/// The stored hash of a user. One that cannot be read lets nobody in, as if there were none; the
/// log says whose.
fn password_hash(user: Uuid, row: &Row) -> Option<String> {
    let stored: Option<String> = row.get("password_hash");
    if stored.as_deref().is_some_and(|stored| !passwords::is_readable(stored)) {
        warn!(%user, "the stored password hash is of a kind that cannot be read: no login");
    }
    stored
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(fullname: Option<&str>) -> User {
        let id = Uuid::from_u128(0xABCD);
        User { id, name: "u1".to_owned(), fullname: fullname.map(str::to_owned) }
    }

    #[test]
    fn a_missing_fullname_is_left_out_and_an_empty_one_is_kept() {
        let json = |user: User| serde_json::to_value(UserResponse::from(user)).unwrap();
        let pubid = "00000000-0000-0000-0000-00000000abcd";
        assert_eq!(json(user(None)), json!({ "pubid": pubid, "name": "u1" }));
        assert_eq!(json(user(Some(""))), json!({ "pubid": pubid, "name": "u1", "fullname": "" }));
    }

    #[test]
    fn only_the_constraint_of_the_name_says_that_it_is_taken() {
        let refused = |name: &str| DbError::Constraint {
            kind: worker::ConstraintKind::Unique,
            name: name.to_owned(),
        };
        assert!(matches!(name_taken(refused("user_name_key")), ApiError::NameTaken));
        assert!(matches!(name_taken(refused("user_pkey")), ApiError::Database(_)));
    }

    #[test]
    fn a_patch_refuses_what_it_does_not_know_and_the_others_ignore_it() {
        assert!(Fields::describe::<PatchUser>().closed);
        assert!(!Fields::describe::<ReplaceUser>().closed);
        assert!(!Fields::describe::<CreateUser>().closed);
    }
}

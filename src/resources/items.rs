//! Items: everyone may read them, their owner may write them.
//!
//! | route | success | its own problems |
//! |---|---|---|
//! | `GET /items` `?user_pubid=` `&limit=&cursor=` | 200 `{"items":[…],"page":{…}}`, oldest first | |
//! | `GET /items/{pubid}` | 200 | 404 |
//! | `POST /items` `{name, user_pubid}` | 201, `Location` | 401, 403 |
//! | `PUT /items/{pubid}` `{added?}` | 200; an absent `added` is kept | 401, 403, 404 |
//! | `PATCH /items/{pubid}` `{added?}` | 200; unknown members are refused | 401, 403, 404 |
//! | `DELETE /items/{pubid}` | 200 `null` | 401, 403, 404 |
//!
//! Whoever writes an item is checked in this order: the token (401), the id in the path and the body
//! (422), then in the database whether the item is there (404) and whose it is (403).
//! With `PEACE_ITEM_WRITES=anyone` nobody is asked for a token, as in the Python template. Only
//! items know this switch: a copy of this file for another resource leaves `item_owner` out, and
//! writes `callers::caller(&cx)?.user` where it stands; its owner is a `Uuid` then, never none.

use uuid::Uuid;
use worker::{
    Context, Created, Database, DbError, Json, Path, Query, Reply, Routes, Row, Text, both,
    payload, response,
};

use super::Resource;
use crate::app::App;
use crate::callers;
use crate::datetimes::{DateTime, UtcDateTime};
use crate::errors::{ApiError, CHANGE, DATABASE, ONE, OWN, Result};
use crate::pages::{Page, PageResponse};
use crate::settings::ItemWrites;

pub(super) const RESOURCE: Resource = Resource {
    chapter: ("items", "Everyone may read items, their owner may write them."),
    routes,
    tables: &[Item::TABLE],
    statements: statements![SELECT_PAGE, SELECT, INSERT, UPDATE, DELETE],
};

fn routes(routes: &mut Routes<App>) {
    let (reading, changing) = ([ONE, DATABASE].concat(), [OWN, ONE, CHANGE].concat());
    routes.get("/items", "items-list", list).about("List a user's items").fails(DATABASE);
    routes.get("/items/{pubid}", "items-read", read).about("Read an item").fails(&reading);
    routes.post("/items", "items-create", create).about("Create an item").fails(OWN).fails(CHANGE);
    routes
        .put("/items/{pubid}", "items-replace", replace)
        .about("Replace an item")
        .fails(&changing);
    routes.patch("/items/{pubid}", "items-patch", patch).about("Change an item").fails(&changing);
    routes
        .delete("/items/{pubid}", "items-delete", delete)
        .about("Delete an item")
        .fails(&changing);
}

// The table

migrations::table! {
    pub(super) struct Item: "item" from Row<'_> {
        id: Uuid = "uuid primary key",
        user_id: Uuid = r#"uuid not null references "user" on delete cascade"#,
        name: String = "varchar(30) not null",
        added: UtcDateTime = "timestamp not null",
    }
    also "create index item_user_id_id_idx on item (user_id, id)";
}

// Payloads and responses

/// The name of the list, in its cursors.
pub(super) const LIST: &str = "items";
/// Longest name, in characters.
const NAME_MAX: usize = 30;

payload! {
    struct ListItems {
        /// Whose items.
        user_pubid: Uuid = required(worker::Uuid),
        page: Page = |fields| Page::read(fields, LIST),
    }

    struct ItemPath {
        pubid: Uuid = required(worker::Uuid),
    }

    struct CreateItem {
        name: String = required(Text::max(NAME_MAX).like("umbrella")),
        /// Its owner: the user whose token is sent.
        user_pubid: Uuid = required(worker::Uuid),
    }

    struct ReplaceItem {
        /// Left out, it stays as it is.
        added: Option<UtcDateTime> = optional(DateTime),
    }

    struct PatchItem: closed {
        added: Option<UtcDateTime> = set(DateTime),
    }
}

response! {
    /// An item.
    pub(super) struct ItemResponse {
        pubid: Uuid,
        name: String = "umbrella",
        added: UtcDateTime,
        /// Its owner.
        user_pubid: Uuid,
    }

    /// A page of items, oldest first.
    struct ItemsResponse {
        items: Vec<ItemResponse>,
        page: PageResponse,
    }
}

impl From<Item> for ItemResponse {
    fn from(Item { id, user_id, name, added }: Item) -> Self {
        Self { pubid: id, name, added, user_pubid: user_id }
    }
}

// Handlers

type Answer = Result<Reply<ItemResponse>>;

/// Whose items the caller may write: their own, or (none) anyone's where the settings say so.
/// For items only: not to be copied, see the head of the file.
fn item_owner(cx: &Context<App>) -> Result<Option<Uuid>> {
    match cx.app().item_writes {
        ItemWrites::Owner => Ok(Some(callers::caller(cx)?.user)),
        ItemWrites::Anyone => Ok(None),
    }
}

async fn list(cx: Context<App>, query: Query<ListItems>) -> Result<Reply<ItemsResponse>> {
    let ListItems { user_pubid, page } = query.read()?;
    let items = select_page(&cx.app().database, user_pubid, &page).await?;
    let (items, page) = page.cut(items, |item| item.id);
    Ok(Reply(ItemsResponse { items, page }))
}

async fn read(cx: Context<App>, path: Path<ItemPath>) -> Answer {
    let ItemPath { pubid } = path.read()?;
    Ok(Reply(select(&cx.app().database, pubid).await?.into()))
}

async fn create(cx: Context<App>, body: Json<CreateItem>) -> Result<Created<ItemResponse>> {
    let owner = item_owner(&cx)?;
    let CreateItem { name, user_pubid } = body.read().await?;
    if owner.is_some_and(|owner| owner != user_pubid) {
        return Err(ApiError::Forbidden);
    }
    let new = Item { id: Uuid::now_v7(), user_id: user_pubid, name, added: UtcDateTime::now() };
    let item = insert(&cx.app().database, new, owner).await?;
    Ok(Created { location: format!("/items/{}", item.id), body: item.into() })
}

async fn replace(cx: Context<App>, path: Path<ItemPath>, body: Json<ReplaceItem>) -> Answer {
    let owner = item_owner(&cx)?;
    let (ItemPath { pubid }, ReplaceItem { added }) = both(path.read(), body.read().await)?;
    Ok(Reply(update(&cx.app().database, pubid, owner, added).await?.into()))
}

async fn patch(cx: Context<App>, path: Path<ItemPath>, body: Json<PatchItem>) -> Answer {
    let owner = item_owner(&cx)?;
    let (ItemPath { pubid }, PatchItem { added }) = both(path.read(), body.read().await)?;
    Ok(Reply(update(&cx.app().database, pubid, owner, added).await?.into()))
}

async fn delete(cx: Context<App>, path: Path<ItemPath>) -> Result<Reply<()>> {
    let owner = item_owner(&cx)?;
    let ItemPath { pubid } = path.read()?;
    let database = &cx.app().database;
    match database.write(DELETE, (pubid, owner)).await? {
        0 => Err(why_not(database, pubid).await),
        _ => Ok(Reply(())),
    }
}

// Queries: where an `owner` is given, the item must be theirs.

const NO_ITEM: ApiError = ApiError::NotFound("item");

const SELECT_PAGE: &str = "
    select id, user_id, name, added from item
    where user_id = $1 and id > $2 order by id limit $3";

async fn select_page(database: &Database, user: Uuid, page: &Page) -> Result<Vec<Item>> {
    let rows = database.rows(SELECT_PAGE, &[&user, &page.after, &page.rows_max()]).await?;
    Ok(rows.read(Item::from_row))
}

const SELECT: &str = "select id, user_id, name, added from item where id = $1";

async fn select(database: &Database, id: Uuid) -> Result<Item> {
    let row = database.row(SELECT, &[&id]).await?.ok_or(NO_ITEM)?;
    Ok(Item::from_row(&row))
}

const INSERT: &str = "
    insert into item (id, user_id, name, added) values ($1, $2, $3, $4)
    returning id, user_id, name, added";

async fn insert(database: &Database, new: Item, owner: Option<Uuid>) -> Result<Item> {
    let row = database.insert_row(INSERT, (new.id, new.user_id, new.name, new.added)).await;
    let row = row.map_err(|error| no_such_user(error, owner))?;
    Ok(Item::from_row(&row))
}

/// An owner who is gone has no right to anything; anyone else has given a wrong id.
fn no_such_user(error: DbError, owner: Option<Uuid>) -> ApiError {
    match error {
        DbError::Constraint { name, .. } if name == "item_user_id_fkey" => match owner {
            Some(_) => ApiError::Forbidden,
            None => ApiError::invalid("user_pubid", "there is no such user"),
        },
        other => other.into(),
    }
}

const UPDATE: &str = "
    update item set added = coalesce($3, added)
    where id = $1 and user_id = coalesce($2, user_id)
    returning id, user_id, name, added";

async fn update(
    database: &Database,
    id: Uuid,
    owner: Option<Uuid>,
    added: Option<UtcDateTime>,
) -> Result<Item> {
    match database.write_row(UPDATE, (id, owner, added)).await? {
        Some(row) => Ok(Item::from_row(&row)),
        None => Err(why_not(database, id).await),
    }
}

const DELETE: &str = "delete from item where id = $1 and user_id = coalesce($2, user_id)";

/// Why no item was written: there is none, or it is somebody else's.
async fn why_not(database: &Database, id: Uuid) -> ApiError {
    select(database, id).await.map_or_else(|error| error, |_| ApiError::Forbidden)
}

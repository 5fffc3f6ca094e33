//! Items: everyone may read them, their owner may write them.
//!
//! Whoever writes an item is checked in this order: the token (401), the conditions (400), the id in
//! the path and the body (422), then in the database whether the item is there (404), whose it is
//! (403), and whether it is the one that is meant (412).
//! With `PEACE_ITEM_WRITES=anyone` nobody is asked for a token, as in the Python template. Only
//! items know this switch: a copy of this file for another resource leaves `item_owner` out, and
//! writes `callers::caller(&cx)?.user` where it stands; its owner is a `Uuid` then, never none.

use uuid::Uuid;
use worker::{
    Conditions, Context, Created, Database, IdempotencyKey, Json, Linked, MergePatch, Path, Query,
    Repeatable, Reply, Routes, Row, Tagged, Text, both, payload, response,
};

use super::{Resource, RowPath};
use crate::app::App;
use crate::callers;
use crate::datetimes::{DateTime, UtcDateTime};
use crate::errors::{ApiError, CHANGE, DATABASE, ONCE, ONE, OWN, Result};
use crate::idempotency::Attempt;
use crate::pages::{Page, PageResponse};
use crate::settings::ItemWrites;
use crate::versions::{Expected, Versioned};

pub(super) const RESOURCE: Resource = Resource {
    chapter: ("items", "Everyone may read items, their owner may write them."),
    routes,
    tables: &[Item::TABLE],
    statements: statements![SELECT_PAGE, SELECT_PAGE_BACKWARD, SELECT, INSERT, UPDATE, DELETE],
};

fn routes(routes: &mut Routes<App>) {
    let (reads, edits) = ([ONE, DATABASE].concat(), [OWN, ONE, CHANGE].concat());
    let creates = [OWN, CHANGE, ONCE].concat();
    routes.get("/items", "items-list", list).about("List a user's items").fails(DATABASE);
    routes.get("/items/{pubid}", "items-read", read).about("Read an item").fails(&reads);
    routes.post("/items", "items-create", create).about("Create an item").fails(&creates);
    routes.put("/items/{pubid}", "items-replace", replace).about("Replace an item").fails(&edits);
    routes.patch("/items/{pubid}", "items-patch", patch).about("Change an item").fails(&edits);
    routes.delete("/items/{pubid}", "items-delete", delete).about("Delete an item").fails(&edits);
}

// The table

migrations::table! {
    pub(super) struct Item: "item" from Row<'_> {
        id: Uuid = "uuid primary key",
        user_id: Uuid = r#"uuid not null references "user" on delete cascade"#,
        name: String = "varchar(30) not null",
        added: UtcDateTime = "timestamp not null",
    }
    unread version: i64 = "bigint not null default 1";
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

    /// A page of items, oldest first unless asked for otherwise.
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

type Answer = Result<Tagged<Reply<ItemResponse>>>;

/// Whose items the caller may write: their own, or (none) anyone's where the settings say so.
/// For items only: not to be copied, see the head of the file.
fn item_owner(cx: &Context<App>) -> Result<Option<Uuid>> {
    match cx.app().item_writes {
        ItemWrites::Owner => Ok(Some(callers::caller(cx)?.user)),
        ItemWrites::Anyone => Ok(None),
    }
}

async fn list(cx: Context<App>, query: Query<ListItems>) -> Result<Linked<Reply<ItemsResponse>>> {
    let list = query.read()?;
    let items = select_page(&cx.app().database, &list).await?;
    let (items, page) = list.page.cut(items, |item| item.id);
    Ok(Linked { next: page.next(&cx), success: Reply(ItemsResponse { items, page }) })
}

async fn read(cx: Context<App>, path: Path<RowPath>, conditions: Conditions) -> Answer {
    let RowPath { pubid } = path.read()?;
    select(&cx.app().database, pubid).await?.reply_to(&conditions)
}

async fn create(
    cx: Context<App>,
    key: IdempotencyKey,
    body: Json<CreateItem>,
) -> Result<Repeatable<Tagged<Created<ItemResponse>>>> {
    let owner = item_owner(&cx)?;
    let (CreateItem { name, user_pubid }, bytes) = body.read_with_bytes().await?;
    if owner.is_some_and(|owner| owner != user_pubid) {
        return Err(ApiError::Forbidden);
    }
    let new = (Uuid::now_v7(), user_pubid, name, UtcDateTime::now());
    let attempt = Attempt::of(&cx, &key, owner, &bytes)?;
    let refusal = move |error| callers::no_such_user(error, "item_user_id_fkey", owner);
    attempt.insert(&cx.app().database, INSERT, new, Item::from_row, refusal).await
}

async fn replace(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
    body: Json<ReplaceItem>,
) -> Answer {
    let by = (item_owner(&cx)?, Expected::of(&conditions)?);
    let (RowPath { pubid }, ReplaceItem { added }) = both(path.read(), body.read().await)?;
    update(&cx.app().database, pubid, by, added).await
}

async fn patch(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
    body: MergePatch<PatchItem>,
) -> Answer {
    let by = (item_owner(&cx)?, Expected::of(&conditions)?);
    let (RowPath { pubid }, PatchItem { added }) = both(path.read(), body.read().await)?;
    update(&cx.app().database, pubid, by, added).await
}

async fn delete(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
) -> Result<Reply<()>> {
    let (owner, expected) = (item_owner(&cx)?, Expected::of(&conditions)?);
    let RowPath { pubid } = path.read()?;
    let (database, (versions, is_one)) = (&cx.app().database, expected.versions());
    match database.write(DELETE, (pubid, owner, versions, is_one)).await? {
        0 => Err(why_not(database, pubid, (owner, expected)).await),
        _ => Ok(Reply(())),
    }
}

// Queries: where an owner is given, the item must be theirs.

type Writer = (Option<Uuid>, Expected);

const SELECT_PAGE: &str = "
    select id, user_id, name, added from item
    where user_id = $1 and id > $2 order by id limit $3";
const SELECT_PAGE_BACKWARD: &str = "
    select id, user_id, name, added from item
    where user_id = $1 and id < $2 order by id desc limit $3";

async fn select_page(database: &Database, list: &ListItems) -> Result<Vec<Item>> {
    let ListItems { user_pubid, page } = list;
    let sql = page.sort.sql(SELECT_PAGE, SELECT_PAGE_BACKWARD);
    let rows = database.rows(sql, &[user_pubid, &page.from, &page.rows_max()]).await?;
    Ok(rows.read(Item::from_row))
}

const SELECT: &str = "select id, user_id, name, added, version from item where id = $1";

async fn select(database: &Database, id: Uuid) -> Result<Versioned<Item>> {
    let row = database.row(SELECT, &[&id]).await?.ok_or(ApiError::NotFound("item"))?;
    Ok(Versioned::from_row(&row, Item::from_row))
}

const INSERT: &str = "
    insert into item (id, user_id, name, added) values ($1, $2, $3, $4)
    returning id, user_id, name, added, version";

/// Without a new `added` nothing changes, and the version stays.
const UPDATE: &str = "
    update item set added = coalesce($5, added), version = version + ($5 is not null)::int
    where id = $1 and user_id = coalesce($2, user_id) and (version = any($3)) = $4
    returning id, user_id, name, added, version";

async fn update(database: &Database, id: Uuid, by: Writer, added: Option<UtcDateTime>) -> Answer {
    let (versions, is_one) = by.1.versions();
    match database.write_row(UPDATE, (id, by.0, versions, is_one, added)).await? {
        Some(row) => Ok(Versioned::from_row(&row, Item::from_row).reply()),
        None => Err(why_not(database, id, by).await),
    }
}

const DELETE: &str = "
    delete from item
    where id = $1 and user_id = coalesce($2, user_id) and (version = any($3)) = $4";

async fn why_not(database: &Database, id: Uuid, (owner, expected): Writer) -> ApiError {
    let is_own = |item: &Item| owner.is_none_or(|owner| owner == item.user_id);
    expected.why_not(select(database, id).await, is_own)
}

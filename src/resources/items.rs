//! Items: everyone may read them, their owner may write them.
//!
//! Whoever writes an item is checked in this order: the token (401), the conditions (400), the id in
//! the path and the body (422), then in the database whether the session is over (401), whether the
//! item is there (404), whose it is (403), and whether it is the one that is meant (412).
//! With `PEACE_ITEM_WRITES=anyone` nobody is asked for a token, as in the Python template. Only
//! items know this switch: a copy of this file for another resource leaves `item_writer` out, and
//! writes `callers::caller(&cx)?` where it stands; its writer is a `Caller` then, never none.

use uuid::Uuid;
use worker::{
    Conditions, Context, Created, Database, IdempotencyKey, Json, Linked, MergePatch, Path, Query,
    Repeatable, Reply, Routes, Row, Tagged, Text, both, payload, response,
};

use super::{Resource, RowPath};
use crate::app::App;
use crate::callers::{self, Caller};
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

/// Who writes: the owner, or (none) anyone where the settings say so.
/// For items only: not to be copied, see the head of the file.
fn item_writer(cx: &Context<App>) -> Result<Option<Caller>> {
    match cx.app().item_writes {
        ItemWrites::Owner => Ok(Some(callers::caller(cx)?)),
        ItemWrites::Anyone => Ok(None),
    }
}

async fn list(cx: Context<App>, query: Query<ListItems>) -> Result<Linked<Reply<ItemsResponse>>> {
    let ListItems { user_pubid, page } = query.read()?;
    let page = page.of(&[Some(&user_pubid.to_string())])?;
    let items = select_page(&cx.app().database, user_pubid, &page).await?;
    let (items, page) = page.cut(items, |item| item.id);
    Ok(Linked { next: page.next(&cx), success: Reply(ItemsResponse { items, page }) })
}

async fn read(cx: Context<App>, path: Path<RowPath>, conditions: Conditions) -> Answer {
    select(&cx.app().database, path.read()?.pubid).await?.reply_to(&conditions)
}

async fn create(
    cx: Context<App>,
    key: IdempotencyKey,
    body: Json<CreateItem>,
) -> Result<Repeatable<Tagged<Created<ItemResponse>>>> {
    let writer = item_writer(&cx)?;
    let (CreateItem { name, user_pubid }, bytes) = body.read_with_bytes().await?;
    writer.map(|caller| caller.must_be(user_pubid)).transpose()?;
    let (owner, session) = (writer.map(|caller| caller.user), writer.map(|caller| caller.session));
    let new = (Uuid::now_v7(), user_pubid, name, UtcDateTime::now(), session);
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
    let by = (item_writer(&cx)?, Expected::of(&conditions)?);
    let (RowPath { pubid }, ReplaceItem { added }) = both(path.read(), body.read().await)?;
    update(&cx.app().database, pubid, by, added).await
}

async fn patch(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
    body: MergePatch<PatchItem>,
) -> Answer {
    let by = (item_writer(&cx)?, Expected::of(&conditions)?);
    let (RowPath { pubid }, PatchItem { added }) = both(path.read(), body.read().await)?;
    update(&cx.app().database, pubid, by, added).await
}

async fn delete(
    cx: Context<App>,
    path: Path<RowPath>,
    conditions: Conditions,
) -> Result<Reply<()>> {
    let by = (item_writer(&cx)?, Expected::of(&conditions)?);
    let (RowPath { pubid }, database) = (path.read()?, &cx.app().database);
    let (session, (versions, is_one)) = (by.0.map(|caller| caller.session), by.1.versions());
    match database.write(DELETE, (pubid, session, versions, is_one)).await? {
        0 => Err(why_not(database, pubid, by).await),
        _ => Ok(Reply(())),
    }
}

// Queries: where a session is given, the item must be its user's, and the session must not be over.

type Writer = (Option<Caller>, Expected);

const SELECT_PAGE: &str = "
    select id, user_id, name, added from item
    where user_id = $1 and id > $2 order by id limit $3";
const SELECT_PAGE_BACKWARD: &str = "
    select id, user_id, name, added from item
    where user_id = $1 and id < $2 order by id desc limit $3";

async fn select_page(database: &Database, user: Uuid, page: &Page) -> Result<Vec<Item>> {
    let sql = page.sort.sql(SELECT_PAGE, SELECT_PAGE_BACKWARD);
    let rows = database.rows(sql, &[&user, &page.from, &page.rows_max()]).await?;
    Ok(rows.read(Item::from_row))
}

const SELECT: &str = "select id, user_id, name, added, version from item where id = $1";

async fn select(database: &Database, id: Uuid) -> Result<Versioned<Item>> {
    let row = database.row(SELECT, &[&id]).await?.ok_or(ApiError::NotFound("item"))?;
    Ok(Versioned::from_row(&row, Item::from_row))
}

const INSERT: &str = "
    insert into item (id, user_id, name, added) select $1, $2, $3, $4
    where $5::uuid is null or exists (select from session where id = $5)
    returning id, user_id, name, added, version";

/// Without a new `added` nothing changes, and the version stays.
const UPDATE: &str = "
    update item set added = coalesce($5, added), version = version + ($5 is not null)::int
    where id = $1 and (version = any($3)) = $4
        and ($2::uuid is null or user_id = (select user_id from session where id = $2))
    returning id, user_id, name, added, version";

async fn update(database: &Database, id: Uuid, by: Writer, added: Option<UtcDateTime>) -> Answer {
    let (session, (versions, is_one)) = (by.0.map(|caller| caller.session), by.1.versions());
    match database.write_row(UPDATE, (id, session, versions, is_one, added)).await? {
        Some(row) => Ok(Versioned::from_row(&row, Item::from_row).reply()),
        None => Err(why_not(database, id, by).await),
    }
}

const DELETE: &str = "
    delete from item where id = $1 and (version = any($3)) = $4
        and ($2::uuid is null or user_id = (select user_id from session where id = $2))";

async fn why_not(database: &Database, id: Uuid, (writer, expected): Writer) -> ApiError {
    let look = async {
        if let Some(caller) = writer {
            caller.must_be_logged_in(database).await?;
        }
        select(database, id).await
    };
    expected.why_not(look.await, |item| writer.is_none_or(|caller| caller.user == item.user_id))
}

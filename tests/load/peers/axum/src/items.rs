//! Items: everyone may read them, their owner may write them.

use axum::Json;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::State;
use crate::auth::Caller;
use crate::errors::{ApiError, Result};
use crate::pages::{Page, PageResponse};
use crate::{database, datetimes};

const NAME_MAX: usize = 30;

#[derive(Debug, Deserialize)]
pub(crate) struct ListItems {
    user_pubid: Uuid,
    limit: Option<i64>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreateItem {
    name: String,
    user_pubid: Uuid,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ReplaceItem {
    added: Option<DateTime>,
}

#[derive(Serialize)]
pub(crate) struct ItemResponse {
    pubid: Uuid,
    name: String,
    #[serde(serialize_with = "datetimes::serialize")]
    added: DateTime,
    user_pubid: Uuid,
}

#[derive(Serialize)]
pub(crate) struct ItemsResponse {
    items: Vec<ItemResponse>,
    page: PageResponse,
}

impl From<&Row> for ItemResponse {
    fn from(row: &Row) -> Self {
        Self { pubid: row.get(0), user_pubid: row.get(1), name: row.get(2), added: row.get(3) }
    }
}

const SELECT_PAGE: &str = "
    select id, user_id, name, added from item
    where user_id = $1 and id > $2 order by id limit $3";

pub(crate) async fn list(
    state: State,
    Query(ListItems { user_pubid, limit, cursor }): Query<ListItems>,
) -> Result<Json<ItemsResponse>> {
    let page = Page::new("items", Some(&user_pubid.to_string()), limit, cursor.as_deref())?;
    let values: [&(dyn ToSql + Sync); 3] = [&user_pubid, &page.after, &page.rows_max()];
    let rows = database::rows(&state.pool, SELECT_PAGE, &values).await?;
    let mut items: Vec<ItemResponse> = rows.iter().map(ItemResponse::from).collect();
    let page = page.cut(&mut items, |item| item.pubid);
    Ok(Json(ItemsResponse { items, page }))
}

const SELECT: &str = "select id, user_id, name, added from item where id = $1";

pub(crate) async fn read(state: State, Path(pubid): Path<Uuid>) -> Result<Json<ItemResponse>> {
    let row = database::row(&state.pool, SELECT, &[&pubid]).await?.ok_or(ApiError::NotFound)?;
    Ok(Json(ItemResponse::from(&row)))
}

const INSERT: &str = "
    insert into item (id, user_id, name, added) values ($1, $2, $3, $4)
    returning id, user_id, name, added";

pub(crate) async fn create(
    state: State,
    Caller(caller): Caller,
    Json(CreateItem { name, user_pubid }): Json<CreateItem>,
) -> Result<Response> {
    if caller != user_pubid {
        return Err(ApiError::Forbidden);
    }
    if name.is_empty() || name.chars().nth(NAME_MAX).is_some() {
        return Err(ApiError::Invalid("name: from 1 to 30 characters"));
    }
    let values: [&(dyn ToSql + Sync); 4] = [&Uuid::now_v7(), &caller, &name, &datetimes::now()];
    let row = database::row(&state.pool, INSERT, &values).await?.ok_or(ApiError::Failed)?;
    let item = ItemResponse::from(&row);
    let location = [(LOCATION, format!("/items/{}", item.pubid))];
    Ok((StatusCode::CREATED, location, Json(item)).into_response())
}

const UPDATE: &str = "
    update item set added = coalesce($3, added)
    where id = $1 and user_id = coalesce($2, user_id)
    returning id, user_id, name, added";

pub(crate) async fn replace(
    state: State,
    Path(pubid): Path<Uuid>,
    Caller(caller): Caller,
    Json(ReplaceItem { added }): Json<ReplaceItem>,
) -> Result<Json<ItemResponse>> {
    if let Some(row) = database::row(&state.pool, UPDATE, &[&pubid, &caller, &added]).await? {
        return Ok(Json(ItemResponse::from(&row)));
    }
    let item = database::row(&state.pool, SELECT, &[&pubid]).await?;
    Err(item.map_or(ApiError::NotFound, |_| ApiError::Forbidden))
}

//! Users: everyone may read them.

use axum::Json;
use axum::extract::{Path, Query};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::State;
use crate::database;
use crate::errors::{ApiError, Result};
use crate::pages::{Page, PageResponse};

#[derive(Debug, Deserialize)]
pub(crate) struct ListUsers {
    limit: Option<i64>,
    cursor: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct UserResponse {
    pubid: Uuid,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fullname: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct UsersResponse {
    users: Vec<UserResponse>,
    page: PageResponse,
}

impl From<&Row> for UserResponse {
    fn from(row: &Row) -> Self {
        Self { pubid: row.get(0), name: row.get(1), fullname: row.get(2) }
    }
}

const SELECT_PAGE: &str =
    r#"select id, name, fullname from "user" where id > $1 order by id limit $2"#;

pub(crate) async fn list(
    state: State,
    Query(ListUsers { limit, cursor }): Query<ListUsers>,
) -> Result<Json<UsersResponse>> {
    let page = Page::new("users", None, limit, cursor.as_deref())?;
    let rows = database::rows(&state.pool, SELECT_PAGE, &[&page.after, &page.rows_max()]).await?;
    let mut users: Vec<UserResponse> = rows.iter().map(UserResponse::from).collect();
    let page = page.cut(&mut users, |user| user.pubid);
    Ok(Json(UsersResponse { users, page }))
}

const SELECT: &str = r#"select id, name, fullname from "user" where id = $1"#;

pub(crate) async fn read(state: State, Path(pubid): Path<Uuid>) -> Result<Json<UserResponse>> {
    let row = database::row(&state.pool, SELECT, &[&pubid]).await?.ok_or(ApiError::NotFound)?;
    Ok(Json(UserResponse::from(&row)))
}

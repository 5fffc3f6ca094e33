//! The API as a client with patience: what is asked before a load begins and after it has ended.
//!
//! Called by `server` (is it there?) and `population` (users, items, tokens). Blocking, one request
//! at a time. It promises an end: the limit is given with each client.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

use crate::target::Target;

/// The greatest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A client of one server.
#[derive(Clone)]
pub(crate) struct Api {
    agent: Agent,
    url: String,
}

impl Api {
    /// Of this server; no answer may take longer than `limit`.
    pub(crate) fn of(target: &Target, limit: Duration) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0);
        let agent = config.timeout_global(Some(limit)).proxy(None).build().new_agent();
        Self { agent, url: target.url() }
    }

    /// What it answers to a GET.
    pub(crate) fn status_of(&self, path: &str) -> Result<u16, String> {
        let answer = self.agent.get(format!("{}{path}", self.url)).call();
        Ok(answer.map_err(|error| error.to_string())?.status().as_u16())
    }

    /// A new user's id.
    pub(crate) fn create_user(&self, name: &str, password: &str) -> Result<String, String> {
        let user = json!({ "name": name, "password": password });
        text(&self.post("/users", None, &user)?, "pubid")
    }

    /// A new item's id.
    pub(crate) fn create_item(
        &self,
        name: &str,
        user: &str,
        token: &str,
    ) -> Result<String, String> {
        let item = json!({ "name": name, "user_pubid": user });
        text(&self.post("/items", Some(token), &item)?, "pubid")
    }

    /// An access token.
    pub(crate) fn log_in(&self, name: &str, password: &str) -> Result<String, String> {
        let request = self.agent.post(format!("{}/auth/token", self.url));
        let form = [("username", name), ("password", password), ("grant_type", "password")];
        let answer = request.send_form(form).map_err(|error| format!("/auth/token: {error}"))?;
        text(&body("/auth/token", answer)?, "access_token")
    }

    /// Deletes a user with all items.
    pub(crate) fn delete_user(&self, user: &str, token: &str) -> Result<(), String> {
        let path = format!("/users/{user}");
        let request = self.agent.delete(format!("{}{path}", self.url));
        let answer = request.header("authorization", format!("Bearer {token}")).call();
        body(&path, answer.map_err(|error| format!("{path}: {error}"))?).map(|_| ())
    }

    fn post(&self, path: &str, token: Option<&str>, value: &Value) -> Result<Value, String> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.header("content-type", "application/json");
        let answer = request.send(value.to_string());
        body(path, answer.map_err(|error| format!("{path}: {error}"))?)
    }
}

/// The JSON of an answer, that has to be a good one.
fn body(path: &str, mut answer: ureq::http::Response<ureq::Body>) -> Result<Value, String> {
    let status = answer.status();
    let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let text = text.map_err(|error| format!("{path}: {error}"))?;
    if !status.is_success() {
        return Err(format!("{path} answers {status}"));
    }
    serde_json::from_str(&text).map_err(|_| format!("{path} does not answer with JSON"))
}

fn text(value: &Value, member: &str) -> Result<String, String> {
    let found = value.get(member).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| format!("an answer lacks `{member}`"))
}

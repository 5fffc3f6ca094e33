//! One client: a call goes out, an answer comes back or a [`Failure`] says what came instead.
//!
//! `api` builds on it. Each client keeps a connection of its own between its calls. Every call is
//! sent once: ureq 3.5 looks whether an idle connection was closed before it uses it, and after that
//! an error is an error. Redirects and proxies are not followed, since only the server's own
//! answers are of interest. A call has 10 s, its body included. Blocks the calling thread.

use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request, Response, header};

use crate::failure::{Failure, excerpt, no_answer};
use crate::run::Run;

const TIMEOUT_S: u64 = 10;
/// How long an answer may be: a list of a server without pages may be long.
const BODY_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// One client of the server.
pub(crate) struct Client<'a> {
    run: &'a Run,
    pub(crate) name: String,
    agent: Agent,
}

/// What is sent.
pub(crate) struct Call<'a> {
    method: Method,
    /// The path as the contract writes it: `/users/{pubid}`.
    route: &'static str,
    path: String,
    body: Body,
    token: Option<&'a str>,
    /// What no report may show.
    secrets: Vec<&'a str>,
    /// Whether a good answer is a secret, too.
    answers_secret: bool,
}

enum Body {
    None,
    Json(String),
    Form(String),
}

/// What came back.
pub(crate) struct Answer<'a> {
    call: &'a Call<'a>,
    client: &'a str,
    pub(crate) status: u16,
    text: String,
    /// The body as JSON; null if it is none.
    pub(crate) json: Value,
}

impl<'a> Client<'a> {
    /// A client whose failures carry `name`.
    pub(crate) fn new(run: &'a Run, name: impl Into<String>) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(TIMEOUT_S)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .build();
        Self { run, name: name.into(), agent: config.new_agent() }
    }

    /// Sends a call once; the run counts it.
    ///
    /// **Errors** when no whole answer came. Its status is for the caller to judge.
    pub(crate) fn send<'c>(&'c self, call: &'c Call<'c>) -> Result<Answer<'c>, Failure> {
        let began = Instant::now();
        let exchanged = self.exchange(call);
        let kind = match &exchanged {
            Ok((status, _)) => format!("{} {} {status}", call.method, call.route),
            Err(_) => format!("{} {} no answer", call.method, call.route),
        };
        self.run.count(kind, began.elapsed());
        match exchanged {
            Ok((status, text)) => {
                let json = serde_json::from_str(&text).unwrap_or_default();
                Ok(Answer { call, client: &self.name, status, text, json })
            }
            Err(error) => {
                let came = excerpt(&no_answer(&error, TIMEOUT_S), &call.secrets);
                Err(call.failure(&self.name, "an answer".to_owned(), None, came))
            }
        }
    }

    fn exchange(&self, call: &Call<'_>) -> Result<(u16, String), ureq::Error> {
        let url = self.run.app_url().join(&call.path);
        let mut request = Request::builder().method(&call.method).uri(url);
        if let Some(token) = call.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let typed = |request: ureq::http::request::Builder, media_type, body: &str| {
            self.agent.run(request.header(header::CONTENT_TYPE, media_type).body(body.to_owned())?)
        };
        let mut response: Response<ureq::Body> = match &call.body {
            Body::None => self.agent.run(request.body(())?)?,
            Body::Json(text) => typed(request, "application/json", text)?,
            Body::Form(text) => typed(request, "application/x-www-form-urlencoded", text)?,
        };
        // To its end, or the connection could not be used again.
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec()?;
        Ok((response.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
    }
}

impl<'a> Call<'a> {
    /// A call of `route` as it is.
    pub(crate) fn new(method: Method, route: &'static str) -> Self {
        Self {
            method,
            route,
            path: route.to_owned(),
            body: Body::None,
            token: None,
            secrets: Vec::new(),
            answers_secret: false,
        }
    }

    /// With the id that the route asks for.
    pub(crate) fn of(mut self, pubid: &str) -> Self {
        self.path = self.route.replace("{pubid}", pubid);
        self
    }

    /// With query parameters.
    pub(crate) fn query(mut self, fields: &[(&str, &str)]) -> Self {
        self.path = format!("{}?{}", self.path, form(fields));
        self
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.body = Body::Json(body.to_string());
        self
    }

    pub(crate) fn form(mut self, fields: &[(&str, &str)]) -> Self {
        self.body = Body::Form(form(fields));
        self
    }

    pub(crate) fn bearer(mut self, token: &'a str) -> Self {
        self.token = Some(token);
        self.hiding(token)
    }

    /// Keeps `secret` out of every report.
    pub(crate) fn hiding(mut self, secret: &'a str) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Keeps good answers out of every report.
    pub(crate) fn answering_secrets(mut self) -> Self {
        self.answers_secret = true;
        self
    }

    fn failure(
        &self,
        client: &str,
        expected: String,
        status: Option<u16>,
        came: String,
    ) -> Failure {
        let method = match self.method {
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            _ => "GET",
        };
        let client = client.to_owned();
        Failure { client, method, path: self.path.clone(), expected, status, came }
    }
}

impl Answer<'_> {
    /// Goes on only with the expected status.
    pub(crate) fn expect(self, status: u16) -> Result<Self, Failure> {
        if self.status == status { Ok(self) } else { Err(self.is_not(status.to_string())) }
    }

    /// Goes on only with these members in the body.
    pub(crate) fn expect_members(self, members: &[(&str, &Value)]) -> Result<Self, Failure> {
        match members.iter().find(|(name, value)| self.json[*name] != **value) {
            None => Ok(self),
            Some((name, value)) => Err(self.is_not(format!("`{name}` to be {value}"))),
        }
    }

    /// A member that has to be a text and not an empty one.
    pub(crate) fn text(&self, name: &str) -> Result<String, Failure> {
        match self.json[name].as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(self.is_not(format!("a text `{name}`"))),
        }
    }

    /// A member that has to be a list.
    pub(crate) fn list(&self, name: &str) -> Result<&[Value], Failure> {
        let list = self.json[name].as_array();
        list.map(Vec::as_slice).ok_or_else(|| self.is_not(format!("a list `{name}`")))
    }

    /// This answer is not what was expected.
    pub(crate) fn is_not(&self, expected: String) -> Failure {
        let body = match self.call.answers_secret && self.status < 300 {
            true => "(not shown: it may hold a token)".to_owned(),
            false => excerpt(&self.text, &self.call.secrets),
        };
        let came = format!("{} {body}", self.status);
        self.call.failure(self.client, expected, Some(self.status), came)
    }
}

/// Fields as `application/x-www-form-urlencoded` writes them.
fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    pairs.join("&")
}

fn escaped(value: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(escape).collect()
}

//! What came of a run: a short table for people, or one JSON object for programs.
//!
//! `main` makes it when everybody has ended.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::app_url::AppUrl;
use crate::failure::Failure;
use crate::names::Account;
use crate::run::{Run, Tally};

/// How many logins the table shows.
const LOGINS_MAX: usize = 5;

/// The end of a run.
pub(crate) struct Report {
    scenario: &'static str,
    app_url: AppUrl,
    tally: Tally,
    took: Duration,
    logins: Vec<Account>,
}

impl Report {
    /// Ends a run; `logins` are users that stay.
    pub(crate) fn new(scenario: &'static str, run: Run, logins: Vec<Account>) -> Self {
        let (app_url, tally, took) = run.end();
        Self { scenario, app_url, tally, took, logins }
    }

    /// Whether there was no failure.
    pub(crate) fn is_clean(&self) -> bool {
        self.tally.failures.is_empty()
    }

    /// As one JSON object on a line.
    pub(crate) fn json(&self) -> String {
        let done: Map<String, Value> = self
            .tally
            .done
            .iter()
            .map(|(goal, count)| ((*goal).to_owned(), json!(count)))
            .collect();
        let slowest = self.tally.slowest.as_ref();
        let slowest =
            slowest.map(|(took, kind)| json!({ "request": kind, "duration_ms": ms(*took) }));
        let report = json!({
            "scenario": self.scenario,
            "app_url": self.app_url.to_string(),
            "done": done,
            "requests": self.tally.requests,
            "failures": self.tally.failures.iter().map(failure_json).collect::<Vec<_>>(),
            "duration_ms": ms(self.took),
            "slowest": slowest,
            "logins": self.logins.iter().map(login_json).collect::<Vec<_>>(),
        });
        format!("{report}\n")
    }

    /// As a table, with a line for each failure and each login.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} at {}\n", self.scenario, self.app_url);
        for (name, value) in self.rows() {
            let dots = ".".repeat(40_usize.saturating_sub(name.chars().count()));
            // Writing to a text cannot fail.
            let _ = writeln!(text, "  {name} {dots} {value}");
        }
        for failure in &self.tally.failures {
            let _ = writeln!(text, "failure: {}", failure.line());
        }
        self.add_logins(&mut text);
        text
    }

    fn rows(&self) -> Vec<(String, String)> {
        let Tally { requests, done, failures, slowest, .. } = &self.tally;
        let mut rows: Vec<(String, String)> =
            requests.iter().map(|(kind, count)| (kind.clone(), count.to_string())).collect();
        rows.extend(done.iter().map(|(goal, count)| (goal.replace('_', " "), count.to_string())));
        rows.push(("failures".to_owned(), failures.len().to_string()));
        rows.push(("duration".to_owned(), format!("{} ms", ms(self.took))));
        if let Some((took, kind)) = slowest {
            rows.push(("slowest request".to_owned(), format!("{} ms, {kind}", ms(*took))));
        }
        rows
    }

    fn add_logins(&self, text: &mut String) {
        for Account { name, password } in self.logins.iter().take(LOGINS_MAX) {
            let _ = writeln!(text, "log in as {name} with {password}");
        }
        if self.logins.len() > LOGINS_MAX {
            let _ = writeln!(text, "and {} more like them", self.logins.len() - LOGINS_MAX);
        }
        if let Some(Account { name, password }) = self.logins.last() {
            let url = self.app_url.join("/auth/token");
            let _ =
                writeln!(text, "for a token: curl -d 'username={name}&password={password}' {url}");
        }
    }
}

fn failure_json(failure: &Failure) -> Value {
    let Failure { client, method, path, expected, status, came } = failure;
    json!({
        "client": client, "method": method, "path": path,
        "expected": expected, "status": status, "came": came,
    })
}

fn login_json(account: &Account) -> Value {
    json!({ "username": account.name, "password": account.password })
}

/// Milliseconds, in tenths.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(failures: Vec<Failure>, logins: Vec<Account>) -> Report {
        let app_url = AppUrl::parse("http://127.0.0.1:8000").unwrap();
        let run = Run::new(app_url, &["users", "polls"]);
        run.count("POST /users 201".to_owned(), Duration::from_micros(2_345));
        run.count("GET /users 200".to_owned(), Duration::from_micros(1_000));
        run.done("users");
        failures.into_iter().for_each(|failure| run.fail(failure));
        Report::new("concurrency", run, logins)
    }

    fn failure() -> Failure {
        Failure {
            client: "client 2".to_owned(),
            method: "POST",
            path: "/users".to_owned(),
            expected: "201".to_owned(),
            status: Some(503),
            came: "503 busy".to_owned(),
        }
    }

    #[test]
    fn both_forms_hold_the_same_numbers() {
        let report = report(vec![failure()], Vec::new());
        assert!(!report.is_clean());
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["done"], json!({ "users": 1, "polls": 0 }));
        assert_eq!(json["requests"], json!({ "GET /users 200": 1, "POST /users 201": 1 }));
        assert_eq!(json["failures"][0]["status"], 503);
        assert_eq!(json["slowest"], json!({ "request": "POST /users 201", "duration_ms": 2.3 }));
        let text = report.text();
        for line in [
            "POST /users 201 ......................... 1\n",
            "failures ................................ 1\n",
            "slowest request ......................... 2.3 ms, POST /users 201\n",
            "failure: client 2: POST /users: expected 201, came 503 busy\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn whom_one_can_log_in_as_is_told() {
        let one = |n: usize| Account { name: format!("u{n}"), password: format!("p{n}") };
        let text = report(Vec::new(), (0..7).map(one).collect()).text();
        assert!(text.contains("log in as u0 with p0\n"), "{text}");
        assert!(text.contains("and 2 more like them\n"), "{text}");
        assert!(text.contains("'username=u6&password=p6' http://127.0.0.1:8000/auth/token\n"));
        assert!(!report(Vec::new(), Vec::new()).text().contains("log in"));
    }
}

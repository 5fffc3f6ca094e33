//! One connection, byte by byte: what was sent is sent as it is, and what comes is read strictly.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long an answer or an end may take.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// One answer; header names in lower case.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    is_head: bool,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }
}

impl Wire {
    pub(super) fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes; a server that has closed already is found out when it is read from.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(super) fn shut(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next answer, of which `is_head` says that it has no body whatever it says.
    pub(super) fn answer(&mut self, is_head: bool) -> Result<Answer, String> {
        let end = loop {
            match self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(end) => break end,
                None if self.fill()? == 0 => return Err("closed without an answer".to_owned()),
                None => {}
            }
        };
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let mut answer = parse(std::str::from_utf8(&head[..end]).map_err(|_| "not UTF-8")?)?;
        answer.is_head = is_head;
        let length = match (is_head, answer.status) {
            (true, _) | (_, 100 | 204) => 0,
            _ => answer.header("content-length").ok_or("no content-length")?.parse().unwrap_or(0),
        };
        while self.read.len() < length {
            if self.fill()? == 0 {
                return Err("closed within a body".to_owned());
            }
        }
        answer.body = self.read.drain(..length).collect();
        Ok(answer)
    }

    /// It ends: no byte, no reset.
    pub(super) fn check_closed(&mut self) -> Result<(), String> {
        match (self.read.len(), self.fill()?) {
            (0, 0) => Ok(()),
            _ => Err(format!("more came: {:?}", String::from_utf8_lossy(&self.read))),
        }
    }

    /// Every answer until it ends.
    pub(super) fn statuses_to_the_end(&mut self) -> Result<Vec<u16>, String> {
        let mut statuses = Vec::new();
        while !self.read.is_empty() || self.fill()? > 0 {
            let answer = self.answer(false)?;
            check_whole(&answer)?;
            statuses.push(answer.status);
        }
        Ok(statuses)
    }

    /// It goes on: the next request is answered, by one answer.
    pub(super) fn check_open(&mut self) -> Result<(), String> {
        self.send(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let status = self.answer(false).map_err(|error| format!("the next one: {error}"))?.status;
        if status != 200 {
            return Err(format!("the next one gets {status}"));
        }
        self.check_closed()
    }

    fn fill(&mut self) -> Result<usize, String> {
        let mut bytes = [0; 16 * 1024];
        let length = self.stream.read(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => format!("nothing within {PATIENCE:?}"),
            _ => error.to_string(),
        })?;
        self.read.extend_from_slice(&bytes[..length]);
        Ok(length)
    }
}

fn parse(head: &str) -> Result<Answer, String> {
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    // Who asks in HTTP/1.0 is answered in it.
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let status = rest.and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| format!("a status line: {line:?}"))?;
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("a header: {line:?}"))?;
        Ok((name.to_ascii_lowercase(), value.to_owned()))
    };
    let headers = lines.map(pair).collect::<Result<_, String>>()?;
    Ok(Answer { status, headers, body: Vec::new(), is_head: false })
}

/// What every answer has and has not, and every refusal.
pub(super) fn check_whole(answer: &Answer) -> Result<(), String> {
    if answer.status == 100 {
        return Ok(());
    }
    let Answer { status, headers, body, .. } = answer;
    let all = |name: &str| headers.iter().filter(|(one, _)| one == name).count();
    for name in [
        "x-request-id",
        "date",
        "x-content-type-options",
        "content-security-policy",
        "cache-control",
    ] {
        if all(name) != 1 {
            return Err(format!("{status} has {} headers {name}", all(name)));
        }
    }
    if all("server") + all("x-powered-by") > 0 {
        return Err(format!("{status} says what the server is"));
    }
    if *status < 400 || answer.is_head {
        return Ok(());
    }
    check_problem(answer, &serde_json::from_slice(body).map_err(|error| error.to_string())?)
}

fn check_problem(answer: &Answer, problem: &Value) -> Result<(), String> {
    let is_right = problem["status"] == answer.status
        && problem["request_id"].as_str() == answer.header("x-request-id")
        && answer.header("content-type") == Some("application/problem+json")
        && ["type", "title", "detail", "instance"].iter().all(|member| problem[member].is_string());
    is_right.then_some(()).ok_or_else(|| format!("no whole problem: {problem}"))
}

//! A small HTTP/1.1 client: one request, one reply, every error told.
//!
//! Written for these tests on purpose: a client of a library hides lost connections by trying again,
//! and that is what the tests look for. A [`Connection`] stays open for further requests; `fresh`
//! uses one of its own for a single request. Source: RFC 9112.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// How long a reply may take unless the test says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A request, to be sent as often as wanted.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

pub(crate) fn get(target: impl Into<String>) -> Request {
    request("GET", target)
}

pub(crate) fn post(target: impl Into<String>) -> Request {
    request("POST", target)
}

pub(crate) fn put(target: impl Into<String>) -> Request {
    request("PUT", target)
}

pub(crate) fn request(method: &'static str, target: impl Into<String>) -> Request {
    Request { method, target: target.into(), headers: Vec::new(), body: None }
}

impl Request {
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// A form; the values are to be plain letters, digits and dashes.
    pub(crate) fn form(self, fields: &[(&str, &str)]) -> Self {
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.body("application/x-www-form-urlencoded", pairs.join("&"))
    }

    pub(crate) fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self.header("content-type", media_type)
    }

    pub(crate) fn method(&self) -> &'static str {
        self.method
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Sends this over a connection of its own.
    pub(crate) fn fresh(&self, address: SocketAddr) -> io::Result<Reply> {
        let once = self.clone().header("connection", "close");
        Connection::open(address)?.send(&once)
    }

    /// As it goes over the wire.
    pub(crate) fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    server: SocketAddr,
}

impl Connection {
    pub(crate) fn open(server: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&server, PATIENCE)?, server)
    }

    /// From an address of our choice.
    pub(crate) fn open_from(client: Ipv4Addr, server: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((client, 0)).into())?;
        socket.connect_timeout(&server.into(), PATIENCE)?;
        Self::over(socket.into(), server)
    }

    fn over(stream: TcpStream, server: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), server })
    }

    /// Sends a request and reads its reply.
    pub(crate) fn send(&mut self, request: &Request) -> io::Result<Reply> {
        self.begin(request)?;
        self.finish(request)
    }

    /// Sends a request; the reply is for [`Connection::finish`].
    pub(crate) fn begin(&mut self, request: &Request) -> io::Result<()> {
        self.stream.get_mut().write_all(&request.bytes(self.server))
    }

    /// Reads the reply to `request`.
    pub(crate) fn finish(&mut self, request: &Request) -> io::Result<Reply> {
        let status = status(&self.line()?)?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        reply.body = vec![0; reply.body_bytes(request)?];
        self.stream.read_exact(&mut reply.body)?;
        Ok(reply)
    }

    /// Our own end of it.
    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().expect("an open connection has two ends")
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

fn status(line: &str) -> io::Result<u16> {
    let code = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    code.ok_or_else(|| io::Error::other(format!("not a status line: {line:?}")))
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of a header; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// All headers; their names in lower case.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("not JSON ({error}): {:?}", String::from_utf8_lossy(&self.body))
        })
    }

    /// The length of the body. All our replies state it; one that does not is an error.
    fn body_bytes(&self, request: &Request) -> io::Result<usize> {
        if request.method == "HEAD" || self.status == 204 || self.status == 304 {
            return Ok(0);
        }
        let length = self.header("content-length").and_then(|text| text.parse().ok());
        length.ok_or_else(|| io::Error::other(format!("no content-length: {:?}", self.headers)))
    }
}

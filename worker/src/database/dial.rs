//! A session of the lane up to where its statements begin: reached, encrypted, authenticated.
//!
//! `hosts` calls [`dial`] for one server. tokio-postgres speaks the start-up, over a socket that it is
//! only lent: what comes back is the bare stream, on which `wire` goes on.
//! Promises: the session is read-only, idle, and at a server that the URL wants
//! (`target_session_attrs`). Does not know: statements.
//!
//! Source: PostgreSQL, "Message Flow, Start-up".

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
};
use tokio_postgres::{
    Client, Config, Connection, NoTls, SimpleQueryMessage,
    config::{Host, SslMode, TargetSessionAttrs},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{error::chain, local::Local};

/// A session without a driver: whoever has it speaks the protocol.
pub(super) type Socket = Box<dyn Stream>;

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Opens a session at the one server of `config`. **Errors** are one line without a secret.
pub(super) async fn dial(
    config: &Config,
    tls: Option<&MakeRustlsConnect>,
) -> Result<Socket, String> {
    let socket = Lent::new(reach(config).await.map_err(|error| error.to_string())?);
    match tls.filter(|_| config.get_ssl_mode() != SslMode::Disable) {
        Some(tls) => {
            let mut tls = tls.clone();
            let name = host_name(config);
            let tls = MakeTlsConnect::<Lent<Socket>>::make_tls_connect(&mut tls, &name)
                .map_err(|error| error.to_string())?;
            start_encrypted(config, socket, tls).await
        }
        None => {
            start(config, socket.clone(), NoTls).await?;
            socket.take()
        }
    }
}

/// The name that the server's certificate has to have.
fn host_name(config: &Config) -> String {
    match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (Some(Host::Tcp(name)), _) => name.clone(),
        (_, Some(address)) => address.to_string(),
        _ => String::new(),
    }
}

async fn reach(config: &Config) -> io::Result<Socket> {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (_, Some(address)) => reach_tcp(config, &[(*address, port).into()]).await,
        (Some(Host::Unix(folder)), _) => {
            let path = folder.join(format!(".s.PGSQL.{port}"));
            Ok(Box::new(Local::connect(&path).await?))
        }
        (Some(Host::Tcp(name)), _) => {
            let addresses: Vec<_> = lookup_host((name.as_str(), port)).await?.collect();
            reach_tcp(config, &addresses).await
        }
        (None, None) => Err(io::Error::other("the URL names no server")),
    }
}

/// The first address that answers; `TcpStream::connect` asks them one after the other, so that one which
/// drops what it is sent takes the whole time of this server, as it does for the pool.
async fn reach_tcp(config: &Config, addresses: &[std::net::SocketAddr]) -> io::Result<Socket> {
    let stream = TcpStream::connect(addresses).await?;
    stream.set_nodelay(true)?;
    watch(&stream, config)?;
    Ok(Box::new(stream))
}

/// Lets the system notice a peer that is gone.
fn watch(stream: &TcpStream, config: &Config) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(config.get_tcp_user_timeout().copied())?;
    if !config.get_keepalives() {
        return Ok(());
    }
    let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        keepalive = keepalive.with_retries(retries);
    }
    socket.set_tcp_keepalive(&keepalive)
}

/// Start-up, encrypted if the mode wants that and the server can.
async fn start_encrypted(
    config: &Config,
    socket: Lent<Socket>,
    tls: Rustls,
) -> Result<Socket, String> {
    let inside = Lent::empty();
    start(config, socket.clone(), Tap { tls, inside: inside.clone() }).await?;
    // Without encryption there is nothing inside.
    inside.take().map_or_else(|_| socket.take(), |stream| Ok(Box::new(stream)))
}

/// Speaks the start-up and what sets the session up. The driver is dropped without a word to the
/// server, and the stream is free again.
async fn start<S, T>(config: &Config, stream: S, tls: T) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: TlsConnect<S>,
{
    let (client, mut connection) =
        config.connect_raw(stream, tls).await.map_err(|error| chain(&error))?;
    let set_up = set_up(&client, config.get_target_session_attrs());
    tokio::select! {
        biased;
        done = set_up => done,
        error = broken(&mut connection) => Err(error),
    }
}

/// Runs the connection; gives how it ended.
async fn broken<S, T>(connection: &mut Connection<S, T>) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    match connection.await {
        Ok(()) => "the server closed the connection".to_owned(),
        Err(error) => chain(&error),
    }
}

async fn set_up(client: &Client, wanted: TargetSessionAttrs) -> Result<(), String> {
    const READ_ONLY: &str = "SET default_transaction_read_only = on";
    let answers = match wanted {
        TargetSessionAttrs::Any => client.simple_query(READ_ONLY).await,
        // Asked before it is set.
        _ => client.simple_query(&format!("SHOW transaction_read_only; {READ_ONLY}")).await,
    };
    let answers = answers.map_err(|error| chain(&error))?;
    let is_standby = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(|text| text == "on"),
        _ => None,
    });
    match (wanted, is_standby) {
        (TargetSessionAttrs::ReadWrite, Some(true)) => Err("the server is read-only".to_owned()),
        (TargetSessionAttrs::ReadOnly, Some(false)) => Err("the server is writable".to_owned()),
        _ => Ok(()),
    }
}

/// A stream that somebody uses for a while, and of which we keep a handle.
struct Lent<S>(Arc<Mutex<Option<S>>>);

impl<S> Lent<S> {
    fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Some(stream))))
    }

    fn empty() -> Self {
        Self(Arc::default())
    }

    fn slot(&self) -> MutexGuard<'_, Option<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<S, String> {
        self.slot().take().ok_or_else(|| "the connection is gone".to_owned())
    }

    fn with<T>(&self, call: impl FnOnce(&mut S) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut *self.slot() {
            Some(stream) => call(stream),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S> Clone for Lent<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_read(cx, buffer))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_shutdown(cx))
    }
}

impl<S: TlsStream + Unpin> TlsStream for Lent<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.slot().as_ref().map_or_else(ChannelBinding::none, TlsStream::channel_binding)
    }
}

type Rustls = <MakeRustlsConnect as MakeTlsConnect<Lent<Socket>>>::TlsConnect;
type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Lent<Socket>>>::Stream;

/// Encrypts, and keeps a handle of what comes out.
struct Tap {
    tls: Rustls,
    inside: Lent<Encrypted>,
}

impl TlsConnect<Lent<Socket>> for Tap {
    type Stream = Lent<Encrypted>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>>>>;

    fn connect(self, stream: Lent<Socket>) -> Self::Future {
        let Self { tls, inside } = self;
        Box::pin(async move {
            *inside.slot() = Some(tls.connect(stream).await?);
            Ok(inside)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_over_tcp_is_watched_as_the_url_says() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = "keepalives_idle=41 keepalives_interval=7 keepalives_retries=3";
        let config: Config = format!("host=db user=u {options}").parse().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        watch(&stream, &config).unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 41);
        assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), 7);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }
}

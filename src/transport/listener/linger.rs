//! A TCP stream that is closed the gentle way.
//!
//! Closing a socket with unread bytes in it makes the kernel send RST, and the peer may lose answers that it has
//! received but not read yet (RFC 9112 §9.6 tells it of HTTP/1). A server that drains has just such peers: they were
//! sending their next request.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time,
};
use tokio_util::task::TaskTracker;

/// How long the peer may take to notice that there is no more.
const PATIENCE: Duration = Duration::from_secs(1);

/// Dropped, it says that there is no more, and reads on until the peer has understood.
pub(super) struct Lingering {
    stream: Option<TcpStream>,
    /// Whoever drains waits for those that linger. `None`: it is not worth it.
    tracker: Option<TaskTracker>,
}

impl Lingering {
    /// At first it is closed at once: a flood of connections that are refused must not linger.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream), tracker: None }
    }

    /// From now on it lingers.
    pub(super) fn linger_in(&mut self, tracker: &TaskTracker) {
        self.tracker = Some(tracker.clone());
    }

    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        // `None` only while it is dropped.
        self.get_mut().stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(stream), Some(tracker), Ok(_)) = (self.stream.take(), &self.tracker, runtime) {
            tracker.spawn(linger(stream));
        }
    }
}

async fn linger(mut stream: TcpStream) {
    let read_on = async {
        stream.shutdown().await?;
        let mut nothing = [0; 1024];
        while stream.read(&mut nothing).await? > 0 {}
        io::Result::Ok(())
    };
    // However it ends, it has ended.
    let _ = time::timeout(PATIENCE, read_on).await;
}

impl AsyncRead for Lingering {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

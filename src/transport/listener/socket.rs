//! Bound sockets and the streams that come from them.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::{PeerAddr, linger::Lingering};

/// A stream without TLS.
pub(super) type Plain = Either<Lingering, UnixStream>;

/// A bound socket. The file of a Unix socket is removed when it is dropped.
#[derive(Debug)]
pub struct Socket(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Socket {
    /// Binds; port 0 takes a free one.
    pub async fn tcp(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self(Kind::Tcp(TcpListener::bind(addr).await?)))
    }

    /// Every local user may connect: the peer's credentials decide what it gets, the folder's mode who sees the socket.
    /// A socket file that nobody listens on is replaced.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let stale = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
            && StdUnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if stale {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        Ok(Self(Kind::Unix(listener, path.to_owned())))
    }

    /// Where it listens, for TCP; the port is that which the system gave if 0 was asked for.
    pub fn addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix(..) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Plain, PeerAddr)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, addr) = listener.accept().await?;
                // Replies are small and must not wait for more; a socket that can't is still good.
                let _ = stream.set_nodelay(true);
                Ok((Either::Left(Lingering::new(stream)), PeerAddr::Tcp(addr)))
            }
            Kind::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                Ok((Either::Right(stream), PeerAddr::Unix { uid: peer.uid(), pid: peer.pid() }))
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Kind::Unix(_, path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

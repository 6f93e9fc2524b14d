//! What one listener bears.

use std::time::Duration;

use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};

use super::Protocol;

/// Bounds of one listener. All counts are of this listener alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once; one more is closed as soon as it is accepted.
    pub connections: usize,
    /// The same for one address (IPv6: one /64).
    pub connections_per_address: usize,
    /// Connections on which the peer owes the next word of TLS or, having no identity, its first request; one more closes
    /// the oldest.
    pub half_open: usize,
    /// The same for one address.
    pub half_open_per_address: usize,
    /// TLS handshakes whose arithmetic is under way at once; more wait, within their timeout.
    pub handshakes: usize,
    /// The same for one address.
    pub handshakes_per_address: usize,
    /// From the first byte of TLS to its last.
    pub handshake_timeout: Duration,
    /// Connections that have asked for something without an accepted identity, where one is asked for; one more closes the
    /// oldest of the address that has most.
    pub unidentified: usize,
    /// How long a connection without an accepted identity lives.
    pub unidentified_age: Duration,
    /// How long an HTTP/1 request's header may take, and how long a caller without an identity may wait with the first
    /// request.
    pub header_timeout: Duration,
    /// The header of one request, in bytes.
    pub header_bytes: u32,
    /// HTTP/2 requests under way on one connection.
    pub streams: u32,
    /// HTTP/2 frame, in bytes.
    pub frame_bytes: u32,
    /// What one HTTP/2 stream may send before it is read, in bytes.
    pub stream_window: u32,
    /// The same for all streams of one connection.
    pub connection_window: u32,
    /// After so long without a frame an HTTP/2 peer is asked whether it is there.
    pub ping_interval: Duration,
    /// After so long without an answer it is not.
    pub ping_timeout: Duration,
    /// A connection is asked to go (GOAWAY) after this, ±10 %: so that certificates and load balancing take effect.
    pub age: Duration,
    /// How long requests under way may take once the connection has to go.
    pub grace: Duration,
}

impl Limits {
    /// For the gRPC listeners.
    pub fn grpc() -> Self {
        Self {
            connections: 12_000,
            connections_per_address: 4_000,
            half_open: 4_096,
            half_open_per_address: 1_024,
            handshakes: 256,
            handshakes_per_address: 64,
            handshake_timeout: Duration::from_secs(10),
            unidentified: 64,
            unidentified_age: Duration::from_secs(30),
            header_timeout: Duration::from_secs(10),
            header_bytes: 16 * 1024,
            streams: 256,
            frame_bytes: 16 * 1024,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            ping_interval: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(20),
            age: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(30),
        }
    }

    /// For the HTTP listeners: short requests without a body, from anywhere.
    pub fn http() -> Self {
        Self {
            streams: 32,
            stream_window: 64 * 1024 - 1,
            connection_window: 64 * 1024 - 1,
            header_bytes: 8 * 1024,
            age: Duration::from_secs(5 * 60),
            grace: Duration::from_secs(5),
            ..Self::grpc()
        }
    }

    /// With so many connections at once, and from one address.
    #[must_use]
    pub fn with_connections(self, connections: usize, connections_per_address: usize) -> Self {
        Self { connections, connections_per_address, ..self }
    }

    /// One builder for both protocols, so that what holds for HTTP/2 stands once.
    pub(super) fn builder(&self, protocol: Protocol) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        if protocol == Protocol::Http2 {
            builder = builder.http2_only();
        }
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size((self.header_bytes as usize).max(HTTP1_LEAST_BUFFER));
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.streams)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_RESETS)
            .max_header_list_size(self.header_bytes)
            .max_frame_size(self.frame_bytes)
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.ping_timeout);
        builder
    }
}

/// Streams that the peer opened and took back before they were looked at, or broke: with more the connection is closed
/// (CVE-2023-44487 "rapid reset", CVE-2025-8671 "made you reset").
const MAX_RESETS: usize = 64;

/// What we keep for a stream whose client does not read, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

const MAX_HEADERS: usize = 64;

/// hyper panics below this.
const HTTP1_LEAST_BUFFER: usize = 8192;

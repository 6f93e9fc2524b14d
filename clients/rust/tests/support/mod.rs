//! A Hallmark and an authorization server in this process, on loopback or a Unix socket.

pub(crate) mod authorization_server;
pub(crate) mod hallmark;

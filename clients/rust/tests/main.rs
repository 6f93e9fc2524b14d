//! The thin client against a Hallmark and an authorization server that do as the test says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod access_tokens;
mod calls;
mod certificates;
mod dependencies;
mod keys;
mod support;
mod testing;

//! Hallmark's gRPC API: the messages generated from `hallmark/v1/*.proto`, whose comments are the reference.
//!
//! Features `client` and `server` add the stubs of each side.

/// The messages and stubs of package `hallmark.v1`.
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("hallmark.v1");
}

/// The compiled `FileDescriptorSet`, for reflection and for the test that guards the wire.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hallmark.v1.bin"));

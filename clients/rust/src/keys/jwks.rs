//! What authorization servers are shown.

/// A client's JWK Set as authorization servers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks {
    /// The document, byte for byte; empty where the client has no key yet.
    pub document: Vec<u8>,
    /// Where authorization servers find it.
    pub url: String,
    /// The strong entity tag, with its quotes.
    pub etag: String,
}

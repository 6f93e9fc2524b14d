//! Thin client of Hallmark: signed client assertions and access tokens, never a key.
//!
//! ```no_run
//! # async fn example() -> Result<(), hallmark_client::Error> {
//! use hallmark_client::{Client, Connection};
//!
//! let hallmark = Client::connect(Connection::from_env()?)?;
//! let access_token = hallmark.token("clinic", "system/Patient.rs").await?;
//! let header = format!("Bearer {}", access_token.expose());
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is cheap to clone, connects when it is first used and again whenever the connection is lost, and reads
//! certificates anew when their files change. It knows nothing of authorization servers: it sends the token request
//! that Hallmark describes, as it is.

mod cache;
mod channel;
mod client;
mod clients;
mod connection;
mod error;
mod given;
mod health;
mod keys;
mod policy;
mod retry;
mod sign;
#[cfg(feature = "testing")]
pub mod testing;
mod token;
mod watch;

pub use client::{Client, Options};
pub use clients::{OAuthClient, Recorded, Registration};
pub use connection::{CONNECTION_VARIABLE, Connection, Endpoint};
pub use error::{Error, Refusal, Remedy, Sent, reason};
pub use keys::{
    Adoption, Approval, Certificate, CertificateNames, CertificateRequest, ChangeState, Confirmation, HsmLook, Jwks,
    Key, KeyAction, KeyChange, KeyChoice, KeyEvidence, KeyList, KeyState, ObjectRef, Order, SoftwareStatement, Stray,
    UpcomingStep,
};
pub use policy::{PolicyAnswer, PolicyFinding, PolicyLine, PolicyQuestion};
pub use sign::{FormField, SignRequest, SignedAssertion, SignedStream, Streamed, TokenRequest};
pub use token::AccessToken;
pub use watch::{DocumentKind, JwksUpdate, JwksWatch, PublishedDocument};

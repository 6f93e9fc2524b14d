//! Hallmark's rules.
//!
//! Everything here is a function of its arguments: no I/O, no async runtime, no clock, no randomness.
//! Times and random bytes come in as arguments; decisions and bytes go out. In reading order:
//!
//! - [`key`]: what a key record is, and the states of a key's life;
//! - [`lifecycle`]: which state follows which, and why;
//! - [`client`] and [`profile`]: what one OAuth client at one authorization server needs;
//! - [`policy`]: who may sign for which client; its [`policy::Grant`] is the only way to
//! - [`assertion`]: build what is signed;
//! - [`certificate`] and [`software_statement`]: what else is signed with a client's key;
//! - [`evidence`]: where a key was born, signed with a custody key;
//! - [`public_key`] and [`jwk`]: public keys as SPKI, JWK and RFC 7638 thumbprint; [`known_keys`]: those that are no secret;
//! - [`inspect`]: everything that is wrong with a JWT;
//! - [`audit`]: what is recorded, and the hash chain over it;
//! - [`ports`]: what the world must provide: an HSM, a store, a clock;
//! - [`discovery`]: what an authorization server says of itself; [`registration`]: what it is told of a client;
//! - [`diagnosis`]: why it says no;
//! - [`error`]: errors, sorted by what their receiver should do.

pub mod assertion;
pub mod audit;
pub mod certificate;
pub mod client;
pub mod diagnosis;
pub mod discovery;
pub mod error;
pub mod evidence;
pub mod inspect;
pub mod jwk;
pub mod key;
pub mod known_keys;
pub mod lifecycle;
pub mod policy;
pub mod ports;
pub mod profile;
pub mod public_key;
pub mod registration;
pub mod software_statement;
pub mod time;

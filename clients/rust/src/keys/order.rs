//! What operators ask for.

use hallmark_proto::v1;
use uuid::Uuid;

/// What every change of keys is asked for with. Made from a reason alone, it has a new request id and forces nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The same id again, after a failure for example, does nothing twice.
    pub request_id: String,
    /// The audit log keeps it.
    pub reason: String,
    /// Past a gate that is shut; for operators with role `destroy`. Where nothing is to be forced it has no effect.
    pub force: bool,
}

/// What to do with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAction {
    /// Makes it active, and deactivates the one that was.
    Activate,
    /// Stops signing with it; it stays published.
    Deactivate,
    /// Takes it out of the JWKS at once, for good.
    Revoke,
    /// Takes it out of the JWKS, once nothing that it signed can matter any more.
    Retire,
    /// Destroys it on the HSM.
    Destroy,
    /// Says that it may become active, as far as someone had to look.
    Confirm(Confirmation),
}

/// What an operator saw to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// The authorization server has the key registered.
    Registered,
    /// The public JWKS URL was read from outside, and had the key.
    Rehearsed,
}

/// A key to be taken in: one that is on an HSM and has no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// Whose key it becomes.
    pub client: String,
    /// `None`: the one of the client's key lines that it suits.
    pub alg: Option<String>,
    /// `None`: the client's HSM, if it has one only.
    pub hsm: Option<String>,
    pub object: ObjectRef,
    /// The `kid` that it has at the authorization server already. `None`: its thumbprint.
    pub kid: Option<String>,
}

/// Names the objects of a key on an HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectRef {
    CkaId(Vec<u8>),
    Label(String),
}

impl Order {
    /// With a new request id.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { request_id: Uuid::new_v4().to_string(), reason: reason.into(), force: false }
    }

    /// Past a gate that is shut.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }
}

impl From<&str> for Order {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

impl From<String> for Order {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}

impl From<Confirmation> for v1::Confirmation {
    fn from(confirmation: Confirmation) -> Self {
        match confirmation {
            Confirmation::Registered => Self::Registered,
            Confirmation::Rehearsed => Self::Rehearsed,
        }
    }
}

//! What operators do, and the role that each takes.

use std::{fmt, str::FromStr};

use super::OperatorRole;
use crate::key::InvalidName;

/// Declares [`Act`]: its name, the RPC that does it, and the role that it takes.
macro_rules! acts {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $rpc:literal, $role:ident;)*) => {
        /// Something that an operator may do, one for each RPC.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Act { $($(#[doc = $doc])+ $name,)* }

        impl Act {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As commands and `hallmark policy explain --act` have it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            const RULE: &str = concat!("one of:", $(" ", $text),*);

            /// `SERVICE/METHOD` of `hallmark.v1`.
            pub fn rpc(self) -> &'static str {
                match self { $(Self::$name => $rpc,)* }
            }

            /// The least role that may; with `force`, which goes past gates, that is [`OperatorRole::Destroy`].
            pub fn role(self, force: bool) -> OperatorRole {
                if force {
                    return OperatorRole::Destroy;
                }
                match self { $(Self::$name => OperatorRole::$role,)* }
            }
        }
    };
}

acts! {
    /// Follows what is published.
    Follow = "follow", "JwksService/WatchJwks", Follow;
    /// Reads any client's JWKS.
    ShowJwks = "show-jwks", "JwksService/GetJwks", View;
    /// Lists keys.
    ListKeys = "list-keys", "KeyService/ListKeys", View;
    /// Has the server look at its HSMs now.
    LookAtHsms = "look-at-hsms", "KeyService/ListKeys", Rotate;
    /// Reads one key.
    ShowKey = "show-key", "KeyService/GetKey", View;
    /// Has it shown where a key was born.
    Evidence = "evidence", "KeyService/GetKeyEvidence", View;
    /// Reads what is going to happen to keys.
    PlanRotation = "plan-rotation", "RotationService/PlanRotation", View;
    /// Lists clients.
    ListClients = "list-clients", "ClientService/ListClients", View;
    /// Reads any client.
    ShowClient = "show-client", "ClientService/GetClient", View;
    /// Asks why the policy lets somebody do something, or not.
    ExplainPolicy = "explain-policy", "PolicyService/ExplainPolicy", View;
    /// Has the policy looked through.
    LintPolicy = "lint-policy", "PolicyService/LintPolicy", View;
    /// Reads which changes wait for an approval.
    ListChanges = "list-changes", "KeyService/ListChanges", View;
    /// Approves a change of another operator; takes the role of that change too.
    Approve = "approve", "KeyService/ApproveChange", Rotate;
    /// Says no to a change that waits, or takes it back.
    Deny = "deny", "KeyService/DenyChange", Rotate;
    /// Makes a client's first keys.
    Create = "create", "KeyService/CreateKeys", Rotate;
    /// Switches a client to its standbys.
    Rotate = "rotate", "KeyService/RotateKeys", Rotate;
    /// Makes a key active.
    Activate = "activate", "KeyService/ActivateKey", Rotate;
    /// Stops signing with a key.
    Deactivate = "deactivate", "KeyService/DeactivateKey", Rotate;
    /// Declares a key compromised.
    Revoke = "revoke", "KeyService/RevokeKey", Rotate;
    /// Takes a key out of the JWKS.
    Retire = "retire", "KeyService/RetireKey", Rotate;
    /// Destroys a key on its HSM.
    Destroy = "destroy", "KeyService/DestroyKey", Destroy;
    /// Takes in a key that is on an HSM.
    Adopt = "adopt", "KeyService/AdoptKey", Rotate;
    /// Says that a key is registered, or was seen.
    Confirm = "confirm", "KeyService/ConfirmKey", Rotate;
    /// Asks for a certificate.
    RequestCertificate = "request-certificate", "KeyService/CreateCertificateRequest", Rotate;
    /// Installs a certificate.
    InstallCertificate = "install-certificate", "KeyService/InstallCertificate", Rotate;
    /// Makes a certificate that the key signs itself.
    SelfSign = "self-sign", "KeyService/SelfSignCertificate", Rotate;
    /// Signs a software statement.
    SignStatement = "sign-statement", "KeyService/SignSoftwareStatement", Rotate;
    /// Writes down what a registration gave.
    Register = "register", "ClientService/RecordRegistration", Rotate;
}

/// What can be made to wait for a second operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// Destroying keys.
    Destroy,
    /// Whatever goes past a gate.
    Force,
    /// Revoking keys. Never unless it is asked for: until somebody approves, whoever has the key can go on signing.
    Revoke,
}

impl Guarded {
    /// Whether it is about `act`.
    pub fn covers(self, act: Act, force: bool) -> bool {
        match self {
            Self::Destroy => act == Act::Destroy,
            Self::Force => force,
            Self::Revoke => act == Act::Revoke,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Act {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let found = Self::ALL.iter().copied().find(|act| act.as_str() == text);
        found.ok_or_else(|| InvalidName::new("act", text, Self::RULE))
    }
}

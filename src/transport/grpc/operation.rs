//! What operators ask for: from the messages of `KeyService` to the requests of the use cases.

use hallmark_core::{
    error::Error,
    key::{ClientName, Kid},
};
use hallmark_proto::v1;

use super::convert::{invalid, name, optional_name, required_text, text};
use crate::service::keys::{AdoptRequest, AlterRequest, Alteration, CreateRequest, ObjectRef, RegistrationRequest};

/// A change as it is asked for: what every message has, and what is its own.
pub(super) trait Operation {
    /// What the use case takes.
    type Request;

    /// The client that the books are kept for; empty where the message names a key.
    fn client(&self) -> String {
        String::new()
    }

    /// Reads it, or says which field is wrong.
    fn read(self) -> Result<Self::Request, Error>;
}

impl Operation for v1::CreateKeysRequest {
    type Request = CreateRequest;

    fn client(&self) -> String {
        self.client.clone()
    }

    fn read(self) -> Result<CreateRequest, Error> {
        Ok(CreateRequest {
            request_id: request_id(self.request_id)?,
            reason: reason(self.reason)?,
            client: name("client", &self.client)?,
            alg: optional_name("alg", &self.alg)?,
        })
    }
}

impl Operation for v1::RecordRegistrationRequest {
    type Request = RegistrationRequest;

    fn client(&self) -> String {
        self.client.clone()
    }

    fn read(self) -> Result<RegistrationRequest, Error> {
        Ok(RegistrationRequest {
            request_id: request_id(self.request_id)?,
            reason: reason(self.reason)?,
            client: name("client", &self.client)?,
            client_id: self.client_id,
            registration_uri: text("registration_uri", self.registration_uri)?,
            force: self.force,
        })
    }
}

impl Operation for v1::RotateKeysRequest {
    type Request = AlterRequest;

    fn client(&self) -> String {
        self.client.clone()
    }

    fn read(self) -> Result<AlterRequest, Error> {
        let client: ClientName = name("client", &self.client)?;
        let what = Alteration::Rotate { client, alg: optional_name("alg", &self.alg)? };
        alteration(self.request_id, self.reason, what, self.force)
    }
}

impl Operation for v1::RevokeKeyRequest {
    type Request = AlterRequest;

    fn read(self) -> Result<AlterRequest, Error> {
        let what = Alteration::Revoke { kid: kid(&self.kid)? };
        // Nothing holds it up, so there is nothing to force.
        alteration(self.request_id, self.reason, what, false)
    }
}

/// Messages that name a key, and may go past a gate.
macro_rules! of_one_key {
    ($($message:ident => $what:ident;)*) => {$(
        impl Operation for v1::$message {
            type Request = AlterRequest;

            fn read(self) -> Result<AlterRequest, Error> {
                let what = Alteration::$what { kid: kid(&self.kid)? };
                alteration(self.request_id, self.reason, what, self.force)
            }
        }
    )*};
}

of_one_key! {
    ActivateKeyRequest => Activate;
    DeactivateKeyRequest => Deactivate;
    RetireKeyRequest => Retire;
    DestroyKeyRequest => Destroy;
}

impl Operation for v1::ConfirmKeyRequest {
    type Request = AlterRequest;

    fn read(self) -> Result<AlterRequest, Error> {
        let confirmation = self.confirmation();
        let kid = kid(&self.kid)?;
        let what = match confirmation {
            v1::Confirmation::Registered => Alteration::ConfirmRegistered { kid },
            v1::Confirmation::Rehearsed => Alteration::ConfirmRehearsed { kid },
            v1::Confirmation::Unspecified => {
                return Err(invalid("confirmation", "is missing, or one that this version does not know"));
            }
        };
        alteration(self.request_id, self.reason, what, false)
    }
}

impl Operation for v1::AdoptKeyRequest {
    type Request = AdoptRequest;

    fn client(&self) -> String {
        self.client.clone()
    }

    fn read(self) -> Result<AdoptRequest, Error> {
        use v1::adopt_key_request::Object;
        let object = match self.object {
            Some(Object::CkaId(id)) if (1..=MAX_CKA_ID).contains(&id.len()) => ObjectRef::CkaId(id),
            Some(Object::CkaId(_)) => return Err(invalid("cka_id", &format!("must have 1 to {MAX_CKA_ID} bytes"))),
            Some(Object::Label(label)) => ObjectRef::Label(required_text("label", label, MAX_LABEL)?),
            None => return Err(invalid("object", "is missing: say `cka_id` or `label`")),
        };
        Ok(AdoptRequest {
            request_id: request_id(self.request_id)?,
            reason: reason(self.reason)?,
            client: name("client", &self.client)?,
            alg: optional_name("alg", &self.alg)?,
            hsm: optional_name("hsm", &self.hsm)?,
            object,
            kid: optional_name("kid", &self.kid)?,
        })
    }
}

fn alteration(id: String, why: String, what: Alteration, force: bool) -> Result<AlterRequest, Error> {
    Ok(AlterRequest { request_id: request_id(id)?, reason: reason(why)?, what, force })
}

fn kid(text: &str) -> Result<Kid, Error> {
    name("kid", text)
}

pub(super) fn request_id(text: String) -> Result<String, Error> {
    required_text("request_id", text, 128)
}

pub(super) fn reason(text: String) -> Result<String, Error> {
    required_text("reason", text, 1024)
}

/// Longer than any module makes them.
const MAX_CKA_ID: usize = 256;
const MAX_LABEL: usize = 256;

#[cfg(test)]
mod tests {
    use hallmark_core::error::Reason;

    use super::*;

    fn rotate() -> v1::RotateKeysRequest {
        let text = str::to_owned;
        let (request_id, reason, client) = (text("r1"), text("quarterly"), text("clinic"));
        v1::RotateKeysRequest { request_id, reason, client, alg: String::new(), force: true }
    }

    fn adopt(object: Option<v1::adopt_key_request::Object>) -> v1::AdoptKeyRequest {
        let text = str::to_owned;
        let (request_id, reason, client) = (text("r1"), text("moved here"), text("clinic"));
        let (alg, hsm, kid) = (text("RS384"), String::new(), text("old-kid"));
        v1::AdoptKeyRequest { request_id, reason, client, alg, hsm, object, kid }
    }

    /// The field that the refusal names.
    fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        let error = result.expect_err("it must be refused");
        assert_eq!(error.reason, Reason::InvalidRequest);
        error.message.split('`').nth(1).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_rotation_is_read_with_its_force() {
        assert_eq!(rotate().client(), "clinic");
        let read = rotate().read().unwrap();
        let what = Alteration::Rotate { client: "clinic".parse().unwrap(), alg: None };
        assert_eq!(
            (read.request_id.as_str(), read.reason.as_str(), read.what, read.force),
            ("r1", "quarterly", what, true)
        );
    }

    #[test]
    fn a_change_must_say_why_and_under_which_id() {
        assert_eq!(refused(v1::RotateKeysRequest { reason: " ".into(), ..rotate() }.read()), "reason");
        assert_eq!(refused(v1::RotateKeysRequest { request_id: String::new(), ..rotate() }.read()), "request_id");
        assert_eq!(refused(v1::RotateKeysRequest { request_id: "x".repeat(129), ..rotate() }.read()), "request_id");
        assert_eq!(refused(v1::RotateKeysRequest { client: "No Such".into(), ..rotate() }.read()), "client");
        assert_eq!(refused(v1::RotateKeysRequest { alg: "HS256".into(), ..rotate() }.read()), "alg");
    }

    /// What goes to which use case: a mix-up here would destroy what was to be retired.
    #[test]
    fn each_message_asks_for_its_own() {
        let kid: Kid = "k1".parse().unwrap();
        macro_rules! read {
            ($message:ident { $($field:ident: $value:expr),* }) => {{
                let (request_id, reason, kid) = ("r1".to_owned(), "why".to_owned(), "k1".to_owned());
                let read = v1::$message { request_id, reason, kid $(, $field: $value)* }.read().unwrap();
                (read.what, read.force)
            }};
        }
        assert_eq!(read!(ActivateKeyRequest { force: true }), (Alteration::Activate { kid: kid.clone() }, true));
        assert_eq!(read!(DeactivateKeyRequest { force: false }), (Alteration::Deactivate { kid: kid.clone() }, false));
        assert_eq!(read!(RevokeKeyRequest {}), (Alteration::Revoke { kid: kid.clone() }, false));
        assert_eq!(read!(RetireKeyRequest { force: true }), (Alteration::Retire { kid: kid.clone() }, true));
        assert_eq!(read!(DestroyKeyRequest { force: false }), (Alteration::Destroy { kid: kid.clone() }, false));
        let registered = v1::Confirmation::Registered.into();
        let rehearsed = v1::Confirmation::Rehearsed.into();
        assert_eq!(
            read!(ConfirmKeyRequest { confirmation: registered }).0,
            Alteration::ConfirmRegistered { kid: kid.clone() }
        );
        assert_eq!(read!(ConfirmKeyRequest { confirmation: rehearsed }).0, Alteration::ConfirmRehearsed { kid });
    }

    #[test]
    fn a_confirmation_says_of_what() {
        for confirmation in [0, 99] {
            let (request_id, reason, kid) = ("r1".to_owned(), "why".to_owned(), "k1".to_owned());
            let message = v1::ConfirmKeyRequest { request_id, reason, kid, confirmation };
            assert_eq!(refused(message.read()), "confirmation");
        }
        assert_eq!(refused(v1::RevokeKeyRequest::default().read()), "kid");
    }

    #[test]
    fn an_object_is_named_by_id_or_label() {
        use v1::adopt_key_request::Object;
        let read = adopt(Some(Object::CkaId(vec![1, 2]))).read().unwrap();
        assert_eq!(read.object, ObjectRef::CkaId(vec![1, 2]));
        assert_eq!((read.alg.unwrap().as_str(), read.hsm, read.kid.unwrap().as_str()), ("RS384", None, "old-kid"));
        let read = adopt(Some(Object::Label("old key".into()))).read().unwrap();
        assert_eq!(read.object, ObjectRef::Label("old key".into()));
        assert_eq!(refused(adopt(None).read()), "object");
        assert_eq!(refused(adopt(Some(Object::CkaId(vec![]))).read()), "cka_id");
        assert_eq!(refused(adopt(Some(Object::Label(" ".into()))).read()), "label");
        let message = v1::AdoptKeyRequest { kid: "a.b".into(), ..adopt(Some(Object::CkaId(vec![1]))) };
        assert_eq!(refused(message.read()), "kid");
    }
}

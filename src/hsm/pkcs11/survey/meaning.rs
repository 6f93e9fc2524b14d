//! What it means for Hallmark that a call failed.

use hallmark_core::ports::FaultClass;

use super::facts::{End, Failure};

/// In words, for the one who is to decide whether the module will do.
pub fn meaning(failure: &Failure) -> String {
    let function = failure.step.function.as_str();
    let effect = effect(function, failure);
    match &failure.end {
        End::Crashed { .. } => format!("{effect}; in the server the same crash would end the process"),
        End::Hung { .. } => {
            format!("{effect}; in the server the same call would hold a worker until the watchdog gives the token up")
        }
        End::Returned { .. } | End::NotMade { .. } => effect.to_owned(),
    }
}

fn effect(function: &str, failure: &Failure) -> &'static str {
    let class = match &failure.end {
        End::Returned { class, .. } => FaultClass::ALL.into_iter().find(|known| known.as_str() == class),
        _ => None,
    };
    let is_asked = failure.step.about.as_deref() == Some("with a token");
    match (function, class) {
        ("C_Login", _) if matches!(failure.end, End::NotMade { .. }) => {
            "no PIN was tried; nothing is signed until this is mended"
        }
        ("dlopen", _) => "Hallmark can't load it",
        ("C_Initialize", _) => "Hallmark does not start with this module",
        ("C_GetInfo", _) => "nothing: the library's version is missing from evidence",
        ("C_GetSlotList", _) if is_asked => "Hallmark finds no token",
        ("C_GetSlotList", _) => "nothing: Hallmark asks for slots with a token",
        ("C_GetSlotInfo", _) => "nothing: Hallmark does not ask for it",
        ("C_GetTokenInfo", Some(FaultClass::Unspecific)) => {
            "Hallmark takes the token at the configuration's word where it is the only one, and only if the answer came and \
             could not be read"
        }
        ("C_GetTokenInfo", _) => "Hallmark can't tell this token by serial or label, so can't choose it",
        ("C_GetMechanismList", _) => "Hallmark does not know what the token can do, and does not connect",
        ("C_GetMechanismInfo", _) => "nothing: Hallmark goes by the list of mechanisms alone",
        ("C_OpenSession", Some(FaultClass::Gone)) => "the token went away",
        ("C_OpenSession", _) => "no session, no signature",
        ("C_GetSessionInfo", Some(FaultClass::Unsupported)) => {
            "nothing: Hallmark then learns of a lost login from the next call"
        }
        ("C_GetSessionInfo", _) => "Hallmark asks it whether the login holds, and could not go on",
        ("C_CloseSession", _) => "sessions may pile up at the token after each loss",
        ("C_Login", Some(FaultClass::Pin)) => {
            "nothing is signed until an operator has seen to the PIN; it is not tried again"
        }
        ("C_Login", _) => "nothing can be signed",
        ("C_FindObjects", _) => "Hallmark can't find its keys",
        ("C_GetAttributeValue", _) => "the custody of this key can't be shown, and `custody` refuses it",
        ("C_Sign", Some(FaultClass::CustodyTooWeak)) => "Hallmark refuses this key",
        ("C_Sign", _) => "this key does not sign with this algorithm",
        ("C_Finalize", _) => {
            "the library can't be started anew within the server: after some losses it exits with code 75, for its supervisor"
        }
        _ => "not known",
    }
}

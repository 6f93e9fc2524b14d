//! Answers that `cryptoki` refuses as a whole, read by ourselves: a token info whose clock is none, mechanisms without a
//! name.
//!
//! For whoever looks at a module, never for signing. It uses the library that [`Module`] has loaded and initialised.

use cryptoki_sys::{
    CK_EFFECTIVELY_INFINITE, CK_FLAGS, CK_FUNCTION_LIST, CK_MECHANISM_TYPE, CK_TOKEN_INFO, CK_ULONG,
    CK_UNAVAILABLE_INFORMATION, CK_VERSION, CKR_OK, Pkcs11,
};

use super::{
    super::{
        module::{Inside, Module},
        objects::unpadded,
    },
    facts::{TokenShown, Versions},
};

/// The library's functions, called directly.
pub(super) struct Raw<'a> {
    functions: CK_FUNCTION_LIST,
    /// Keeps the library loaded.
    _library: Pkcs11,
    /// Keeps it initialised.
    _inside: &'a Inside<'a>,
}

#[allow(unsafe_code)]
impl<'a> Raw<'a> {
    /// `None` where it shows no functions of PKCS#11 2.
    pub(super) fn of(module: &Module, inside: &'a Inside<'a>) -> Option<Self> {
        // SAFETY: the library is loaded already, so this runs no code of it and counts one user more.
        let library = unsafe { Pkcs11::new(module.path()) }.ok()?;
        library.C_GetFunctionList.as_ref().ok()?;
        let mut list: *mut CK_FUNCTION_LIST = std::ptr::null_mut();
        // SAFETY: the symbol is there, and `list` is a place for the pointer (PKCS#11 §5.4.4).
        let answer = unsafe { library.C_GetFunctionList(&mut list) };
        if answer != CKR_OK || list.is_null() {
            return None;
        }
        // SAFETY: the module gave it as its list, which lives as long as the library is loaded; it is copied.
        Some(Self { functions: unsafe { *list }, _library: library, _inside: inside })
    }

    /// `C_GetTokenInfo`, whatever is in it; `None` where the call fails.
    pub(super) fn token(&self, slot: u64) -> Option<TokenShown> {
        let mut info = CK_TOKEN_INFO::default();
        // SAFETY: `info` is a place for the answer, of the size that PKCS#11 gives it.
        let answer = unsafe { self.functions.C_GetTokenInfo?(slot, &mut info) };
        (answer == CKR_OK).then(|| shown(&info))
    }

    /// All of `C_GetMechanismList`, by number; `None` where the call fails.
    pub(super) fn mechanisms(&self, slot: u64) -> Option<Vec<CK_MECHANISM_TYPE>> {
        let ask = self.functions.C_GetMechanismList?;
        let mut count: CK_ULONG = 0;
        // SAFETY: without a place for the list only the count is written (PKCS#11 §5.2).
        let counted = unsafe { ask(slot, std::ptr::null_mut(), &mut count) };
        if counted != CKR_OK || count > MOST_MECHANISMS {
            return None;
        }
        let mut list = vec![0; usize::try_from(count).ok()?];
        // SAFETY: `list` has room for `count`, which is what the module is told.
        let listed = unsafe { ask(slot, list.as_mut_ptr(), &mut count) };
        list.truncate(usize::try_from(count).ok()?);
        (listed == CKR_OK).then_some(list)
    }
}

fn shown(info: &CK_TOKEN_INFO) -> TokenShown {
    let text = |bytes: &[u8]| unpadded(&String::from_utf8_lossy(bytes)).to_owned();
    let count = |count: CK_ULONG| (count != CK_UNAVAILABLE_INFORMATION).then_some(count);
    let limit = |limit: CK_ULONG| count(limit).filter(|limit| *limit != CK_EFFECTIVELY_INFINITE);
    let version = |version: CK_VERSION| format!("{}.{}", version.major, version.minor);
    let has_clock = info.flags & cryptoki_sys::CKF_CLOCK_ON_TOKEN != 0;
    TokenShown {
        label: text(&info.label),
        manufacturer: text(&info.manufacturerID),
        model: text(&info.model),
        serial: text(&info.serialNumber),
        flags: flags(info.flags),
        max_sessions: limit(info.ulMaxSessionCount),
        sessions: count(info.ulSessionCount),
        max_rw_sessions: limit(info.ulMaxRwSessionCount),
        min_pin: info.ulMinPinLen,
        max_pin: info.ulMaxPinLen,
        versions: Versions { hardware: version(info.hardwareVersion), firmware: version(info.firmwareVersion) },
        clock: has_clock.then(|| text(&info.utcTime)),
        unreadable: None,
    }
}

/// Names of those that say something about how the token can be used (PKCS#11 §3.2).
fn flags(bits: CK_FLAGS) -> Vec<String> {
    let shown = FLAGS.iter().filter(|(bit, _)| bits & bit != 0);
    shown.map(|(_, name)| (*name).to_owned()).collect()
}

const FLAGS: &[(CK_FLAGS, &str)] = &[
    (cryptoki_sys::CKF_TOKEN_INITIALIZED, "TOKEN_INITIALIZED"),
    (cryptoki_sys::CKF_LOGIN_REQUIRED, "LOGIN_REQUIRED"),
    (cryptoki_sys::CKF_USER_PIN_INITIALIZED, "USER_PIN_INITIALIZED"),
    (cryptoki_sys::CKF_USER_PIN_COUNT_LOW, "USER_PIN_COUNT_LOW"),
    (cryptoki_sys::CKF_USER_PIN_FINAL_TRY, "USER_PIN_FINAL_TRY"),
    (cryptoki_sys::CKF_USER_PIN_LOCKED, "USER_PIN_LOCKED"),
    (cryptoki_sys::CKF_USER_PIN_TO_BE_CHANGED, "USER_PIN_TO_BE_CHANGED"),
    (cryptoki_sys::CKF_PROTECTED_AUTHENTICATION_PATH, "PROTECTED_AUTHENTICATION_PATH"),
    (cryptoki_sys::CKF_WRITE_PROTECTED, "WRITE_PROTECTED"),
    (cryptoki_sys::CKF_CLOCK_ON_TOKEN, "CLOCK_ON_TOKEN"),
    (cryptoki_sys::CKF_RNG, "RNG"),
    (cryptoki_sys::CKF_RESTORE_KEY_NOT_NEEDED, "RESTORE_KEY_NOT_NEEDED"),
    (cryptoki_sys::CKF_DUAL_CRYPTO_OPERATIONS, "DUAL_CRYPTO_OPERATIONS"),
    (cryptoki_sys::CKF_SO_PIN_LOCKED, "SO_PIN_LOCKED"),
    (cryptoki_sys::CKF_ERROR_STATE, "ERROR_STATE"),
];

/// A module that says more is not believed.
const MOST_MECHANISMS: CK_ULONG = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_with_a_clock_that_is_none_shows_the_rest() {
        let mut info = CK_TOKEN_INFO {
            flags: cryptoki_sys::CKF_CLOCK_ON_TOKEN | cryptoki_sys::CKF_USER_PIN_LOCKED,
            ulMaxSessionCount: CK_EFFECTIVELY_INFINITE,
            ulSessionCount: CK_UNAVAILABLE_INFORMATION,
            ulMaxRwSessionCount: 7,
            utcTime: *b"never           ",
            serialNumber: *b"0042\0\0\0\0\0\0\0\0\0\0\0\0",
            ..CK_TOKEN_INFO::default()
        };
        info.label = [b' '; 32];
        info.label[..4].copy_from_slice(b"main");
        let token = shown(&info);
        assert_eq!((token.label.as_str(), token.serial.as_str()), ("main", "0042"));
        assert_eq!(token.clock.as_deref(), Some("never"));
        assert_eq!(token.flags, ["USER_PIN_LOCKED", "CLOCK_ON_TOKEN"]);
        assert_eq!((token.max_sessions, token.sessions, token.max_rw_sessions), (None, None, Some(7)));
    }
}

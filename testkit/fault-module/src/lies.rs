//! The functions that do more than pass a call on: those whose answers the plan may change.

use std::{os::raw::c_void, ptr, slice};

#[allow(clippy::wildcard_imports, reason = "the types and constants of PKCS#11")]
use cryptoki_sys::*;

use crate::{
    functions::Function,
    module::{self, KeyName, Subject, around},
    plan::Act,
};

/// Calls a function of the real module, if it has it.
macro_rules! real {
    ($real:ident.$name:ident($($arg:expr),*)) => {
        match $real.$name {
            // SAFETY: the arguments are those of the program, for this function, or of the same form.
            Some(function) => unsafe { function($($arg),*) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}

pub(crate) unsafe extern "C" fn C_Finalize(reserved: *mut c_void) -> CK_RV {
    around(Function::C_Finalize, Subject::Library, |real, _| {
        let answer = real!(real.C_Finalize(reserved));
        if answer == CKR_OK {
            module::finalized();
        }
        answer
    })
}

pub(crate) unsafe extern "C" fn C_GetSlotList(present: CK_BBOOL, list: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    around(Function::C_GetSlotList, Subject::Library, |real, _| {
        if present == CK_TRUE && module::token_is_away() && !count.is_null() {
            // SAFETY: not null, and the program promises a place for a number (PKCS#11 2.40 §5.5).
            unsafe { *count = 0 };
            return CKR_OK;
        }
        real!(real.C_GetSlotList(present, list, count))
    })
}

pub(crate) unsafe extern "C" fn C_OpenSession(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    around(Function::C_OpenSession, Subject::Slot, |real, _| {
        let refuses = module::plan().is_some_and(|plan| plan.refuse_read_only);
        if refuses && flags & CKF_RW_SESSION == 0 {
            return CKR_FUNCTION_FAILED;
        }
        real!(real.C_OpenSession(slot, flags, application, notify, session))
    })
}

pub(crate) unsafe extern "C" fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    around(Function::C_GetTokenInfo, Subject::Slot, |real, _| {
        let answer = real!(real.C_GetTokenInfo(slot, info));
        if let (CKR_OK, false, Some(plan)) = (answer, info.is_null(), module::plan()) {
            let flag = |on: bool, flag: CK_FLAGS| if on { flag } else { 0 };
            // SAFETY: not null, and the real module has just filled it.
            unsafe {
                (*info).flags |= flag(plan.final_try, CKF_USER_PIN_FINAL_TRY) | flag(plan.locked, CKF_USER_PIN_LOCKED);
                (*info).flags &= !flag(plan.no_rng, CKF_RNG);
            }
        }
        answer
    })
}

pub(crate) unsafe extern "C" fn C_GetMechanismList(
    slot: CK_SLOT_ID,
    list: *mut CK_MECHANISM_TYPE,
    count: *mut CK_ULONG,
) -> CK_RV {
    around(Function::C_GetMechanismList, Subject::Slot, |real, _| {
        let Some(plan) = module::plan().filter(|_| !count.is_null()) else { return CKR_ARGUMENTS_BAD };
        let mut known = [0; 1024];
        let mut len = known.len() as CK_ULONG;
        let answer = real!(real.C_GetMechanismList(slot, known.as_mut_ptr(), &mut len));
        if answer != CKR_OK {
            return answer;
        }
        let mut shown = known[..usize::try_from(len).unwrap_or(0)].to_vec();
        shown.extend(plan.claimed.iter().filter(|claimed| !known.contains(claimed)));
        shown.retain(|mechanism| !plan.hidden.contains(mechanism));
        // SAFETY: not null; the program says by it how much room there is, and reads from it what is there (§5.2).
        let room = unsafe { std::mem::replace(&mut *count, shown.len() as CK_ULONG) };
        if list.is_null() {
            return CKR_OK;
        }
        if room < shown.len() as CK_ULONG {
            return CKR_BUFFER_TOO_SMALL;
        }
        // SAFETY: the program has room for `room` numbers there, and it is enough.
        unsafe { ptr::copy_nonoverlapping(shown.as_ptr(), list, shown.len()) };
        CKR_OK
    })
}

pub(crate) unsafe extern "C" fn C_Login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    len: CK_ULONG,
) -> CK_RV {
    let answer =
        around(Function::C_Login, Subject::Session(session), |real, _| real!(real.C_Login(session, user, pin, len)));
    module::login_ended(answer);
    answer
}

pub(crate) unsafe extern "C" fn C_SignInit(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    module::signs_with(session, key);
    around(Function::C_SignInit, Subject::Session(session), |real, _| {
        // SAFETY: null, or a mechanism of the program's (PKCS#11 2.40 §5.11).
        let named = unsafe { mechanism.as_ref() }.map(|mechanism| mechanism.mechanism);
        if let (Some(named), Some(plan)) = (named, module::plan())
            && plan.refuses(named)
        {
            return CKR_MECHANISM_INVALID;
        }
        real!(real.C_SignInit(session, mechanism, key))
    })
}

pub(crate) unsafe extern "C" fn C_Sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    len: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    around(Function::C_Sign, Subject::Session(session), |real, act| {
        let answer = real!(real.C_Sign(session, data, len, signature, signature_len));
        if answer == CKR_OK && !signature.is_null() && !signature_len.is_null() && act == Some(Act::Corrupt) {
            // SAFETY: both not null, and the real module has just written so many bytes there.
            let made = unsafe { slice::from_raw_parts_mut(signature, usize::try_from(*signature_len).unwrap_or(0)) };
            let middle = made.len() / 2;
            if let Some(byte) = made.get_mut(middle) {
                *byte ^= 1;
            }
        }
        answer
    })
}

/// What an object is called. Empty where it does not say.
pub(crate) fn name(real: &CK_FUNCTION_LIST, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> KeyName {
    let (mut label, mut cka_id) = ([0u8; 256], [0u8; 256]);
    let attribute = |kind, value: &mut [u8; 256]| CK_ATTRIBUTE {
        type_: kind,
        pValue: value.as_mut_ptr().cast(),
        ulValueLen: value.len() as CK_ULONG,
    };
    let mut wanted = [attribute(CKA_LABEL, &mut label), attribute(CKA_ID, &mut cka_id)];
    if real!(real.C_GetAttributeValue(session, object, wanted.as_mut_ptr(), 2)) != CKR_OK {
        return KeyName::default();
    }
    let lengths = wanted.map(|attribute| usize::try_from(attribute.ulValueLen).unwrap_or(0).min(256));
    KeyName {
        label: String::from_utf8_lossy(&label[..lengths[0]]).into_owned(),
        cka_id: cka_id[..lengths[1]].iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

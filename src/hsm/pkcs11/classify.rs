//! What a PKCS#11 return value means for the one who called: the table of [`FaultClass`], and PKCS#11's own names.

use cryptoki::{
    context::Function,
    error::{Error, RvError},
};
use hallmark_core::ports::{FaultClass, HsmFault};

/// A failed call, classified.
pub(super) fn fault(error: Error) -> HsmFault {
    match error {
        Error::Pkcs11(rv, function) => HsmFault::new(class(rv), function_name(function), code(rv)),
        Error::NullFunctionPointer => {
            HsmFault::new(FaultClass::Unsupported, "PKCS#11", "the module lacks the function")
        }
        // The call succeeded, and what came back is out of range, or of a kind that `cryptoki` does not know.
        other => HsmFault::new(FaultClass::Unspecific, UNREADABLE, other),
    }
}

/// Whether the module did answer, in a form that can't be read. Not a sign that anything is wrong with the token.
pub(super) fn is_unreadable(fault: &HsmFault) -> bool {
    fault.function == UNREADABLE
}

/// Stands for the function in such a fault.
const UNREADABLE: &str = "unreadable answer";

/// Declares both functions from one table, so that no return value can lack a class or a name.
macro_rules! return_values {
    ($($class:ident: $($name:ident = $code:literal),+;)*) => {
        /// The reaction that a return value asks for (PKCS#11 3.1 §5.1).
        pub(super) fn class(rv: RvError) -> FaultClass {
            match rv {
                $($(RvError::$name)|+ => FaultClass::$class,)*
                RvError::VendorDefined(_) | RvError::UnknownErrorCode(_) => FaultClass::Unspecific,
            }
        }

        /// The return value by its name in PKCS#11.
        pub(super) fn code(rv: RvError) -> String {
            match rv {
                $($(RvError::$name => $code.to_owned(),)+)*
                RvError::VendorDefined(value) => format!("CKR_VENDOR_DEFINED (0x{value:08x})"),
                RvError::UnknownErrorCode(value) => format!("CKR 0x{value:08x}"),
            }
        }
    };
}

return_values! {
    Request:
        ArgumentsBad = "CKR_ARGUMENTS_BAD",
        AttributeReadOnly = "CKR_ATTRIBUTE_READ_ONLY",
        AttributeSensitive = "CKR_ATTRIBUTE_SENSITIVE",
        AttributeTypeInvalid = "CKR_ATTRIBUTE_TYPE_INVALID",
        AttributeValueInvalid = "CKR_ATTRIBUTE_VALUE_INVALID",
        ActionProhibited = "CKR_ACTION_PROHIBITED",
        DataInvalid = "CKR_DATA_INVALID",
        DataLenRange = "CKR_DATA_LEN_RANGE",
        EncryptedDataInvalid = "CKR_ENCRYPTED_DATA_INVALID",
        EncryptedDataLenRange = "CKR_ENCRYPTED_DATA_LEN_RANGE",
        KeySizeRange = "CKR_KEY_SIZE_RANGE",
        KeyTypeInconsistent = "CKR_KEY_TYPE_INCONSISTENT",
        KeyNotNeeded = "CKR_KEY_NOT_NEEDED",
        KeyChanged = "CKR_KEY_CHANGED",
        KeyNeeded = "CKR_KEY_NEEDED",
        KeyIndigestible = "CKR_KEY_INDIGESTIBLE",
        KeyFunctionNotPermitted = "CKR_KEY_FUNCTION_NOT_PERMITTED",
        KeyNotWrappable = "CKR_KEY_NOT_WRAPPABLE",
        KeyUnextractable = "CKR_KEY_UNEXTRACTABLE",
        MechanismInvalid = "CKR_MECHANISM_INVALID",
        MechanismParamInvalid = "CKR_MECHANISM_PARAM_INVALID",
        SessionReadOnly = "CKR_SESSION_READ_ONLY",
        SessionExists = "CKR_SESSION_EXISTS",
        SessionReadOnlyExists = "CKR_SESSION_READ_ONLY_EXISTS",
        SessionReadWriteSoExists = "CKR_SESSION_READ_WRITE_SO_EXISTS",
        SessionParallelNotSupported = "CKR_SESSION_PARALLEL_NOT_SUPPORTED",
        SignatureInvalid = "CKR_SIGNATURE_INVALID",
        SignatureLenRange = "CKR_SIGNATURE_LEN_RANGE",
        TemplateIncomplete = "CKR_TEMPLATE_INCOMPLETE",
        TemplateInconsistent = "CKR_TEMPLATE_INCONSISTENT",
        TokenWriteProtected = "CKR_TOKEN_WRITE_PROTECTED",
        UnwrappingKeyHandleInvalid = "CKR_UNWRAPPING_KEY_HANDLE_INVALID",
        UnwrappingKeySizeRange = "CKR_UNWRAPPING_KEY_SIZE_RANGE",
        UnwrappingKeyTypeInconsistent = "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT",
        WrappedKeyInvalid = "CKR_WRAPPED_KEY_INVALID",
        WrappedKeyLenRange = "CKR_WRAPPED_KEY_LEN_RANGE",
        WrappingKeyHandleInvalid = "CKR_WRAPPING_KEY_HANDLE_INVALID",
        WrappingKeySizeRange = "CKR_WRAPPING_KEY_SIZE_RANGE",
        WrappingKeyTypeInconsistent = "CKR_WRAPPING_KEY_TYPE_INCONSISTENT",
        DomainParamsInvalid = "CKR_DOMAIN_PARAMS_INVALID",
        BufferTooSmall = "CKR_BUFFER_TOO_SMALL",
        InformationSensitive = "CKR_INFORMATION_SENSITIVE",
        PublicKeyInvalid = "CKR_PUBLIC_KEY_INVALID",
        FunctionRejected = "CKR_FUNCTION_REJECTED";
    Session:
        SessionHandleInvalid = "CKR_SESSION_HANDLE_INVALID",
        SessionClosed = "CKR_SESSION_CLOSED",
        OperationActive = "CKR_OPERATION_ACTIVE",
        OperationNotInitialized = "CKR_OPERATION_NOT_INITIALIZED";
    Handle:
        KeyHandleInvalid = "CKR_KEY_HANDLE_INVALID",
        ObjectHandleInvalid = "CKR_OBJECT_HANDLE_INVALID";
    Login:
        UserNotLoggedIn = "CKR_USER_NOT_LOGGED_IN";
    Gone:
        DeviceRemoved = "CKR_DEVICE_REMOVED",
        TokenNotPresent = "CKR_TOKEN_NOT_PRESENT",
        TokenNotRecognized = "CKR_TOKEN_NOT_RECOGNIZED",
        SlotIdInvalid = "CKR_SLOT_ID_INVALID",
        CryptokiNotInitialized = "CKR_CRYPTOKI_NOT_INITIALIZED";
    Pin:
        PinIncorrect = "CKR_PIN_INCORRECT",
        PinInvalid = "CKR_PIN_INVALID",
        PinLenRange = "CKR_PIN_LEN_RANGE",
        PinExpired = "CKR_PIN_EXPIRED",
        PinLocked = "CKR_PIN_LOCKED",
        PinTooWeak = "CKR_PIN_TOO_WEAK",
        NewPinMode = "CKR_NEW_PIN_MODE",
        NextOtp = "CKR_NEXT_OTP",
        UserPinNotInitialized = "CKR_USER_PIN_NOT_INITIALIZED";
    Unsupported:
        CurveNotSupported = "CKR_CURVE_NOT_SUPPORTED",
        FunctionNotSupported = "CKR_FUNCTION_NOT_SUPPORTED";
    Unspecific:
        Cancel = "CKR_CANCEL",
        HostMemory = "CKR_HOST_MEMORY",
        GeneralError = "CKR_GENERAL_ERROR",
        FunctionFailed = "CKR_FUNCTION_FAILED",
        FunctionCanceled = "CKR_FUNCTION_CANCELED",
        FunctionNotParallel = "CKR_FUNCTION_NOT_PARALLEL",
        NoEvent = "CKR_NO_EVENT",
        NeedToCreateThreads = "CKR_NEED_TO_CREATE_THREADS",
        CantLock = "CKR_CANT_LOCK",
        DeviceError = "CKR_DEVICE_ERROR",
        DeviceMemory = "CKR_DEVICE_MEMORY",
        SessionCount = "CKR_SESSION_COUNT",
        UserAlreadyLoggedIn = "CKR_USER_ALREADY_LOGGED_IN",
        UserAnotherAlreadyLoggedIn = "CKR_USER_ANOTHER_ALREADY_LOGGED_IN",
        UserTooManyTypes = "CKR_USER_TOO_MANY_TYPES",
        UserTypeInvalid = "CKR_USER_TYPE_INVALID",
        RandomSeedNotSupported = "CKR_RANDOM_SEED_NOT_SUPPORTED",
        RandomNoRng = "CKR_RANDOM_NO_RNG",
        SavedStateInvalid = "CKR_SAVED_STATE_INVALID",
        StateUnsaveable = "CKR_STATE_UNSAVEABLE",
        CryptokiAlreadyInitialized = "CKR_CRYPTOKI_ALREADY_INITIALIZED",
        MutexBad = "CKR_MUTEX_BAD",
        MutexNotLocked = "CKR_MUTEX_NOT_LOCKED",
        ExceededMaxIterations = "CKR_EXCEEDED_MAX_ITERATIONS",
        FipsSelfTestFailed = "CKR_FIPS_SELF_TEST_FAILED",
        LibraryLoadFailed = "CKR_LIBRARY_LOAD_FAILED";
}

fn function_name(function: Function) -> &'static str {
    match function {
        Function::Initialize => "C_Initialize",
        Function::Finalize => "C_Finalize",
        Function::GetInfo => "C_GetInfo",
        Function::GetSlotList => "C_GetSlotList",
        Function::GetTokenInfo => "C_GetTokenInfo",
        Function::GetMechanismList => "C_GetMechanismList",
        Function::InitToken => "C_InitToken",
        Function::InitPIN => "C_InitPIN",
        Function::OpenSession => "C_OpenSession",
        Function::CloseSession => "C_CloseSession",
        Function::GetSessionInfo => "C_GetSessionInfo",
        Function::Login => "C_Login",
        Function::Logout => "C_Logout",
        Function::DestroyObject => "C_DestroyObject",
        Function::GetAttributeValue => "C_GetAttributeValue",
        Function::FindObjectsInit => "C_FindObjectsInit",
        Function::FindObjects => "C_FindObjects",
        Function::FindObjectsFinal => "C_FindObjectsFinal",
        Function::SignInit => "C_SignInit",
        Function::Sign => "C_Sign",
        Function::GenerateKeyPair => "C_GenerateKeyPair",
        Function::GenerateRandom => "C_GenerateRandom",
        // Functions that Hallmark does not call.
        _ => "PKCS#11",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table in `docs/adr/0006-…`, by the numbers that modules return (PKCS#11 3.1, `pkcs11t.h`).
    #[test]
    fn return_values_ask_for_the_reaction_that_the_design_gives_them() {
        let table: &[(FaultClass, &[(u64, &str)])] = &[
            (
                FaultClass::Request,
                &[
                    (0x68, "CKR_KEY_FUNCTION_NOT_PERMITTED"),
                    (0x21, "CKR_DATA_LEN_RANGE"),
                    (0x70, "CKR_MECHANISM_INVALID"),
                    (0x63, "CKR_KEY_TYPE_INCONSISTENT"),
                ],
            ),
            (
                FaultClass::Session,
                &[
                    (0xb3, "CKR_SESSION_HANDLE_INVALID"),
                    (0xb0, "CKR_SESSION_CLOSED"),
                    (0x90, "CKR_OPERATION_ACTIVE"),
                    (0x91, "CKR_OPERATION_NOT_INITIALIZED"),
                ],
            ),
            (FaultClass::Handle, &[(0x60, "CKR_KEY_HANDLE_INVALID"), (0x82, "CKR_OBJECT_HANDLE_INVALID")]),
            (FaultClass::Login, &[(0x101, "CKR_USER_NOT_LOGGED_IN")]),
            (
                FaultClass::Unspecific,
                &[
                    (0x05, "CKR_GENERAL_ERROR"),
                    (0x06, "CKR_FUNCTION_FAILED"),
                    (0x30, "CKR_DEVICE_ERROR"),
                    (0xb1, "CKR_SESSION_COUNT"),
                    (0x8000_0001, "CKR_VENDOR_DEFINED (0x80000001)"),
                    (0x7fff_0000, "CKR 0x7fff0000"),
                ],
            ),
            (
                FaultClass::Gone,
                &[
                    (0x32, "CKR_DEVICE_REMOVED"),
                    (0xe0, "CKR_TOKEN_NOT_PRESENT"),
                    (0xe1, "CKR_TOKEN_NOT_RECOGNIZED"),
                    (0x03, "CKR_SLOT_ID_INVALID"),
                    (0x190, "CKR_CRYPTOKI_NOT_INITIALIZED"),
                ],
            ),
            (FaultClass::Pin, &[(0xa0, "CKR_PIN_INCORRECT"), (0xa4, "CKR_PIN_LOCKED"), (0xa3, "CKR_PIN_EXPIRED")]),
            (FaultClass::Unsupported, &[(0x54, "CKR_FUNCTION_NOT_SUPPORTED")]),
        ];
        for (class, values) in table {
            for (value, name) in *values {
                let returned = cryptoki::error::Rv::from(*value).into_result(Function::Sign);
                let fault = fault(returned.unwrap_err());
                assert_eq!((fault.class, fault.code.as_str(), fault.function), (*class, *name, "C_Sign"));
            }
        }
    }
}

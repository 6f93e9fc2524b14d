//! Every message that a caller may send, without a connection; for the fuzz target.

use hallmark_core::error::Error;
use hallmark_proto::v1;
use prost::Message;

use super::{convert, operation::Operation};

/// Reads `data` as one of the messages, which its first byte chooses, up to what the use case takes: whatever comes, it
/// returns.
pub fn try_message(data: &[u8]) -> Result<(), Error> {
    let Some((which, data)) = data.split_first() else { return Ok(()) };
    match which % 16 {
        0 => assertion(decode(data)?),
        1 => item(decode(data)?),
        2 => read::<v1::CreateKeysRequest>(data),
        3 => read::<v1::RecordRegistrationRequest>(data),
        4 => read::<v1::RotateKeysRequest>(data),
        5 => read::<v1::RevokeKeyRequest>(data),
        6 => read::<v1::ActivateKeyRequest>(data),
        7 => read::<v1::DestroyKeyRequest>(data),
        8 => read::<v1::ConfirmKeyRequest>(data),
        9 => read::<v1::AdoptKeyRequest>(data),
        10 => read::<v1::CreateCertificateRequestRequest>(data),
        11 => read::<v1::InstallCertificateRequest>(data),
        12 => read::<v1::SelfSignCertificateRequest>(data),
        13 => read::<v1::SignSoftwareStatementRequest>(data),
        14 => plan(&decode(data)?),
        _ => decode::<v1::WatchJwksRequest>(data).map(drop),
    }
}

fn decode<M: Message + Default>(data: &[u8]) -> Result<M, Error> {
    M::decode(data).map_err(|error| convert::invalid("message", &error.to_string()))
}

fn read<M: Message + Default + Operation>(data: &[u8]) -> Result<(), Error> {
    let message = decode::<M>(data)?;
    let _ = message.client();
    message.read().map(drop)
}

fn assertion(message: v1::SignAssertionRequest) -> Result<(), Error> {
    let request = convert::assertion_request(message)?;
    // Values are kept byte for byte, so each must be JSON by itself.
    assert!(request.claims.0.iter().all(|(_, value)| serde_json::from_str::<serde_json::Value>(value.get()).is_ok()));
    Ok(())
}

fn item(message: v1::SignAssertionsRequest) -> Result<(), Error> {
    if let Some(timeout) = &message.timeout {
        convert::duration("timeout", timeout)?;
    }
    message.request.map_or(Ok(()), assertion)
}

fn plan(message: &v1::PlanRotationRequest) -> Result<(), Error> {
    let until = convert::required_time("until", message.until.as_ref())?;
    convert::timestamp(until);
    Ok(())
}

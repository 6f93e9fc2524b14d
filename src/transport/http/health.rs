//! Whether the process lives and is ready, for those who restart and route.

use std::pin::Pin;

use http::StatusCode;

use super::{Answer, text};

/// What a process knows of its own readiness; each `Err` says what is missing.
pub trait Health: Send + Sync + 'static {
    /// Whether a signature was made and verified lately; may make one to find out.
    fn sign(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;

    /// Whether there are key sets to serve.
    fn jwks(&self) -> Result<(), String>;
}

/// The answer at a health path, in words; `None` for another path.
///
/// `/livez` answers as long as the runtime does. `/readyz` is ready with at least one role.
pub async fn answer(health: &dyn Health, path: &str) -> Option<Answer> {
    let ready = match path {
        "/livez" => Ok(()),
        "/readyz/sign" => health.sign().await,
        "/readyz/jwks" => health.jwks(),
        "/readyz" => match (health.sign().await, health.jwks()) {
            (Err(sign), Err(jwks)) => Err(format!("sign: {sign}; jwks: {jwks}")),
            _ => Ok(()),
        },
        _ => return None,
    };
    Some(match ready {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    })
}

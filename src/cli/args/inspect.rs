//! `hallmark inspect`.

use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct InspectArgs {
    /// The JWT, as it was copied; `@FILE` reads a file, `-` standard input
    #[arg(value_name = "JWT", default_value = "-")]
    pub(in crate::cli) jwt: String,
    /// For which authorization server, as `profile` of a [[client]] names it
    #[arg(long, value_name = "NAME", default_value = hallmark_core::profile::Profile::DEFAULT)]
    pub(in crate::cli) profile: String,
    /// What `sub` must be, and `iss` where that is the same
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) client_id: Option<String>,
    /// What `iss` must be, where it was registered beside the client_id
    #[arg(long, value_name = "ISS")]
    pub(in crate::cli) iss: Option<String>,
    /// What `aud` must be, byte for byte: the token endpoint from discovery; may be repeated
    #[arg(long = "audience", value_name = "URL")]
    pub(in crate::cli) audiences: Vec<String>,
    /// The server's issuer, to tell where it was taken for the audience
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) issuer: Option<String>,
    /// The server's FHIR base, to tell where it was taken for the audience
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) fhir_base: Option<String>,
    /// The keys to verify with, fetched as a verifier would; nothing of the JWT is sent
    #[arg(long, value_name = "URL|FILE")]
    pub(in crate::cli) jwks: Option<String>,
    /// The JWKS URL as registered, which `jku` must be
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) jwks_url: Option<String>,
    /// The certificates as registered, PEM, the leaf first
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) certificate: Option<PathBuf>,
    /// CA certificates to trust beside the system's, where the URL is not on the open internet
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) ca: Option<PathBuf>,
    /// As if it were this time: RFC 3339, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) at: Option<String>,
}

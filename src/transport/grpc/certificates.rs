//! Certificates and software statements: between the messages of `KeyService` and the use cases.

use std::time::Duration;

use hallmark_core::{certificate::Certificate, error::Error, key::KeyRecord, software_statement::Statement};
use hallmark_proto::v1;

use super::{
    convert::{self, claims, duration, invalid, name, optional_name, required_text, timestamp},
    operation::{Operation, reason, request_id},
};
use crate::service::keys::{
    CsrRequest, InstallRequest, KeyChoice, SelfSignRequest, SignedStatement, StatementRequest, WantedNames,
};

impl Operation for v1::CreateCertificateRequestRequest {
    type Request = CsrRequest;

    fn client(&self) -> String {
        client(self.key.as_ref())
    }

    fn read(self) -> Result<CsrRequest, Error> {
        Ok(CsrRequest {
            request_id: request_id(self.request_id)?,
            reason: reason(self.reason)?,
            key: choice(self.key)?,
            names: names(self.subject, self.san_uris, self.san_dns)?,
        })
    }
}

impl Operation for v1::InstallCertificateRequest {
    type Request = InstallRequest;

    fn client(&self) -> String {
        client(self.key.as_ref())
    }

    fn read(self) -> Result<InstallRequest, Error> {
        Ok(InstallRequest {
            request_id: request_id(self.request_id)?,
            reason: reason(self.reason)?,
            key: choice(self.key)?,
            chain: self.certificate_chain,
            force: self.force,
        })
    }
}

impl Operation for v1::SelfSignCertificateRequest {
    type Request = SelfSignRequest;

    fn client(&self) -> String {
        client(self.key.as_ref())
    }

    fn read(self) -> Result<SelfSignRequest, Error> {
        let lifetime = self.lifetime.ok_or_else(|| invalid("lifetime", "is missing"))?;
        let lifetime = Duration::from_secs(duration("lifetime", &lifetime)?.as_secs());
        Ok(SelfSignRequest {
            request_id: request_id(self.request_id)?,
            reason: reason(self.reason)?,
            key: choice(self.key)?,
            names: names(self.subject, self.san_uris, self.san_dns)?,
            lifetime,
            force: self.force,
        })
    }
}

impl Operation for v1::SignSoftwareStatementRequest {
    type Request = StatementRequest;

    fn client(&self) -> String {
        client(self.key.as_ref())
    }

    fn read(self) -> Result<StatementRequest, Error> {
        let registration_endpoint =
            required_text("registration_endpoint", self.registration_endpoint, convert::MAX_TEXT)?;
        let issuer = convert::text("issuer", self.issuer)?;
        Ok(StatementRequest {
            request_id: request_id(self.request_id)?,
            reason: reason(self.reason)?,
            key: choice(self.key)?,
            statement: Statement { registration_endpoint, issuer, claims: claims(&self.claims_json)? },
        })
    }
}

pub(super) fn csr_response(der: Vec<u8>, key: &KeyRecord) -> v1::CreateCertificateRequestResponse {
    v1::CreateCertificateRequestResponse { request: der, key: Some(convert::key(key)) }
}

pub(super) fn statement_response(signed: SignedStatement) -> v1::SignSoftwareStatementResponse {
    v1::SignSoftwareStatementResponse {
        software_statement: signed.compact,
        kid: signed.kid.to_string(),
        expires_at: Some(timestamp(signed.stamp.expires_at)),
    }
}

/// What the leaf says; `None` where there is none, or none that can be read.
pub(super) fn leaf(record: &KeyRecord) -> Option<v1::Certificate> {
    let shown = Certificate::parse(record.certificate_chain.first()?).ok()?;
    Some(v1::Certificate {
        subject: shown.subject,
        issuer: shown.issuer,
        serial: shown.serial,
        not_before: Some(timestamp(shown.validity.not_before)),
        not_after: Some(timestamp(shown.validity.not_after)),
        san_uris: shown.san_uris,
        san_dns: shown.san_dns,
        sha1: shown.thumbprints.sha1,
        sha256: shown.thumbprints.sha256,
    })
}

fn client(key: Option<&v1::KeyChoice>) -> String {
    key.map(|key| key.client.clone()).unwrap_or_default()
}

fn choice(key: Option<v1::KeyChoice>) -> Result<KeyChoice, Error> {
    let v1::KeyChoice { client, kid, standby } = key.ok_or_else(|| invalid("key", "is missing"))?;
    Ok(KeyChoice { client: name("client", &client)?, kid: optional_name("kid", &kid)?, standby })
}

fn names(subject: String, san_uris: Vec<String>, san_dns: Vec<String>) -> Result<WantedNames, Error> {
    Ok(WantedNames { subject: convert::text("subject", subject)?, san_uris, san_dns })
}

#[cfg(test)]
mod tests {
    use hallmark_core::error::Reason;

    use super::*;

    fn key() -> Option<v1::KeyChoice> {
        Some(v1::KeyChoice { client: "clinic".into(), kid: String::new(), standby: true })
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        let error = result.expect_err("it must be refused");
        assert_eq!(error.reason, Reason::InvalidRequest);
        error.message.split('`').nth(1).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_request_says_for_which_key_and_whose_it_is() {
        let message = v1::CreateCertificateRequestRequest {
            request_id: "r1".into(),
            reason: "first".into(),
            key: key(),
            subject: String::new(),
            san_uris: vec!["urn:a".into()],
            san_dns: vec!["b".into()],
        };
        assert_eq!(message.client(), "clinic");
        let read = message.clone().read().unwrap();
        assert_eq!(read.key, KeyChoice { client: "clinic".parse().unwrap(), kid: None, standby: true });
        let (san_uris, san_dns) = (vec!["urn:a".to_owned()], vec!["b".to_owned()]);
        assert_eq!(read.names, WantedNames { subject: None, san_uris, san_dns });
        assert_eq!(refused(v1::CreateCertificateRequestRequest { key: None, ..message }.read()), "key");
    }

    #[test]
    fn what_must_be_said_is_asked_for() {
        let order = ("r1".to_owned(), "why".to_owned());
        let (request_id, reason) = order.clone();
        let self_sign = v1::SelfSignCertificateRequest { request_id, reason, key: key(), ..Default::default() };
        assert_eq!(refused(self_sign.read()), "lifetime");
        let (request_id, reason) = order.clone();
        let statement = v1::SignSoftwareStatementRequest { request_id, reason, key: key(), ..Default::default() };
        assert_eq!(refused(statement.read()), "registration_endpoint");
        let (request_id, reason) = order;
        let chain = vec![vec![1], vec![2]];
        let install =
            v1::InstallCertificateRequest { request_id, reason, key: key(), certificate_chain: chain, force: false };
        assert_eq!(install.read().unwrap().chain, [[1], [2]]);
        assert_eq!(refused(v1::InstallCertificateRequest { key: key(), ..Default::default() }.read()), "request_id");
    }
}

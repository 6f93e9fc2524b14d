//! Who may do what: every RPC of operators, asked by an operator of each role, and by a workload.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};
use hallmark_core::policy::{Act, OperatorRole};
use hallmark_proto::v1::{self, explain_policy_request};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::support::{Caller, Refusal, Site};

const ROLES: [OperatorRole; 4] =
    [OperatorRole::Follow, OperatorRole::View, OperatorRole::Rotate, OperatorRole::Destroy];

fn id_of(role: OperatorRole) -> String {
    format!("spiffe://test.example/{}", role.as_str())
}

/// A site with an operator of each role.
fn site() -> Site {
    let mut site = Site::new();
    for role in ROLES {
        let (id, role) = (id_of(role), role.as_str());
        site.append(&format!("\n[[operator]]\nid = \"{id}\"\nroles = [\"{role}\"]\n"));
    }
    site
}

#[tokio::test]
async fn every_call_takes_the_role_that_it_says() {
    let site = site();
    let server = site.start();
    server.ready().await;
    let operators = ROLES.map(|role| (role, server.caller(Some(&site.ca.client(&id_of(role))))));
    let mut wrong = Vec::new();
    for act in Act::ALL {
        for force in [false, true] {
            let Some(message) = message(*act, force) else { continue };
            for (role, operator) in &operators {
                let allowed = may(operator, act.rpc(), &message).await;
                let expected = *role as u8 >= act.role(force) as u8;
                if allowed != Ok(expected) {
                    wrong.push(format!("{act} (force: {force}) by {}: {allowed:?}, not {expected}", role.as_str()));
                }
            }
            let stranger = server.caller(Some(&site.ca.client("spiffe://test.example/stranger")));
            if may(&stranger, act.rpc(), &message).await != Ok(false) {
                wrong.push(format!("{act} (force: {force}) by a stranger"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A new RPC without a line in the table would be one that nobody has thought about.
#[test]
fn every_rpc_has_its_role() {
    let set = FileDescriptorSet::decode(hallmark_proto::FILE_DESCRIPTOR_SET).unwrap();
    let ours = set.file.iter().filter(|file| file.package() == "hallmark.v1").flat_map(|file| &file.service);
    let method = |service: &prost_types::ServiceDescriptorProto| -> Vec<String> {
        service.method.iter().map(|method| format!("{}/{}", service.name(), method.name())).collect()
    };
    let rpcs: BTreeSet<_> = ours.filter(|service| service.name() != "AssertionService").flat_map(method).collect();
    let listed: BTreeSet<_> = Act::ALL.iter().map(|act| act.rpc().to_owned()).collect();
    assert_eq!(listed, rpcs);
}

#[tokio::test]
async fn the_policy_in_force_is_explained_to_operators() {
    use explain_policy_request::{Operation, Question, Signing};
    let site = site();
    let server = site.start();
    let ask = async |question: Question| {
        let mut policy = v1::policy_service_client::PolicyServiceClient::new(server.ops().channel);
        let request = v1::ExplainPolicyRequest { question: Some(question) };
        policy.explain_policy(request).await.map(tonic::Response::into_inner).map_err(Refusal::from)
    };
    let sign = |client: &str| {
        let (workload, client) = ("spiffe://test.example/app".to_owned(), client.to_owned());
        Question::Signing(Signing { workload, client, audience: String::new() })
    };
    let config = std::fs::read_to_string(site.folder().join("hallmark.toml")).unwrap();
    let line_of = |text: &str| config.lines().position(|line| line == text).map(|at| u32::try_from(at + 1).unwrap());
    let allowed = ask(sign("demo")).await.unwrap();
    let by = allowed.decided_by.unwrap();
    assert_eq!((allowed.allowed, Some(by.line)), (true, line_of("clients = [\"demo\"]")), "{}", by.section);
    assert!(by.file.ends_with("hallmark.toml") && !allowed.vouched_by.is_empty());
    let refused = ask(sign("other")).await.unwrap();
    assert_eq!((refused.allowed, refused.reason.as_str()), (false, "CLIENT_NOT_PERMITTED"));

    let operate = |act: &str| {
        let (operator, act) = (id_of(OperatorRole::Rotate), act.to_owned());
        Question::Operation(Operation { operator, act, force: false })
    };
    assert!(ask(operate("rotate")).await.unwrap().allowed);
    assert_eq!(ask(operate("destroy")).await.unwrap().reason, "NOT_AN_OPERATOR");
    assert_eq!(ask(operate("dance")).await.unwrap_err().reason, "INVALID_REQUEST");

    let mut policy = v1::policy_service_client::PolicyServiceClient::new(server.ops().channel);
    let found = policy.lint_policy(v1::LintPolicyRequest {}).await.unwrap().into_inner().findings;
    assert!(found.iter().any(|finding| finding.code == "shared-authority"), "{found:?}");
}

/// A request that is well formed and harmless; `None` where there is nothing to force.
#[expect(clippy::needless_update, reason = "some of the messages have all their fields named")]
#[expect(clippy::too_many_lines, reason = "one line for each call")]
fn message(act: Act, force: bool) -> Option<Vec<u8>> {
    let text = str::to_owned;
    let (request_id, reason) = (format!("{act}-{force}-{}", uuid::Uuid::new_v4()), text("test"));
    let (client, kid, alg) = (text("demo"), text("no-such"), String::new());
    let key = Some(v1::KeyChoice { client: client.clone(), kid: kid.clone(), standby: false });
    macro_rules! encoded {
        ($message:ident { $($field:ident $(: $value:expr)?),* }) => {
            v1::$message { $($field $(: $value)?,)* ..Default::default() }.encode_to_vec()
        };
    }
    let forced = match act {
        Act::Rotate => encoded!(RotateKeysRequest { request_id, reason, client: text("none"), alg, force }),
        Act::Activate => encoded!(ActivateKeyRequest { request_id, reason, kid, force }),
        Act::Deactivate => encoded!(DeactivateKeyRequest { request_id, reason, kid, force }),
        Act::Retire => encoded!(RetireKeyRequest { request_id, reason, kid, force }),
        Act::Destroy => encoded!(DestroyKeyRequest { request_id, reason, kid, force }),
        Act::InstallCertificate => encoded!(InstallCertificateRequest { request_id, reason, key, force }),
        Act::SelfSign => encoded!(SelfSignCertificateRequest {
            request_id,
            reason,
            key,
            force,
            lifetime: Some(prost_types::Duration { seconds: 86_400, nanos: 0 })
        }),
        Act::Register => {
            let client_id = text("demo-id");
            encoded!(RecordRegistrationRequest { request_id, reason, client, client_id, force })
        }
        _ if force => return None,
        Act::Follow => encoded!(WatchJwksRequest { instance: text("test") }),
        Act::ShowJwks => encoded!(GetJwksRequest { client }),
        Act::ListKeys => encoded!(ListKeysRequest { client }),
        Act::LookAtHsms => encoded!(ListKeysRequest { client, fresh: true }),
        Act::ShowKey => encoded!(GetKeyRequest { kid }),
        Act::PlanRotation => {
            encoded!(PlanRotationRequest {
                client,
                until: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 })
            })
        }
        Act::ListClients => v1::ListClientsRequest::default().encode_to_vec(),
        Act::ShowClient => encoded!(GetClientRequest { client }),
        Act::ExplainPolicy => {
            use explain_policy_request::{Operation, Question};
            let (operator, act) = (id_of(OperatorRole::View), text("rotate"));
            let question = Some(Question::Operation(Operation { operator, act, force: false }));
            v1::ExplainPolicyRequest { question }.encode_to_vec()
        }
        Act::LintPolicy | Act::ListChanges => Vec::new(),
        Act::Approve => encoded!(ApproveChangeRequest { change_id: kid, reason }),
        Act::Deny => encoded!(DenyChangeRequest { change_id: kid, reason }),
        Act::Create => encoded!(CreateKeysRequest { request_id, reason, client: text("none") }),
        Act::Evidence => encoded!(GetKeyEvidenceRequest { kid, nonce: vec![7; 16] }),
        Act::Revoke => encoded!(RevokeKeyRequest { request_id, reason, kid }),
        Act::Adopt => {
            let object = Some(v1::adopt_key_request::Object::Label(text("no such label")));
            encoded!(AdoptKeyRequest { request_id, reason, client, object })
        }
        Act::Confirm => {
            encoded!(ConfirmKeyRequest { request_id, reason, kid, confirmation: v1::Confirmation::Rehearsed.into() })
        }
        Act::RequestCertificate => encoded!(CreateCertificateRequestRequest { request_id, reason, key }),
        Act::SignStatement => encoded!(SignSoftwareStatementRequest {
            request_id,
            reason,
            key,
            registration_endpoint: text("https://as.example/register"),
            claims_json: b"{\"client_name\":\"x\"}".to_vec()
        }),
    };
    Some(forced)
}

/// Whether the call passes the policy, whatever becomes of it then. An error: a refusal that is none of the policy.
async fn may(caller: &Caller, rpc: &str, message: &[u8]) -> Result<bool, String> {
    match first_answer(caller, rpc, message).await {
        Ok(()) => Ok(true),
        Err(status) => {
            let refusal = Refusal::from(status);
            match (refusal.code, refusal.reason.as_str()) {
                (Code::PermissionDenied, "NOT_AN_OPERATOR" | "WORKLOAD_UNKNOWN") => Ok(false),
                (_, "" | "INVALID_REQUEST")
                    if !refusal.message.contains("no-such") && !refusal.message.contains("`none`") =>
                {
                    Err(format!("{refusal:?}"))
                }
                _ => Ok(true),
            }
        }
    }
}

async fn first_answer(caller: &Caller, rpc: &str, message: &[u8]) -> Result<(), Status> {
    let mut grpc = Grpc::new(caller.channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = format!("/hallmark.v1.{rpc}").parse().unwrap();
    let request = Request::new(Bytes::copy_from_slice(message));
    let mut answers = grpc.server_streaming(request, path, Raw).await?.into_inner();
    answers.message().await.map(drop)
}

/// Messages as they are on the wire.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}

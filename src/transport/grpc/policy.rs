//! `hallmark.v1.PolicyService`.

use std::sync::Arc;

use hallmark_core::{
    error::Error,
    policy::{Explanation, Line, Question, lint::Finding},
};
use hallmark_proto::v1::{
    ExplainPolicyRequest, ExplainPolicyResponse, LintPolicyRequest, LintPolicyResponse, PolicyFinding, PolicyLine,
    explain_policy_request, policy_service_server::PolicyService,
};
use tonic::{Request, Response, Status};

use super::{call::Call, convert};
use crate::service::{policy::PolicyDesk, refusals::Refusals};

#[derive(Debug)]
pub(super) struct Explanations {
    pub(super) desk: PolicyDesk,
    pub(super) refusals: Arc<Refusals>,
}

impl Explanations {
    fn explain(&self, call: &Call, message: ExplainPolicyRequest) -> Result<ExplainPolicyResponse, Error> {
        let question = question(message)?;
        self.desk.explain(&call.caller, &question).map(response)
    }

    fn lint(&self, call: &Call) -> Result<LintPolicyResponse, Error> {
        let findings = self.desk.lint(&call.caller)?;
        Ok(LintPolicyResponse { findings: findings.into_iter().map(finding).collect() })
    }
}

fn question(message: ExplainPolicyRequest) -> Result<Question, Error> {
    use explain_policy_request::Question as Asked;
    match message.question {
        Some(Asked::Signing(asked)) => Ok(Question::Sign {
            workload: convert::name("workload", &asked.workload)?,
            client: convert::name("client", &asked.client)?,
            audience: convert::text("audience", asked.audience)?,
        }),
        Some(Asked::Operation(asked)) => Ok(Question::Operate {
            operator: convert::name("operator", &asked.operator)?,
            act: convert::name("act", &asked.act)?,
            force: asked.force,
        }),
        None => Err(convert::invalid("question", "is missing: say `signing` or `operation`")),
    }
}

fn response(answer: Explanation) -> ExplainPolicyResponse {
    let Explanation { refused, why, by, vouched_by, hint } = answer;
    ExplainPolicyResponse {
        allowed: refused.is_none(),
        reason: refused.map(|reason| reason.code().to_owned()).unwrap_or_default(),
        why,
        decided_by: by.map(line),
        vouched_by: vouched_by.into_iter().map(line).collect(),
        hint: hint.unwrap_or_default(),
    }
}

fn finding(finding: Finding) -> PolicyFinding {
    PolicyFinding {
        severity: finding.severity.as_str().to_owned(),
        code: finding.code.to_owned(),
        what: finding.what,
        hint: finding.hint,
        line: Some(line(finding.line)),
    }
}

fn line(line: Line) -> PolicyLine {
    let Line { file, line, section } = line;
    PolicyLine { file, line: line.and_then(|line| u32::try_from(line).ok()).unwrap_or_default(), section }
}

#[tonic::async_trait]
impl PolicyService for Explanations {
    async fn explain_policy(
        &self,
        request: Request<ExplainPolicyRequest>,
    ) -> Result<Response<ExplainPolicyResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        call.answer(&self.refusals, "", self.explain(&call, request.into_inner()))
    }

    async fn lint_policy(&self, request: Request<LintPolicyRequest>) -> Result<Response<LintPolicyResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        call.answer(&self.refusals, "", self.lint(&call))
    }
}

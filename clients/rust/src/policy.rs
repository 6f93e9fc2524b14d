//! What the policy in force lets whom do, for operators.

use hallmark_proto::v1::{self, explain_policy_request, policy_service_client::PolicyServiceClient};

use crate::{Client, Error, client::timed, given};

/// What is asked of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyQuestion {
    /// May this workload sign for that client? `audience`: `None` is the client's own.
    Signing { workload: String, client: String, audience: Option<String> },
    /// May this operator do that, such as `rotate` or `list-keys`; `force`: past a gate.
    Operation { operator: String, act: String, force: bool },
}

/// Allowed or refused, and by which line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyAnswer {
    pub allowed: bool,
    /// The reason code of the refusal.
    pub reason: Option<String>,
    pub why: String,
    /// `None` where a line is missing.
    pub decided_by: Option<PolicyLine>,
    pub vouched_by: Vec<PolicyLine>,
    pub hint: Option<String>,
}

/// A line of the server's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLine {
    pub file: String,
    /// Counted from 1; `None` where the file as a whole is meant.
    pub line: Option<u32>,
    pub section: String,
}

/// What is allowed and hardly meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyFinding {
    /// `error`, `warning` or `info`.
    pub severity: String,
    /// Stable, for programs.
    pub code: String,
    pub what: String,
    pub hint: String,
    pub line: Option<PolicyLine>,
}

impl Client {
    /// Asks the policy in force.
    pub async fn explain_policy(&self, question: PolicyQuestion) -> Result<PolicyAnswer, Error> {
        use explain_policy_request::{Operation, Question, Signing};
        let question = Some(match question {
            PolicyQuestion::Signing { workload, client, audience } => {
                Question::Signing(Signing { workload, client, audience: audience.unwrap_or_default() })
            }
            PolicyQuestion::Operation { operator, act, force } => {
                Question::Operation(Operation { operator, act, force })
            }
        });
        let deadline = self.deadline(None);
        let message = v1::ExplainPolicyRequest { question };
        let explain = |channel| {
            let request = timed(message.clone(), deadline);
            async move { PolicyServiceClient::new(channel).explain_policy(request).await }
        };
        self.call(deadline, explain).await.map(PolicyAnswer::from)
    }

    /// What in the policy in force is hardly meant.
    pub async fn lint_policy(&self) -> Result<Vec<PolicyFinding>, Error> {
        let deadline = self.deadline(None);
        let lint = |channel| {
            let request = timed(v1::LintPolicyRequest {}, deadline);
            async move { PolicyServiceClient::new(channel).lint_policy(request).await }
        };
        let answer: v1::LintPolicyResponse = self.call(deadline, lint).await?;
        Ok(answer.findings.into_iter().map(PolicyFinding::from).collect())
    }
}

impl From<v1::ExplainPolicyResponse> for PolicyAnswer {
    fn from(answer: v1::ExplainPolicyResponse) -> Self {
        let v1::ExplainPolicyResponse { allowed, reason, why, decided_by, vouched_by, hint } = answer;
        Self {
            allowed,
            reason: given::text(reason),
            why,
            decided_by: decided_by.map(PolicyLine::from),
            vouched_by: vouched_by.into_iter().map(PolicyLine::from).collect(),
            hint: given::text(hint),
        }
    }
}

impl From<v1::PolicyFinding> for PolicyFinding {
    fn from(finding: v1::PolicyFinding) -> Self {
        let v1::PolicyFinding { severity, code, what, hint, line } = finding;
        Self { severity, code, what, hint, line: line.map(PolicyLine::from) }
    }
}

impl From<v1::PolicyLine> for PolicyLine {
    fn from(line: v1::PolicyLine) -> Self {
        let v1::PolicyLine { file, line, section } = line;
        Self { file, line: Some(line).filter(|line| *line > 0), section }
    }
}

//! An operator asks what the policy in force lets whom do, and what in it is hardly meant.

use std::sync::Arc;

use hallmark_core::{
    error::Error,
    policy::{Act, Caller, Explanation, Question, lint::Finding},
    ports::Clock,
};

use super::registry::Registry;

/// The use case.
#[derive(Clone)]
pub struct PolicyDesk {
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for PolicyDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PolicyDesk")
    }
}

impl PolicyDesk {
    /// Answers by the policy that `registry` has in force.
    pub fn new(registry: Arc<Registry>, clock: Arc<dyn Clock>) -> Self {
        Self { registry, clock }
    }

    /// Allowed or refused, and by which line. `NotAnOperator` for whoever is none.
    pub fn explain(&self, caller: &Caller, question: &Question) -> Result<Explanation, Error> {
        let registered = self.registry.load_full();
        registered.policy.operator(caller, Act::ExplainPolicy.role(false), self.clock.now())?;
        let client = match question {
            Question::Sign { client, .. } => registered.clients.get(client),
            Question::Operate { .. } => None,
        };
        Ok(registered.policy.explain(&registered.book, question, client))
    }

    /// What is allowed and hardly meant, as of when the configuration was read.
    pub fn lint(&self, caller: &Caller) -> Result<Vec<Finding>, Error> {
        let registered = self.registry.load_full();
        registered.policy.operator(caller, Act::LintPolicy.role(false), self.clock.now())?;
        Ok(registered.findings.clone())
    }
}

//! The ports, over a pool of connections.

use std::{pin::Pin, time::Duration};

use hallmark_core::{
    key::{KeyId, KeyRecord},
    ports::{
        ApprovalStore, BegunChange, ChangeState, ClientPolicy, ClientState, Decided, Decision, FollowerAck,
        FollowerStore, HsmReport, KeyChange, KeyStore, Lead, MaxAge, Pending, PinVerdict, Proposal, Proposed,
        PublishedPath, Pulse, RecordUpdate, RegistrationResult, ReplicaStore, Replicas, Snapshot, SweepStore,
    },
};

use super::{
    Store, approvals, changes, followers, lead, limited, logins, paths, records, registrations, replicas, reports,
    sweep,
};
use crate::store::{Attempt, LoginAttempts};

/// One call: takes a connection from the pool, and gives it back.
macro_rules! call {
    ($store:expr, $connection:ident => $work:expr) => {
        limited(async move {
            let mut call = $store.connection().await?;
            let $connection = &mut *call;
            let answer = $work.await;
            call.end();
            answer
        })
    };
}

impl KeyStore for Store {
    fn records(&self) -> Pending<'_, Snapshot> {
        call!(self, connection => records::read_all(connection))
    }

    fn apply<'a>(&'a self, insert: &'a [KeyRecord], update: &'a [RecordUpdate]) -> Pending<'a, ()> {
        call!(self, connection => records::apply(connection, insert, update))
    }

    fn begin_change<'a>(&'a self, change: &'a KeyChange) -> Pending<'a, BegunChange> {
        call!(self, connection => changes::begin(connection, change, &self.runner))
    }

    fn end_change<'a>(&'a self, id: &'a str, state: ChangeState, keys: &'a [KeyId]) -> Pending<'a, ()> {
        call!(self, connection => changes::end(connection, id, state, keys))
    }

    fn record_registration<'a>(&'a self, result: &'a RegistrationResult, before: Option<&'a str>) -> Pending<'a, ()> {
        call!(self, connection => registrations::write(connection, result, before))
    }

    fn pulse(&self) -> Pending<'_, Pulse> {
        call!(self, connection => records::pulse(connection))
    }
}

impl ApprovalStore for Store {
    fn propose<'a>(&'a self, change: &'a KeyChange, proposal: &'a Proposal) -> Pending<'a, BegunChange> {
        call!(self, connection => approvals::propose(connection, change, proposal, &self.runner))
    }

    fn proposed<'a>(&'a self, id: &'a str) -> Pending<'a, Option<Proposed>> {
        call!(self, connection => approvals::one(connection, id))
    }

    fn all_proposed(&self, most: u32) -> Pending<'_, Vec<Proposed>> {
        call!(self, connection => approvals::all(connection, most))
    }

    fn undecided(&self) -> Pending<'_, Vec<Proposed>> {
        call!(self, connection => approvals::undecided(connection))
    }

    fn expire<'a>(&'a self, id: &'a str) -> Pending<'a, bool> {
        call!(self, connection => approvals::expire(connection, id))
    }

    fn decide<'a>(&'a self, id: &'a str, decision: &'a Decision) -> Pending<'a, Decided> {
        call!(self, connection => approvals::decide(connection, id, decision, &self.runner))
    }
}

impl SweepStore for Store {
    fn try_lead(&self) -> Pending<'_, Option<Box<dyn Lead>>> {
        limited(lead::try_lead(self))
    }

    fn client_states(&self, above: Duration) -> Pending<'_, Vec<ClientState>> {
        call!(self, connection => sweep::client_states(connection, above))
    }

    fn raise_max_age<'a>(&'a self, served: &'a [MaxAge]) -> Pending<'a, ()> {
        call!(self, connection => sweep::raise_max_age(connection, served))
    }

    fn publish_at<'a>(&'a self, paths: &'a [PublishedPath]) -> Pending<'a, ()> {
        call!(self, connection => paths::write(connection, paths))
    }
}

impl ReplicaStore for Store {
    fn announce<'a>(&'a self, instance: &'a str, policies: &'a [ClientPolicy]) -> Pending<'a, ()> {
        call!(self, connection => replicas::announce(connection, instance, policies))
    }

    fn heartbeat<'a>(&'a self, instance: &'a str, serving: u64) -> Pending<'a, bool> {
        call!(self, connection => replicas::heartbeat(connection, instance, serving))
    }

    fn replicas(&self, within: Duration) -> Pending<'_, Replicas> {
        call!(self, connection => replicas::replicas(connection, within))
    }

    fn report<'a>(&'a self, instance: &'a str, hsms: &'a [HsmReport]) -> Pending<'a, ()> {
        call!(self, connection => reports::write(connection, instance, hsms))
    }

    fn reports<'a>(&'a self, besides: &'a str, within: Duration) -> Pending<'a, Vec<(String, HsmReport)>> {
        call!(self, connection => reports::read(connection, besides, within))
    }
}

impl FollowerStore for Store {
    fn acknowledged<'a>(&'a self, instance: &'a str, said: &'a [FollowerAck]) -> Pending<'a, ()> {
        call!(self, connection => followers::write(connection, instance, said))
    }

    fn followers(&self) -> Pending<'_, Vec<FollowerAck>> {
        call!(self, connection => followers::read(connection))
    }
}

impl LoginAttempts for Store {
    fn mark<'a>(&'a self, token: &'a str, source: &'a str, attempt: Attempt) -> Pending<'a, bool> {
        call!(self, connection => logins::mark(connection, token, source, attempt))
    }

    fn settle<'a>(&'a self, token: &'a str, source: &'a str, attempt: Attempt, verdict: PinVerdict) -> Pending<'a, ()> {
        call!(self, connection => logins::settle(connection, token, source, attempt, verdict))
    }
}

impl crate::store::Store for Store {
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.pool.close())
    }
}

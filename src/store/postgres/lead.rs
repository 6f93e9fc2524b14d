//! The sweep lock: an advisory lock on a connection of its own, so that it falls with the connection.

use std::time::Duration;

use hallmark_core::ports::{Lead, MaxAge, Observation, Pending, StoreError};
use sqlx::{ConnectOptions as _, PgConnection};

use super::{PostgresStore, check, limited, sweep, unavailable};

pub(super) async fn try_lead(store: &PostgresStore) -> Result<Option<Box<dyn Lead>>, StoreError> {
    let options = store.pool.connect_options();
    // The database must find out within a lease that a leader is cut off from it, or nobody would sweep for hours.
    let options = (*options).clone().options(KEEPALIVES.map(|(name, value)| (name, value)));
    let connected = tokio::time::timeout(CONNECT_LIMIT, options.connect()).await;
    let connected = connected.map_err(|_| StoreError::Unavailable(format!("no connection in {CONNECT_LIMIT:?}")))?;
    let mut connection = connected.map_err(|e| unavailable(&e))?;
    check(&mut connection).await.map_err(|e| unavailable(&e))?;
    let locked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut connection).await;
    match locked.map_err(|e| unavailable(&e))? {
        true => Ok(Some(Box::new(PostgresLead(Some(connection))))),
        false => Ok(None),
    }
}

/// The name of the lock in the database: "hallmark" in ASCII.
const LOCK: i64 = 0x68616c6c_6d61726b;
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// In seconds; the last in milliseconds. A Unix socket knows none of them, and needs none.
const KEEPALIVES: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
];

/// `None` once a call has failed: whether the lock is still held, nobody knows.
struct PostgresLead(Option<PgConnection>);

/// One call on the lock's connection, which is kept only where the call came to a good end.
macro_rules! call {
    ($lead:expr, $connection:ident => $work:expr) => {
        limited(async move {
            let lost = || StoreError::Unavailable("the connection that held the sweep lock is gone".into());
            let mut connection = $lead.0.take().ok_or_else(lost)?;
            let $connection = &mut connection;
            let answer = $work.await?;
            $lead.0 = Some(connection);
            Ok(answer)
        })
    };
}

impl Lead for PostgresLead {
    fn still_held(&mut self) -> Pending<'_, bool> {
        call!(self, connection => still_held(connection))
    }

    fn observe<'a>(&'a mut self, observed: &'a [Observation]) -> Pending<'a, ()> {
        call!(self, connection => sweep::observe(connection, observed))
    }

    fn lower_max_age<'a>(&'a mut self, served: &'a [MaxAge]) -> Pending<'a, ()> {
        call!(self, connection => sweep::lower_max_age(connection, served))
    }
}

async fn still_held(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let held =
        "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()
        AND classid = ($1 >> 32)::oid AND objid = ($1 & 4294967295)::oid AND objsubid = 1)";
    sqlx::query_scalar(held).bind(LOCK).fetch_one(connection).await.map_err(|e| unavailable(&e))
}

//! The sweep lock, where one process has the file: a flag.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use hallmark_core::ports::{Lead, MaxAge, Observation, Pending, StoreError};
use sqlx::SqlitePool;

use super::{SqliteStore, sweep, unavailable};

pub(super) async fn try_lead(store: &SqliteStore) -> Result<Option<Box<dyn Lead>>, StoreError> {
    if store.led.swap(true, Ordering::AcqRel) {
        return Ok(None);
    }
    Ok(Some(Box::new(SqliteLead { pool: store.pool.clone(), led: store.led.clone() })))
}

struct SqliteLead {
    pool: SqlitePool,
    led: Arc<AtomicBool>,
}

impl Lead for SqliteLead {
    fn still_held(&mut self) -> Pending<'_, bool> {
        Box::pin(async { Ok(!self.pool.is_closed()) })
    }

    fn observe<'a>(&'a mut self, observed: &'a [Observation]) -> Pending<'a, ()> {
        Box::pin(async {
            let mut connection = self.pool.acquire().await.map_err(|e| unavailable(&e))?;
            sweep::observe(&mut connection, observed).await
        })
    }

    fn lower_max_age<'a>(&'a mut self, served: &'a [MaxAge]) -> Pending<'a, ()> {
        Box::pin(async {
            let mut connection = self.pool.acquire().await.map_err(|e| unavailable(&e))?;
            sweep::lower_max_age(&mut connection, served).await
        })
    }
}

impl Drop for SqliteLead {
    fn drop(&mut self) {
        self.led.store(false, Ordering::Release);
    }
}

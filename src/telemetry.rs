//! stub
#[derive(Debug)]
pub struct Metrics;
impl Metrics { pub fn refused(&self, _r: hallmark_core::error::Reason) {}
pub fn signed(&self, _c: &str, _a: hallmark_core::key::Alg, _r: Result<crate::pool::Timing, hallmark_core::error::Reason>) {} }

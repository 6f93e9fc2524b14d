//! stub
#[derive(Debug)]
pub struct Publisher;
impl Publisher { pub fn rebuild(&self, _c: &[hallmark_core::client::Client], _r: &[hallmark_core::key::KeyRecord]) {} }

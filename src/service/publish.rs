//! stub
use hallmark_core::{client::Client, key::KeyRecord};
#[derive(Debug)]
pub struct Publisher;
#[derive(Debug)]
pub struct Published { pub body: Vec<u8>, pub etag: String }
impl Publisher {
    pub fn rebuild(&self, _c: &[Client], _r: &[KeyRecord]) {}
    pub fn document(&self, _c: &Client) -> Option<std::sync::Arc<Published>> { None }
    pub fn url(&self, _c: &Client) -> String { String::new() }
}

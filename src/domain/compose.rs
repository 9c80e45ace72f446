//! Stand-in.

use super::job::Container;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub fn images(_: &Value) -> BTreeMap<String, String> {
    BTreeMap::new()
}
pub fn built(_: &Value) -> BTreeSet<String> {
    BTreeSet::new()
}
pub fn missing(_: &BTreeMap<String, String>, _: &[String]) -> Vec<String> {
    Vec::new()
}
#[derive(Debug)]
pub struct Source {
    pub service: String,
    pub source: String,
    pub target: String,
}
pub fn sources(_: &Value) -> Result<Vec<Source>, String> {
    Ok(Vec::new())
}
pub fn aggregate(_: &[Container]) -> Option<Container> {
    None
}

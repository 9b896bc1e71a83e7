//! What grows with the configuration: many hosts, many policies, many changes.

mod site;
pub(crate) mod stages;

//! What grows with the configuration: many hosts, many policies, many changes.

pub(crate) mod hosts;
mod site;
pub(crate) mod stages;

//! Istio resources to what a proxy is told, as golden files in Envoy's own JSON; `UPDATE_GOLDEN=1` rewrites them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "compile/golden.rs"]
mod golden;
#[path = "compile/policies.rs"]
mod policies;
#[path = "compile/services.rs"]
mod services;
#[path = "compile/tutorial.rs"]
mod tutorial;
#[path = "compile/world.rs"]
mod world;

//! The control plane: Istio's resources in, a configuration for every proxy out.

pub mod analyze;
pub mod applied;
pub mod compile;
pub mod diag;
pub mod istio;
pub mod mesh_config;
pub mod node;
pub mod watch;
pub mod world;

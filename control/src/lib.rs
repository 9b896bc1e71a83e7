//! The control plane: Istio's resources in, a configuration for every proxy out. [`Control::start`] runs all of it.
//!
//! Invariants: what cannot be understood is a diagnostic and changes nothing; equal resources give equal configurations; a
//! proxy gets only what its identity may have.

pub mod analyze;
pub mod applied;
pub mod compile;
mod control;
pub mod diag;
pub mod istio;
pub mod mesh_config;
pub mod node;
pub mod serve;
pub mod watch;
pub mod world;

pub use control::{Control, Handle, Settings};

//! The data plane as a library.

pub mod error;
pub mod flags;
pub mod network;

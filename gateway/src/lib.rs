//! The data plane as a library.

pub mod network;

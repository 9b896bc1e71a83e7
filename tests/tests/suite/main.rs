//! The tests that need more than one crate.

mod fences;

//! `sallyport demo`: the whole tutorial in one process, each of its claims checked.

pub mod claim;
mod script;
mod show;

pub use script::script;

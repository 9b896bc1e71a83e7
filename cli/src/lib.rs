//! What the `sallyport` program is made of: its subcommands, and the [`lab`] that `sallyport demo` and the integration tests run.

pub mod commands;
pub mod demo;
mod following;
pub mod lab;
pub mod shutdown;
pub mod terminal;

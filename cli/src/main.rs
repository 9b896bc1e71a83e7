//! The `sallyport` program.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Much of the work is many small, short-lived allocations on several threads.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    sallyport::commands::main()
}

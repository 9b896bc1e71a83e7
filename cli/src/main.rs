//! The `sallyport` program.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Much of the work is many small, short-lived allocations on several threads. Without transparent huge pages (`no_thp`), which made a
/// third of what idle connections hold, and two thirds of an idle process, memory that nobody had ever touched.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    sallyport::commands::main()
}

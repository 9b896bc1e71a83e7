//! The `sallyport` program, where tests can find it.

use std::process::ExitCode;

fn main() -> ExitCode {
    sallyport::commands::main()
}

//! The agent as a program; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    fort_agent::cli::main()
}

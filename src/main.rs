//! The `nscompose` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    nscompose::cli::main()
}

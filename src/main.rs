//! The `auditlog` program. All of it is in the library; see [`auditlog::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    auditlog::cli::main()
}

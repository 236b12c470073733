//! The `auditlog` program. All of it is in the library; see [`auditlog::cli`].

use std::process::ExitCode;

/// An event passes through some fifty small allocations, most of which are freed by another thread than the one that made
/// them. The system's allocator spends about a fifth of the service's time on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    auditlog::cli::main()
}

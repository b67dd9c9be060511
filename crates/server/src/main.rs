//! The `portcullis` program.

use std::process::ExitCode;

/// A token takes some hundred small allocations, many of them freed by another thread than made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::cli::main()
}

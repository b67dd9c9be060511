//! The `portcullis` program.

use std::process::ExitCode;

/// A token takes some sixty allocations, several of them larger than what the allocators of systems keep
/// at hand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::cli::main()
}

//! The server with the seeded defects compiled in; `PORTCULLIS_TEST_BUG` chooses one (ADR 0026).

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis::cli::main()
}

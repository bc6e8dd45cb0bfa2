//! The program: everything is in the library, so that tests run what users run.

use std::process::ExitCode;

fn main() -> ExitCode {
    tallygate::cli::run(std::env::args_os(), tallygate::cli::Output::standard()).into()
}

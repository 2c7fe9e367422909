//! Khaos keeps stream-processing jobs inside their objectives by choosing how often they checkpoint.

use std::process::ExitCode;

use clap::Parser;
use khaos::cli::Cli;
use khaos::input::BadInput;

#[allow(clippy::print_stderr, reason = "the one place where an error is printed")]
fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
    Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("khaos: {error:#}");
        ExitCode::from(if error.is::<BadInput>() { 2 } else { 1 })
    })
}

//! Progress on standard error, for people: no bar is drawn where nobody watches.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar of `length` steps.
pub fn progress(length: u64, message: &str) -> ProgressBar {
    bar(length, message, ProgressDrawTarget::stderr())
}

/// A bar that is never shown.
pub fn hidden() -> ProgressBar {
    bar(0, "", ProgressDrawTarget::hidden())
}

fn bar(length: u64, message: &str, target: ProgressDrawTarget) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>9} {bar:30} {pos}/{len} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(length), target)
        .with_style(style)
        .with_message(message.to_owned())
}

/// Steps of unknown length: the current one beside a spinner, or a line each where it is no terminal.
#[derive(Debug, Clone)]
pub struct Steps(Option<ProgressBar>);

impl Steps {
    /// Nothing is shown before the first step.
    pub fn new() -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        }))
    }

    /// The step that begins now.
    pub fn step(&self, message: &str) {
        match &self.0 {
            Some(spinner) => spinner.set_message(message.to_owned()),
            // Whoever closed standard error does not want to know.
            None => drop(writeln!(std::io::stderr(), "{message}")),
        }
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(spinner) = &self.0 {
            spinner.finish_and_clear();
        }
    }
}

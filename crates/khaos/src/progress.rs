//! Progress on standard error, for people: nothing is shown where nobody watches.

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

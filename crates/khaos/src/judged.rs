//! Trials beside what the models make of them, in a table for people.

use comfy_table::Table;
use khaos_core::optimize::{Arriving, RecoveryParameters};
use khaos_core::profile::{Recovery, Trial};
use khaos_core::stats::mean;
use khaos_core::units::{EventRate, Seconds};
use serde::Serialize;

use crate::table::table;

/// A trial beside what the models make of it, its dead time and its age taken as measured.
#[derive(Debug, Serialize)]
pub(crate) struct Judged {
    #[serde(flatten)]
    pub(crate) trial: Trial,
    /// s; `null` where a part was not measured.
    pub(crate) predicted: Option<f64>,
    /// Predicted over measured, less one.
    pub(crate) error: Option<f64>,
}

impl Judged {
    pub(crate) fn by(parameters: &RecoveryParameters, trial: &Trial) -> Self {
        let arriving = Arriving::at(trial);
        let predicted = trial.dead_time.zip(trial.age).and_then(|(dead, age)| {
            parameters.after(dead.get(), age.get(), trial.interval.seconds(), arriving)
        });
        let error = predicted.zip(measured(trial)).map(|(said, seen)| said / seen - 1.0);
        Self { trial: trial.clone(), predicted, error }
    }
}

/// The recovery, s, where it was seen to its end.
pub(crate) fn measured(trial: &Trial) -> Option<f64> {
    match trial.recovery {
        Recovery::Measured(seconds) => Some(seconds.get()),
        Recovery::Censored(_) | Recovery::Spoilt(_) => None,
    }
}

/// Mean of the absolute values of what is known of `errors`; `None` where nothing is.
pub(crate) fn mean_of(errors: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    mean(&errors.flatten().map(f64::abs).collect::<Vec<_>>())
}

/// One row each, in the order given.
pub(crate) fn trials(judged: &[Judged]) -> Table {
    let mut trials = table(&[
        "interval",
        "load",
        "noticed, s",
        "down, s",
        "age, s",
        "catch-up",
        "recovery, s",
        "predicted, s",
        "error",
    ]);
    for Judged { trial, predicted, error } in judged {
        trials.add_row([
            trial.interval.to_string(),
            format!("{:.0}", trial.load.get()),
            seconds(trial.detection),
            seconds(trial.dead_time),
            seconds(trial.age),
            whole(trial.catch_up.map(EventRate::get)),
            recovery(trial),
            whole(*predicted),
            signed_percent(*error),
        ]);
    }
    trials
}

/// A whole number; a dash where it is not known.
pub(crate) fn whole(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.0}"))
}

/// Whole seconds; a dash where they are not known.
pub(crate) fn seconds(value: Option<Seconds>) -> String {
    whole(value.map(Seconds::get))
}

/// By how much something differs; a dash where that is not known.
pub(crate) fn signed_percent(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{:+.0} %", 100.0 * value))
}

/// The recovery in whole seconds, or why there is none.
pub(crate) fn recovery(trial: &Trial) -> String {
    match &trial.recovery {
        Recovery::Measured(s) => format!("{:.0}", s.get()),
        Recovery::Censored(s) => format!("> {:.0}", s.get()),
        Recovery::Spoilt(why) => why.clone(),
    }
}

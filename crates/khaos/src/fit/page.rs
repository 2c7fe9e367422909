//! The page of a fit: pictures of the models and their residuals, the figures, and every prediction
//! as CSV beside it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use khaos_core::optimize::{LatencyPredictor, RecoveryModel};
use khaos_core::profile::Trial;
use khaos_core::units::EventRate;
use maud::{Markup, PreEscaped, html};

use super::chart::Picture;
use super::validation::Subject;
use super::{BaselineFigures, Evaluation, Figures, Fitted};
use crate::output::keep;
use crate::report::sheet::sheet;
use crate::table::percent;

/// Writes `fit.html` and `predictions.csv` into `dir`; the page's path.
pub(super) fn write(
    dir: &Path,
    profile: &Path,
    trials: &[Trial],
    fitted: &Fitted,
) -> anyhow::Result<PathBuf> {
    keep(dir, "predictions.csv", &predictions(trials, &fitted.evaluation))?;
    let name = profile.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    keep(dir, "fit.html", &page(&name, trials, fitted)?)
}

fn page(name: &str, trials: &[Trial], fitted: &Fitted) -> anyhow::Result<String> {
    let Fitted { evaluation, recovery, latency } = fitted;
    let outliers: Vec<usize> = evaluation.outliers.iter().map(|o| o.row).collect();
    let picture = |subject, figures: &Figures, curve: &dyn Fn(f64, f64) -> Option<f64>| {
        Picture { subject, trials, outliers: &outliers, held: &figures.held, curve }.draw()
    };
    let of_recovery = picture(Subject::Recovery, &evaluation.recovery, &curve_of(recovery))?;
    let of_latency = match (latency, &evaluation.latency) {
        (Some(predictor), Some(figures)) => {
            Some(picture(Subject::Latency, figures, &curve_of_latency(predictor))?)
        }
        _ => None,
    };
    let body = html! {
        p {
            "The models of Khaos, fitted to " (evaluation.rows) " recorded trials, and how far off they are on
            trials that they have not seen. Left: the model through the trials, an interval a colour. Right: each
            trial as all others predict it; on the grey line prediction and truth are the same, bars are 90 %
            intervals, and what lies outside its own is red."
        }
        @for outlier in &evaluation.outliers {
            p { b { "Row " (outlier.row) " is left out" } ": " (outlier.reason) "." }
        }
        h2 { "Recovery" }
        (PreEscaped(of_recovery))
        (formula(&evaluation.recovery))
        @if let (Some(svg), Some(figures)) = (of_latency, &evaluation.latency) {
            h2 { "Latency" }
            (PreEscaped(svg))
            (formula(figures))
        }
        h2 { "Errors on what was left out" }
        p { "Mean absolute error as a share of what was seen; beside it the paper's linear regressions, judged the same way." }
        div.scroll { (errors(evaluation)) }
        @if let Some(few) = &evaluation.design {
            p {
                (few.experiments) " trials alone, chosen as a campaign chooses them (rows "
                (few.rows.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                "), would have been " (percent(few.held_out_mape)) " off on the recovery of all others."
            }
        }
    };
    Ok(sheet(&format!("The fit to {name}"), &body))
}

fn curve_of(model: &RecoveryModel) -> impl Fn(f64, f64) -> Option<f64> {
    |interval_s, load| model.parameters.worst_case(interval_s, 0.0, load)
}

fn curve_of_latency(predictor: &LatencyPredictor) -> impl Fn(f64, f64) -> Option<f64> {
    |interval_s, load| Some(predictor.expected(interval_s, EventRate::new(load).ok()?))
}

fn formula(figures: &Figures) -> Markup {
    let parameters = figures.parameters.as_object();
    html! {
        p { code { (figures.model) } }
        p {
            @for (name, value) in parameters.into_iter().flatten() {
                code { (name) } " = " (value.as_f64().map_or("–".into(), |v| format!("{v:.4}"))) "; "
            }
        }
    }
}

fn errors(evaluation: &Evaluation) -> Markup {
    let Evaluation { recovery, latency, baseline_ols, .. } = evaluation;
    let row = |name: &str, f: &Figures| {
        html! {
            tr.khaos {
                td { (name) } td { (percent(f.loo_mape)) } td { (percent(f.leave_one_interval_out_mape)) }
                td { (percent(f.leave_one_load_out_mape)) } td { (percent(f.coverage90)) }
                td { (percent(f.coverage90_unseen_interval)) } td { (percent(f.coverage_upper)) }
            }
        }
    };
    let plane = |name: &str, f: &BaselineFigures| {
        html! {
            tr {
                td { (name) } td { (percent(f.loo_mape)) } td { (percent(f.leave_one_interval_out_mape)) }
                td { (percent(f.leave_one_load_out_mape)) } td { "–" } td { "–" } td { "–" }
            }
        }
    };
    html! {
        table {
            thead { tr {
                th { "left out:" } th { "a row" } th { "an interval" } th { "a load" } th { "in 90 %: a row" }
                th { "an interval" } th { "below 90 %" }
            } }
            tbody {
                (row("recovery", recovery)) (plane("recovery, linear regression", &baseline_ols.recovery))
                @if let Some(latency) = latency {
                    (row("latency", latency)) (plane("latency, linear regression", &baseline_ols.latency))
                }
            }
        }
    }
}

/// Every prediction of a trial by all others.
fn predictions(trials: &[Trial], evaluation: &Evaluation) -> String {
    let mut text = String::from(
        "row,of,checkpoint_interval_s,throughput_eps,seen,predicted,lower90,upper90\n",
    );
    let subjects =
        [("recovery_s", Some(&evaluation.recovery)), ("latency_ms", evaluation.latency.as_ref())];
    for (of, figures) in subjects {
        for held in figures.into_iter().flat_map(|f| &f.held) {
            let trial = &trials[held.place];
            let (interval, load) = (trial.interval.secs(), trial.load.get());
            let (low, high) = held.interval.map_or_else(Default::default, |(low, high)| {
                (format!("{low:.2}"), format!("{high:.2}"))
            });
            let (row, seen, predicted) = (held.place, held.seen, held.predicted);
            // Writing to a string cannot fail.
            let _ =
                writeln!(text, "{row},{of},{interval},{load},{seen},{predicted:.2},{low},{high}");
        }
    }
    text
}

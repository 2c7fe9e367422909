//! `khaos fit`: how well do the models know a job, by recorded trials that they have not seen?
//!
//! profile → trials → outliers, named and left out → `validation`: predictions by fits without →
//! `Evaluation` → JSON, a table, or a page (`page`). The paper's linear regressions are judged
//! beside them in the same way, `experiments` asks what a few trials alone would have known.

mod chart;
mod experiments;
mod page;
mod validation;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use khaos_core::optimize::{LatencyModel, LatencyPredictor, Outlier, RecoveryModel, outliers};
use khaos_core::profile::Trial;
use serde::Serialize;
use serde_json::{Value, json};

use self::validation::{
    Held, Method, Subject, by_interval, by_load, coverage, coverage_upper, held_out, mape,
    one_by_one, predictions,
};
use crate::input::{self, BadInput};
use crate::output::{folder, say};
use crate::progress::progress;
use crate::table::{percent, table};

/// Outliers are at most this share of the trials, and at least one may be.
const OUTLIERS: f64 = 0.03;
/// Trials below which nothing can be left out.
const FEWEST: usize = 4;

/// What `khaos fit` was asked.
#[derive(Debug, Args)]
pub struct FitArgs {
    /// Recorded trials: CSV with checkpoint_interval_s, throughput_eps, latency_p99_ms and recovery_s.
    /// A latency that was not measured is left empty, a recovery that was not over is written >SECONDS.
    #[arg(long)]
    profile: PathBuf,
    /// Also: what would so many trials alone have known, chosen as a campaign chooses them?
    #[arg(long)]
    experiments: Option<usize>,
    /// Folder for fit.html, the page of residuals, and predictions.csv.
    #[arg(long)]
    out: Option<PathBuf>,
    /// One JSON document on standard output instead of a table.
    #[arg(long)]
    json: bool,
}

/// How well a job is known.
#[derive(Debug, Serialize)]
struct Evaluation {
    /// Rows of the profile.
    rows: usize,
    /// Rows that do not fit the others, and why.
    outliers: Vec<OutlierRow>,
    /// The recovery model.
    recovery: Figures,
    /// The latency model; `null` where no row has a latency.
    latency: Option<Figures>,
    /// The paper's linear regressions on (1, λ, CI).
    baseline_ols: Baseline,
    /// What a few trials alone would have known.
    #[serde(skip_serializing_if = "Option::is_none")]
    design: Option<FewTrials>,
}

/// An outlier.
#[derive(Debug, Serialize)]
struct OutlierRow {
    /// Its row, from 0 without the header.
    row: usize,
    /// What is wrong with it.
    reason: String,
}

/// How a model does on rows that it has not seen. A figure that cannot be told is `null`.
#[derive(Debug, Serialize)]
struct Figures {
    /// Its formula.
    model: &'static str,
    /// Its parameters by all rows but the outliers.
    parameters: Value,
    /// Mean absolute percentage error, as a share, of each row by all others.
    loo_mape: Option<f64>,
    /// The same, of each interval by the other intervals.
    leave_one_interval_out_mape: Option<f64>,
    /// The same, of each of 12 equal-count bins of throughput by the others.
    leave_one_load_out_mape: Option<f64>,
    /// Share of rows within the two-sided 90 % interval by all others.
    coverage90: Option<f64>,
    /// Share of rows below the upper 90 % bound by all others.
    coverage_upper: Option<f64>,
    /// As `coverage90`, of each interval by the other intervals.
    coverage90_unseen_interval: Option<f64>,
    /// The predictions of each row by all others.
    #[serde(skip)]
    held: Vec<Held>,
}

#[derive(Debug, Serialize)]
struct Baseline {
    recovery: BaselineFigures,
    latency: BaselineFigures,
}

/// As [`Figures`].
#[derive(Debug, Serialize)]
struct BaselineFigures {
    loo_mape: Option<f64>,
    leave_one_interval_out_mape: Option<f64>,
    leave_one_load_out_mape: Option<f64>,
    /// With the outliers left in.
    loo_mape_all_rows: Option<f64>,
}

/// What a few trials alone would have known.
#[derive(Debug, Serialize)]
struct FewTrials {
    /// How many.
    experiments: usize,
    /// Which rows, in the order in which they were chosen.
    rows: Vec<usize>,
    /// Error of the recovery of all other rows.
    held_out_mape: Option<f64>,
}

impl FitArgs {
    /// Fits, judges, and prints.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let trials = input::profile(&self.profile)?;
        self.check(&trials)?;
        if let Some(dir) = &self.out {
            folder(dir)?;
        }
        let bar = progress(4, "outliers");
        let fitted = evaluate(&trials, self.experiments, &bar)?;
        bar.finish_and_clear();
        let written = |dir: &PathBuf| page::write(dir, &self.profile, &trials, &fitted);
        let page = self.out.as_ref().map(written).transpose()?;
        if self.json {
            return say(&format!("{:#}", json!(fitted.evaluation)));
        }
        print(&fitted.evaluation)?;
        page.map_or(Ok(()), |page| say(&format!("\nThe residuals as pictures: {}", page.display())))
    }

    fn check(&self, trials: &[Trial]) -> Result<(), BadInput> {
        let profile = self.profile.display();
        let measured = trials.iter().filter(|t| Subject::Recovery.seen(t).is_some()).count();
        if measured < FEWEST {
            return Err(BadInput(format!(
                "{profile}: {measured} rows have a recovery that came to its end, but a fit that is \
                 to be checked needs {FEWEST}: record more trials"
            )));
        }
        match self.experiments {
            // At least one row has to be left to be judged on.
            Some(count) if count < 2 || count + 1 + most_outliers(trials) > measured => {
                let most = measured - 1 - most_outliers(trials);
                Err(BadInput(format!(
                    "--experiments {count}: from {profile} it can be 2 to {most}, so that others are \
                     left to be predicted"
                )))
            }
            _ => Ok(()),
        }
    }
}

fn most_outliers(trials: &[Trial]) -> usize {
    ((OUTLIERS * trials.len() as f64) as usize).max(1)
}

/// The models by all rows but the outliers, and how well they know the job.
struct Fitted {
    evaluation: Evaluation,
    recovery: RecoveryModel,
    latency: Option<LatencyPredictor>,
}

fn evaluate(
    trials: &[Trial],
    experiments: Option<usize>,
    bar: &ProgressBar,
) -> anyhow::Result<Fitted> {
    let all: Vec<&Trial> = trials.iter().collect();
    let found = outliers(&all, most_outliers(trials)).context("looking for outliers")?;
    let outlying = |i: &usize| found.iter().any(|o: &Outlier| o.place == *i);
    let places: Vec<usize> = (0..trials.len()).filter(|i| !outlying(i)).collect();
    let kept: Vec<&Trial> = places.iter().map(|i| &trials[*i]).collect();

    step(bar, "recovery");
    let recovery = RecoveryModel::fit(&kept).context("fitting recovery")?;
    let of_recovery = figures(
        trials,
        &places,
        Subject::Recovery,
        "R = D_0 + (D_r + CI + δ)·λ / (μ·(1 − k/CI) − λ), D_0 = D_r + settling",
        json!(recovery.parameters),
    );
    step(bar, "latency");
    let latency = LatencyModel::fit(&kept).context("fitting latency")?;
    let of_latency = latency.as_ref().map(|model| {
        let parameters = json!({
            "a": model.a, "b": model.b, "c": model.c, "d": model.d,
            "load_max_eps": model.load_max_eps, "load_min_eps": model.load_min_eps,
        });
        let formula = "ln L = a + b·x + c·ln(CI/60) + d·x², x = λ/λ_max";
        figures(trials, &places, Subject::Latency, formula, parameters)
    });
    step(bar, "few trials");
    let design = experiments.map(|count| few_trials(trials, &places, count)).transpose()?;
    let evaluation = Evaluation {
        rows: trials.len(),
        outliers: found
            .into_iter()
            .map(|Outlier { place, reason }| OutlierRow { row: place, reason })
            .collect(),
        recovery: of_recovery,
        latency: of_latency,
        baseline_ols: Baseline {
            recovery: baseline(trials, &places, Subject::Recovery),
            latency: baseline(trials, &places, Subject::Latency),
        },
        design,
    };
    let predictor = latency.as_ref().map(LatencyModel::predictor).transpose();
    Ok(Fitted { evaluation, recovery, latency: predictor.context("fitting latency")? })
}

fn step(bar: &ProgressBar, message: &'static str) {
    bar.inc(1);
    bar.set_message(message);
}

fn figures(
    trials: &[Trial],
    places: &[usize],
    subject: Subject,
    model: &'static str,
    parameters: Value,
) -> Figures {
    let held = |groups: &[Vec<usize>]| held_out(trials, groups, subject, Method::Model);
    let by_row = held(&one_by_one(places)).unwrap_or_default();
    let by_interval = held(&by_interval(trials, places)).unwrap_or_default();
    let by_load = held(&by_load(trials, places)).unwrap_or_default();
    Figures {
        model,
        parameters,
        loo_mape: mape(&by_row),
        leave_one_interval_out_mape: mape(&by_interval),
        leave_one_load_out_mape: mape(&by_load),
        coverage90: coverage(&by_row),
        coverage_upper: coverage_upper(&by_row),
        coverage90_unseen_interval: coverage(&by_interval),
        held: by_row,
    }
}

fn baseline(trials: &[Trial], places: &[usize], subject: Subject) -> BaselineFigures {
    let error = |groups: &[Vec<usize>]| {
        held_out(trials, groups, subject, Method::Regression).and_then(|held| mape(&held))
    };
    let everything: Vec<usize> = (0..trials.len()).collect();
    BaselineFigures {
        loo_mape: error(&one_by_one(places)),
        leave_one_interval_out_mape: error(&by_interval(trials, places)),
        leave_one_load_out_mape: error(&by_load(trials, places)),
        loo_mape_all_rows: error(&one_by_one(&everything)),
    }
}

fn few_trials(trials: &[Trial], places: &[usize], count: usize) -> anyhow::Result<FewTrials> {
    let measured = |i: &usize| Subject::Recovery.seen(&trials[*i]).is_some();
    let places: Vec<usize> = places.iter().copied().filter(measured).collect();
    let rows = experiments::choose(trials, &places, count).context("choosing trials")?;
    let chosen: Vec<&Trial> = rows.iter().map(|i| &trials[*i]).collect();
    let others: Vec<usize> = places.into_iter().filter(|i| !rows.contains(i)).collect();
    let held = predictions(trials, &chosen, &others, Subject::Recovery, Method::Model);
    Ok(FewTrials { experiments: count, rows, held_out_mape: held.and_then(|held| mape(&held)) })
}

fn print(evaluation: &Evaluation) -> anyhow::Result<()> {
    let mut errors = table(&["mean error of what was left out", "row", "interval", "load"]);
    let mut row = |name: &str, figures: [Option<f64>; 3]| {
        errors.add_row([vec![name.to_owned()], figures.map(percent).to_vec()].concat());
    };
    let of = |f: &Figures| [f.loo_mape, f.leave_one_interval_out_mape, f.leave_one_load_out_mape];
    let of_plane = |f: &BaselineFigures| {
        [f.loo_mape, f.leave_one_interval_out_mape, f.leave_one_load_out_mape]
    };
    let Evaluation { recovery, latency, baseline_ols, .. } = evaluation;
    row("recovery, khaos", of(recovery));
    row("recovery, linear regression", of_plane(&baseline_ols.recovery));
    if let Some(latency) = latency {
        row("latency, khaos", of(latency));
        row("latency, linear regression", of_plane(&baseline_ols.latency));
    }
    say(&errors.to_string())?;

    let mut coverage = table(&["held by the 90 % interval", "row", "interval", "upper bound"]);
    for (name, figures) in [("recovery", Some(recovery)), ("latency", latency.as_ref())] {
        let Some(f) = figures else { continue };
        let shares = [f.coverage90, f.coverage90_unseen_interval, f.coverage_upper].map(percent);
        coverage.add_row([vec![name.to_owned()], shares.to_vec()].concat());
    }
    say(&format!("\n{coverage}"))?;
    for OutlierRow { row, reason } in &evaluation.outliers {
        say(&format!("\nRow {row} is left out: {reason}."))?;
    }
    if let Some(few) = &evaluation.design {
        let rows: Vec<String> = few.rows.iter().map(ToString::to_string).collect();
        say(&format!(
            "\n{} trials alone (rows {}) would have been {} off on the others' recovery.",
            few.experiments,
            rows.join(", "),
            percent(few.held_out_mape),
        ))?;
    }
    Ok(())
}

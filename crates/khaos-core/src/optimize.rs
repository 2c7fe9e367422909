//! Optimize: models → forecast → decision with its reasons.
//!
//! [`recovery_model`] holds *the* formula of Khaos and its fit; [`latency_model`] the latency's;
//! [`mod@outliers`] names trials that do not fit the others; [`models`] fits both to a campaign's trials
//! and to real failures; [`drift`] says when failures contradict them; [`load_forecast`] says what load
//! to be ready for; [`objectives`] what the user wants; [`decision`] chooses; [`outcome`] looks back at
//! a change.

pub mod decision;
pub mod drift;
pub mod latency_model;
pub mod load_forecast;
pub mod models;
pub mod objectives;
pub mod outcome;
pub mod outliers;
pub mod recovery_model;

pub use decision::{ChangeCost, Decision, Predictors, Reason, Situation, Verdict, decide};
pub use drift::last_drift;
pub use latency_model::{LatencyModel, LatencyPredictor};
pub use load_forecast::{LoadForecast, forecast_load, forecast_path};
pub use models::{Learnt, Models, NoModels, fit_models, highest_load};
pub use objectives::{Confidence, Goals, Objective, Objectives};
pub use outcome::{Effect, Judgement, Outcome, judge};
pub use outliers::{Outlier, outliers};
pub use recovery_model::{
    Arriving, Measures, Place, RecoveryModel, RecoveryParameters, RecoveryPredictor, Usual,
};

//! Orchestration touches the world only through ports.
//!
//! In reading order: [`ports`] are all that the phases can see of the world and do to it; [`clock`]
//! is their time; [`observe`], [`profile`], [`optimize`] and [`act`] are the effectful halves of the
//! phases of `khaos-core`, each an idempotent reconciler that reads the latest records upstream and
//! appends its own; [`learn`] adds the failures that nobody planned; [`tuner`] runs them minute by
//! minute. They take no hints and never call one another, so a campaign of hours blocks nobody, and
//! whatever is interrupted resumes.
//!
//! `contract` (feature of the same name) holds the tests that every implementation of a port passes.

pub mod act;
pub mod clock;
#[cfg(feature = "contract")]
pub mod contract;
pub mod learn;
pub mod observe;
pub mod optimize;
pub mod ports;
pub mod profile;
pub mod tuner;

/// What the ports speak of: implementations need no other dependency.
pub use khaos_core as core;
use khaos_core::record::Tampered;
use thiserror::Error;

/// Why a reconciler could not go on. It is called again: every error is about now.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A port did not do what was asked.
    #[error(transparent)]
    Port(#[from] ports::PortError),
    /// A stored record is not what it was.
    #[error(transparent)]
    Tampered(#[from] Tampered),
    /// The observed minutes say too little for a design.
    #[error(transparent)]
    NotEnough(#[from] khaos_core::observe::NotEnough),
    /// The trials say too little for a model.
    #[error(transparent)]
    NoModels(#[from] khaos_core::optimize::NoModels),
    /// The budget of clones allows no trial.
    #[error(transparent)]
    Budget(#[from] profile::BudgetTooSmall),
}

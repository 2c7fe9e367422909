//! Numerics know nothing about jobs.
//!
//! Everything here takes numbers and gives numbers: no job, no clock, no I/O. In reading order:
//! - [`mod@quantile`]: order statistics of small samples,
//! - [`forecast`]: damped Holt smoothing,
//! - [`conformal`]: bounds that keep their probability on whatever comes,
//! - [`linear`]: ordinary least squares,
//! - [`noise`]: correlated noise,
//! - [`posterior`]: robust maximum-a-posteriori least squares and draws from its posterior,
//! - [`spread`]: how far single observations scatter around what a model expects,
//! - [`seed`]: one seeded random stream per purpose.

pub mod conformal;
pub mod forecast;
pub mod linear;
pub mod noise;
pub mod posterior;
pub mod quantile;
pub mod seed;
pub mod spread;

pub use conformal::{Score, adaptive_bound};
pub use forecast::{DampedHolt, damping};
pub use linear::{LinearRegression, OlsError, ols};
pub use noise::Ar1;
pub use posterior::{FitError, Posterior, Residuals, cauchy_weights, fit};
pub use quantile::{mean, median, quantile};
pub use seed::Seed;
pub use spread::{ENOUGH, Spread};

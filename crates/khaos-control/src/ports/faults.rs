//! Breaking clones.

use async_trait::async_trait;

use crate::ports::{CloneId, PortError};

/// A way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies.
    Crash,
    /// The process stops answering.
    Hang,
}

/// Breaks clones, and only clones: a [`CloneId`] is proof that it is one.
#[async_trait]
pub trait FaultInjector: Send + Sync {
    /// Looks up what it takes, so that the next [`Self::inject`] loses no time. May be left out.
    async fn aim(&self, clone: &CloneId) -> Result<(), PortError>;

    /// Injects `fault` now.
    async fn inject(&self, clone: &CloneId, fault: Fault) -> Result<(), PortError>;
}

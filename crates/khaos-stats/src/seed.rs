//! One seeded random stream per purpose.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// A seed from which every random stream is drawn by name: adding a stream never shifts another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The random stream for `purpose`: the same seed and purpose give the same numbers, on every
    /// platform.
    pub fn stream(self, purpose: &str) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.digest(purpose))
    }

    /// A seed for a part that has streams of its own, such as one clone.
    #[must_use]
    pub fn child(self, label: &str) -> Self {
        let digest = self.digest(label);
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self(u64::from_le_bytes(first))
    }

    fn digest(self, purpose: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.0.to_le_bytes()).chain_update(purpose).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn three(seed: Seed, purpose: &str) -> [u64; 3] {
        let mut stream = seed.stream(purpose);
        std::array::from_fn(|_| stream.random())
    }

    #[test]
    fn a_stream_depends_on_seed_and_purpose_alone() {
        assert_eq!(three(Seed(7), "latency"), three(Seed(7), "latency"));
        assert_ne!(three(Seed(7), "latency"), three(Seed(7), "dead-time"));
        assert_ne!(three(Seed(7), "latency"), three(Seed(8), "latency"));
        assert_ne!(three(Seed(7).child("a"), "x"), three(Seed(7).child("b"), "x"));
    }
}

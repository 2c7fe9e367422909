//! What a clone has of its own on Kafka is called by its labels, as the clone itself is: whoever finds a topic,
//! a group or a transactional id knows which campaign it belongs to and until when, and a sweep finds what a
//! khaos that died has left.

use khaos_control::core::job::JobKey;
use khaos_control::core::record::RecordId;
use khaos_control::core::units::Timestamp;
use khaos_control::ports::CloneSpec;
use sha2::{Digest, Sha256};

/// Begins every name.
const MARK: &str = "khaos-clone";

/// The names of what clones of one job have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Labels {
    /// With its last dash.
    prefix: String,
}

/// Which clone something belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Whose {
    campaign: String,
    index: u32,
    until: Timestamp,
}

impl Whose {
    pub(super) fn of(spec: &CloneSpec) -> Self {
        let CloneSpec { campaign, index, deadline, .. } = spec;
        Self { campaign: campaign.to_string(), index: *index, until: *deadline }
    }
}

impl Labels {
    /// For clones of `job` on the cluster at `address`. Jobs of one name on two clusters may read one Kafka, so
    /// the address tells them apart.
    pub(super) fn of(job: &JobKey, address: &str) -> Self {
        let digest = Sha256::new().chain_update(address).chain_update([0]).chain_update(&job.0);
        let digits: String =
            digest.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { prefix: format!("{MARK}-{digits}-") }
    }

    /// What all names of one clone begin with.
    pub(super) fn all_of(&self, whose: &Whose) -> String {
        let Whose { campaign, index, until } = whose;
        format!("{}{campaign}-{index}-{}-", self.prefix, until.0)
    }

    /// What the clone has instead of `original`.
    pub(super) fn name(&self, whose: &Whose, original: &str) -> String {
        self.all_of(whose) + original
    }

    /// Whose it is that is called `name`; `None` where that is no name of ours.
    pub(super) fn whose(&self, name: &str) -> Option<Whose> {
        let (campaign, rest) = name.strip_prefix(&self.prefix)?.split_once('-')?;
        let (index, rest) = rest.split_once('-')?;
        let (until, _original) = rest.split_once('-')?;
        Some(Whose {
            campaign: RecordId::of_digits(campaign)?.to_string(),
            index: index.parse().ok()?,
            until: Timestamp(until.parse().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> JobKey {
        JobKey(name.to_owned())
    }

    #[test]
    fn a_name_holds_all_labels_and_what_it_stands_for() {
        let campaign = "0123456789abcdef0123456789abcdef".to_owned();
        let whose = Whose { campaign, index: 3, until: Timestamp(1_764_000_000_000) };
        let labels = Labels::of(&job("orders / EU"), "http://f");
        let name = labels.name(&whose, "a-b.c_d");
        assert!(name.starts_with(&labels.prefix) && name.ends_with("-a-b.c_d"), "{name}");
        assert_eq!(labels.whose(&name), Some(whose.clone()));
        // Kafka takes 249 of these characters, and configurations allow 150 for the last part.
        assert!(name.len() - "a-b.c_d".len() <= 99, "{}", name.len());
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{name}");
        for others in
            [Labels::of(&job("orders"), "http://f"), Labels::of(&job("orders / EU"), "http://g")]
        {
            assert_eq!(others.whose(&name), None, "another job's");
        }
    }

    #[test]
    fn what_is_called_otherwise_is_nobodys() {
        let labels = Labels::of(&job("orders"), "http://f");
        let prefix = labels.prefix.clone();
        let digits = "0123456789abcdef0123456789abcdef";
        for name in [
            "orders".to_owned(),
            prefix.clone(),
            format!("{prefix}{digits}"),
            format!("{prefix}{digits}-3"),
            format!("{prefix}{digits}-x-5-orders"),
            format!("{prefix}0123-3-5-orders"),
        ] {
            assert_eq!(labels.whose(&name), None, "{name}");
        }
    }
}

//! What a configuration names, as the ports of what is really there.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use khaos_adapters::flink::Flink;
use khaos_adapters::kafka::load::KafkaLoad;
use khaos_adapters::prometheus::Prometheus;
use khaos_adapters::sqlite::SqliteStore;
use khaos_control::clock::Clock;
use khaos_control::ports::Metrics;

use crate::config::Config;
use crate::input::BadInput;

/// Everything that can be asked.
pub(crate) struct Wired {
    pub(crate) flink: Arc<Flink>,
    /// What jobs and clones say of themselves, by Flink or by Prometheus.
    pub(crate) told: Arc<dyn Metrics>,
    /// The same, but what arrives at the job and what waits, which Kafka tells where there is one.
    pub(crate) metrics: Arc<dyn Metrics>,
    pub(crate) store: Arc<SqliteStore>,
}

impl Wired {
    /// What `config` names, which is in the file at `path`. Opens the store; nothing else is asked yet.
    pub(crate) fn to(config: &Config, path: &Path, clock: Clock) -> anyhow::Result<Self> {
        let wrong = |table: &str, error: &dyn std::fmt::Display| {
            BadInput(format!("{}: url in [{table}]: {error}", path.display()))
        };
        let flink = Flink::at(&config.flink, clock).map_err(|error| wrong("flink", &error))?;
        let flink = Arc::new(flink);
        let told: Arc<dyn Metrics> = match &config.prometheus {
            Some(url) => {
                let prometheus = Prometheus::at(url, clock);
                Arc::new(prometheus.map_err(|error| wrong("prometheus", &error))?)
            }
            None => flink.clone(),
        };
        let metrics: Arc<dyn Metrics> = match &config.job.kafka {
            Some(kafka) => {
                let settings = kafka.settings().context("[job.kafka]")?;
                let (told, flink) = (Arc::clone(&told), Flink::clone(&flink));
                let load = KafkaLoad::new(told, flink, &settings, kafka.reads.clone(), clock);
                Arc::new(load.context("[job.kafka]")?)
            }
            None => Arc::clone(&told),
        };
        let store = Arc::new(SqliteStore::open(&config.store)?);
        Ok(Self { flink, told, metrics, store })
    }
}

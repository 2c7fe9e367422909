//! What Flink is told: its ports and its configuration, the same text for both versions.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::time::Duration;

use super::{LabConfig, LabError, Role};
use crate::flink::doctor::seconds;

/// The lab's ports, all counted from one base.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) base: u16,
}

impl Ports {
    pub(super) fn rest(self) -> u16 {
        self.base + 81
    }

    /// The ports on loopback.
    pub(super) fn loopback(self, role: Role) -> Vec<u16> {
        match role {
            Role::JobManager => vec![self.rpc(), self.blob(), self.metrics(role), self.rest()],
            Role::TaskManager(n) => {
                let n = u16::from(n);
                vec![self.base + 30 + n, self.base + 40 + n, self.metrics(role)]
            }
            Role::Broker => vec![self.broker(), self.controller()],
        }
    }

    /// The one port on all interfaces: Flink's reporter cannot be bound to loopback.
    pub(super) fn everywhere(self, role: Role) -> Option<u16> {
        (role != Role::Broker).then(|| self.prometheus(role))
    }

    /// Where Kafka's clients connect.
    pub(super) fn broker(self) -> u16 {
        self.base + 25
    }

    /// Where the broker talks to its controller.
    pub(super) fn controller(self) -> u16 {
        self.base + 26
    }

    fn prometheus(self, role: Role) -> u16 {
        self.base + 50 + u16::from(role.number())
    }

    fn metrics(self, role: Role) -> u16 {
        self.base + 60 + u16::from(role.number())
    }

    fn rpc(self) -> u16 {
        self.base + 23
    }

    fn blob(self) -> u16 {
        self.base + 24
    }

    /// What differs between Flink's processes: their `-D` options.
    pub(super) fn options(self, role: Role) -> Vec<(&'static str, u16)> {
        let mut options = vec![
            ("metrics.reporter.prom.port", self.prometheus(role)),
            ("metrics.internal.query-service.port", self.metrics(role)),
        ];
        if let Role::TaskManager(n) = role {
            options.push(("taskmanager.rpc.port", self.base + 30 + u16::from(n)));
            options.push(("taskmanager.data.port", self.base + 40 + u16::from(n)));
        }
        options
    }
}

/// `config.yaml` of the lab that `config` describes, in `folder`, by its one absolute name.
pub(super) fn config_yaml(folder: &Path, config: &LabConfig) -> String {
    let ports = Ports { base: config.port_base };
    let mut settings: BTreeMap<String, String> =
        USUAL.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let folder = folder.display();
    for (key, value) in [
        ("jobmanager.rpc.port", ports.rpc().to_string()),
        ("blob.server.port", ports.blob().to_string()),
        ("rest.port", ports.rest().to_string()),
        ("rest.bind-port", ports.rest().to_string()),
        ("taskmanager.numberOfTaskSlots", config.slots.to_string()),
        ("io.tmp.dirs", format!("{folder}/tmp")),
        ("web.tmpdir", format!("{folder}/tmp")),
        ("execution.checkpointing.dir", format!("file://{folder}/checkpoints")),
        ("execution.checkpointing.savepoint-dir", format!("file://{folder}/savepoints")),
    ] {
        settings.insert(key.to_owned(), value);
    }
    settings.extend(config.flink.iter().map(|(key, value)| (key.clone(), value.clone())));
    // A JSON string is a YAML string, whatever is in it.
    settings.iter().map(|(key, value)| format!("{key}: {}\n", serde_json::json!(value))).collect()
}

/// After how long without a sign of life Flink takes a TaskManager of this lab for lost.
pub(super) fn heartbeat_timeout(config: &LabConfig) -> Result<Duration, LabError> {
    let key = "heartbeat.timeout";
    let usual = USUAL.iter().find(|(usual, _)| *usual == key).map(|(_, value)| *value);
    let value = config.flink.get(key).map(String::as_str).or(usual).unwrap_or_default();
    let read = seconds(value).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    read.ok_or_else(|| LabError::Setting { key, value: value.to_owned() })
}

/// What every lab tells its Flink; the reasons that are not in the names stand beside.
const USUAL: [(&str, &str); 41] = [
    ("jobmanager.rpc.address", "127.0.0.1"),
    ("jobmanager.bind-host", "127.0.0.1"),
    ("rest.address", "127.0.0.1"),
    ("rest.bind-address", "127.0.0.1"),
    ("taskmanager.host", "127.0.0.1"),
    ("taskmanager.bind-host", "127.0.0.1"),
    ("state.backend.type", "hashmap"),
    ("execution.checkpointing.interval", "10 min"),
    ("execution.checkpointing.timeout", "60 s"),
    ("execution.checkpointing.tolerable-failed-checkpoints", "1000000"),
    ("execution.buffer-timeout.interval", "10 ms"),
    ("restart-strategy.type", "fixed-delay"),
    ("restart-strategy.fixed-delay.attempts", "2147483647"),
    ("restart-strategy.fixed-delay.delay", "1 s"),
    ("heartbeat.interval", "1000"),
    ("heartbeat.timeout", "5000"),
    // Default 10 s, which a TaskManager waits that starts before the JobManager listens.
    ("cluster.registration.error-delay", "500 ms"),
    ("taskmanager.slot.timeout", "10 s"),
    ("metrics.fetcher.update-interval", "500"),
    // Default 10 min, for which no metrics of any job are fetched once a TaskManager is lost.
    ("web.timeout", "10000"),
    ("metrics.latency.interval", "1 s"),
    ("metrics.latency.granularity", "operator"),
    ("metrics.reporters", "prom"),
    (
        "metrics.reporter.prom.factory.class",
        "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
    ),
    ("rest.cache.checkpoint-statistics.timeout", "100 ms"),
    ("web.refresh-interval", "500"),
    ("taskmanager.cpu.cores", "2"),
    // Spreads a job over the TaskManagers; 1.20 knows it, too.
    ("taskmanager.load-balance.mode", "SLOTS"),
    // Small buffers: backlog stands in the source (pendingRecords), not unseen in the network.
    ("taskmanager.memory.segment-size", "4kb"),
    ("taskmanager.network.memory.buffers-per-channel", "1"),
    ("taskmanager.network.memory.floating-buffers-per-gate", "2"),
    // A TaskManager that is started without Flink's scripts refuses to start without every one of
    // these. Heap and direct memory in `process.rs` are their sums.
    ("taskmanager.memory.framework.heap.size", "64m"),
    ("taskmanager.memory.task.heap.size", "192m"),
    ("taskmanager.memory.framework.off-heap.size", "64m"),
    ("taskmanager.memory.task.off-heap.size", "0"),
    ("taskmanager.memory.network.min", "16m"),
    ("taskmanager.memory.network.max", "16m"),
    ("taskmanager.memory.managed.size", "0"),
    ("taskmanager.memory.jvm-metaspace.size", "128m"),
    ("taskmanager.memory.jvm-overhead.min", "64m"),
    ("taskmanager.memory.jvm-overhead.max", "64m"),
];

/// `log4j.properties`: everything to standard output, which is the process's log file.
pub(super) const LOG4J: &str = "\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.name = out
appender.out.type = Console
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %-5p %c{1} - %m%n
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_lab_is_given_replaces_what_is_usual() {
        let more = [("heartbeat.timeout", "50 s"), ("my.own", "say \"a: b\"")];
        let more = more.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let config = LabConfig { slots: 3, flink: more, ..LabConfig::new("/a lab", "/cache") };
        let text = config_yaml(Path::new("/a lab"), &config);
        for line in [
            "rest.port: \"21081\"",
            "heartbeat.timeout: \"50 s\"",
            "taskmanager.numberOfTaskSlots: \"3\"",
            "my.own: \"say \\\"a: b\\\"\"",
            "execution.checkpointing.dir: \"file:///a lab/checkpoints\"",
            "taskmanager.memory.task.off-heap.size: \"0\"",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in {text}");
        }
        assert_eq!(text.matches("heartbeat.timeout").count(), 1);
    }

    #[test]
    fn the_heartbeats_are_those_that_flink_is_told() {
        let told = |value: Option<&str>| {
            let flink = value.map(|value| ("heartbeat.timeout".to_owned(), value.to_owned()));
            let config = LabConfig {
                flink: flink.into_iter().collect(),
                ..LabConfig::new("/lab", "/cache")
            };
            heartbeat_timeout(&config)
        };
        for (value, millis) in
            [(None, 5_000), (Some("50 s"), 50_000), (Some("2500"), 2_500), (Some("PT1M"), 60_000)]
        {
            assert_eq!(told(value).unwrap(), Duration::from_millis(millis), "{value:?}");
        }
        let refused = told(Some("soon")).unwrap_err().to_string();
        assert!(refused.contains("heartbeat.timeout: 'soon'"), "{refused}");
    }

    #[test]
    fn no_two_processes_share_a_port() {
        let ports = Ports { base: 21_000 };
        let task_managers = (1..=9).map(Role::TaskManager);
        let roles = [Role::JobManager, Role::Broker].into_iter().chain(task_managers);
        let mut all: Vec<u16> = roles
            .flat_map(|role| ports.loopback(role).into_iter().chain(ports.everywhere(role)))
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), all.last()), (count, Some(&21_081)));
    }
}

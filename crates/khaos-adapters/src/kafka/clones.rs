//! Clones of a job that reads Kafka: each reads topics of its own, into which the job's are replayed, writes to
//! topics of its own, and commits offsets and transactions under names of its own.
//!
//! [`KafkaClones`] puts that around whoever deploys clones ([`CloneHost`]), replays into them ([`WorkloadLog`])
//! and reads their load where they read theirs ([`Metrics`]). What a clone has is called by its `labels`, made
//! before it is launched and removed after it has ended, topics last: whatever dies in between, the next sweep
//! finds a topic, and with it the rest.

mod labels;
mod replaying;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use khaos_control::clock::Clock;
use khaos_control::core::job::{EngineJobId, JobKey};
use khaos_control::core::series::Readings;
use khaos_control::core::units::{Span, Timestamp};
use khaos_control::ports::{
    CloneHost, CloneId, CloneSpec, Metrics, PortError, RunningClone, WorkloadLog,
};

use tokio::sync::RwLock;

use self::labels::{Labels, Whose};
use self::replaying::Replaying;
use super::admin::{Admin, NewTopic};
use super::load::{KafkaLoad, Reads};
use super::stretch::TopicEvents;
use super::{Cluster, KafkaError, KafkaSettings, Offsets, in_thread};
use crate::flink::{Description, Flink, FlinkClones, Own};

/// Topics live as long as the clone does, whatever the timestamps in them, which are those of the job's.
const KEEP_ALL: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("message.timestamp.type", "CreateTime"),
    ("retention.bytes", "-1"),
    ("retention.ms", "-1"),
];
/// The first events of a partition, among which one tells when it begins.
const FIRST: i64 = 100;

/// Clones of one job that reads and writes Kafka.
pub struct KafkaClones {
    job: JobKey,
    flink: Flink,
    host: FlinkClones,
    settings: KafkaSettings,
    admin: Admin,
    labels: Labels,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// Throughput and latency of clones.
    inner: Arc<dyn Metrics>,
    clock: Clock,
    present: Mutex<BTreeMap<EngineJobId, Present>>,
    /// Held by topics that are being made, which goes on when nobody waits for it any more.
    making: Arc<RwLock<()>>,
}

/// A clone of this life of khaos.
struct Present {
    whose: Whose,
    /// Gone once it is being ended.
    load: Option<Arc<KafkaLoad>>,
    replays: Vec<Replaying>,
    /// Up to when it is known what it is to be given.
    fed_until: Option<Timestamp>,
}

impl fmt::Debug for KafkaClones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaClones").field("job", &self.job).finish_non_exhaustive()
    }
}

impl KafkaClones {
    /// Clones of `job`, which is run as `description` says, on `flink`, whose throughput and latency `inner`
    /// tells. All topics that the job reads and writes are in the description, on the cluster of `settings`.
    pub fn new(
        job: JobKey,
        description: Description,
        flink: Flink,
        inner: Arc<dyn Metrics>,
        settings: &KafkaSettings,
        clock: Clock,
    ) -> Result<Self, KafkaError> {
        let names = |own| description.names(own).into_iter().map(str::to_owned).collect();
        let (inputs, outputs) = (names(Own::Input), names(Own::Output));
        let labels = Labels::of(&job, flink.url());
        let of_clone = labels.clone();
        let recipe = move |spec: &CloneSpec, _: &EngineJobId| {
            let whose = Whose::of(spec);
            description.copy(spec.interval, |_, original| of_clone.name(&whose, original))
        };
        Ok(Self {
            job,
            host: FlinkClones::new(flink.clone(), Arc::new(recipe)),
            flink,
            settings: settings.clone(),
            admin: Admin::at(settings)?,
            labels,
            inputs,
            outputs,
            inner,
            clock,
            present: Mutex::default(),
            making: Arc::default(),
        })
    }

    fn present(&self) -> MutexGuard<'_, BTreeMap<EngineJobId, Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topics of a clone, as many partitions each as those that they stand for.
    async fn topics(&self, whose: &Whose) -> Result<Vec<NewTopic>, PortError> {
        let mut topics = Vec::new();
        for original in self.inputs.iter().chain(&self.outputs) {
            let topic = original.clone();
            let partitions = self.ask(move |cluster| cluster.partitions(&topic)).await?;
            let settings = KEEP_ALL.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let name = self.labels.name(whose, original);
            topics.push(NewTopic { name, partitions, settings: settings.into() });
        }
        Ok(topics)
    }

    fn load(&self, whose: &Whose) -> Result<KafkaLoad, PortError> {
        let topics = self.inputs.iter().map(|original| self.labels.name(whose, original)).collect();
        let reads = Reads { topics, other_sources: Vec::new() };
        let (inner, flink) = (Arc::clone(&self.inner), self.flink.clone());
        KafkaLoad::new(inner, flink, &self.settings, reads, self.clock).map_err(|e| no_port(&e))
    }

    /// Removes what the clone of `whose` had, which has ended. Topics last: as long as there is one, a sweep
    /// comes back for the rest.
    async fn clear(&self, whose: &Whose) -> Result<(), PortError> {
        let all = self.labels.all_of(whose);
        self.abort_open(&all).await?;
        let groups = self.admin.groups(&all).await.map_err(|error| no_port(&error))?;
        self.admin.delete_groups(&groups).await.map_err(|error| no_port(&error))?;
        let topics = self.left(|name| name.starts_with(&all)).await?;
        self.admin.delete(&topics).await.map_err(|error| no_port(&error))
    }

    /// Aborts the transactions whose ids begin with `all` and that nobody ends any more. Which ids those are is
    /// only asked where something hides behind one: to ask it everything that Kafka knows of transactions has
    /// to be read.
    async fn abort_open(&self, all: &str) -> Result<(), PortError> {
        let mut hidden = false;
        for output in self.left(|name| name.starts_with(all)).await? {
            let (seen, there) = self.both_ends(output).await?;
            hidden |= seen != there;
        }
        if !hidden {
            return Ok(());
        }
        let transactions = self.admin.transactions(all).await.map_err(|error| no_port(&error))?;
        let open: Vec<String> =
            transactions.into_iter().filter(|found| found.open).map(|found| found.id).collect();
        self.admin.abort(&open).await.map_err(|error| no_port(&error))
    }

    /// Where `topic` ends for a reader of what is committed, and where its log does.
    async fn both_ends(&self, topic: String) -> Result<(Offsets, Offsets), PortError> {
        let settings = self.settings.clone();
        let ends = move || {
            Ok((
                Cluster::at(&settings)?.ends(&topic)?,
                Cluster::uncommitted(&settings)?.ends(&topic)?,
            ))
        };
        apart(ends).await
    }

    /// The topics of clones of this job for which `wanted` holds.
    async fn left(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, PortError> {
        let topics = self.admin.topics().await.map_err(|error| no_port(&error))?;
        let ours = |name: &String| self.labels.whose(name).is_some() && wanted(name);
        Ok(topics.into_iter().filter(ours).collect())
    }

    /// Puts a question to the cluster, whose client waits in the thread that asks.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Cluster) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, PortError> {
        let settings = self.settings.clone();
        apart(move || question(&Cluster::at(&settings)?)).await
    }

    /// Since when what arrived at `topic` is there.
    async fn kept(&self, topic: &str) -> Result<Kept, PortError> {
        let (settings, topic) = (self.settings.clone(), topic.to_owned());
        let runtime = tokio::runtime::Handle::current();
        apart(move || {
            let cluster = Cluster::at(&settings)?;
            let (starts, ends) = (cluster.starts(&topic)?, cluster.ends(&topic)?);
            let until = ends.iter().map(|(partition, end)| {
                let start = starts.get(partition).copied().unwrap_or(0);
                (*partition, (start + FIRST).min(*end))
            });
            let mut events = TopicEvents::open(&settings, &topic, &starts, &until.collect())?;
            let mut firsts: BTreeMap<i32, i64> = BTreeMap::new();
            while let Some((due_ms, event)) = runtime.block_on(events.next())? {
                firsts.entry(event.partition).or_insert(due_ms);
            }
            let cut = firsts.iter().filter(|(partition, _)| starts[partition] > 0);
            Ok(Kept {
                cut_ms: cut.map(|(_, first)| *first).max(),
                first_ms: firsts.values().copied().min(),
            })
        })
        .await
    }
}

/// Since when what arrived at a topic is there, epoch ms.
struct Kept {
    /// Of a log that was cut nothing is known before its first event; `None` where none was.
    cut_ms: Option<i64>,
    /// The first event that is there; before it there was none where no log was cut.
    first_ms: Option<i64>,
}

#[async_trait]
impl CloneHost for KafkaClones {
    async fn launch(&self, spec: &CloneSpec) -> Result<EngineJobId, PortError> {
        let whose = Whose::of(spec);
        let topics = self.topics(&whose).await?;
        let (admin, making) = (self.admin.clone(), Arc::clone(&self.making).read_owned().await);
        let made = tokio::spawn(async move {
            let _making = making;
            admin.create(&topics).await
        });
        let launched = async {
            let made = made.await.map_err(|error| PortError::Unavailable(error.to_string()))?;
            made.map_err(|error| no_port(&error))?;
            let load = Arc::new(self.load(&whose)?);
            Ok((self.host.launch(spec).await?, load))
        };
        match launched.await {
            Ok((id, load)) => {
                let (load, replays) = (Some(load), Vec::new());
                let present = Present { whose, load, replays, fed_until: None };
                self.present().insert(id.clone(), present);
                Ok(id)
            }
            // It may still come: its topics are left to the next sweep, as it is.
            Err(error @ PortError::Unavailable(_)) => Err(error),
            Err(error) => {
                // If this fails too, the next sweep finds them.
                let _ = self.clear(&whose).await;
                Err(error)
            }
        }
    }

    async fn terminate(&self, id: &EngineJobId) -> Result<(), PortError> {
        let present = self.present().get_mut(id).map(|present| {
            present.load = None;
            (present.whose.clone(), std::mem::take(&mut present.replays))
        });
        let (whose, mut replays) = if let Some((whose, replays)) = present {
            (Some(whose), replays)
        } else {
            // Somebody else's, or one that has been ended.
            let running = self.host.running().await?;
            let found = running.iter().find(|clone| clone.engine_id == *id);
            (found.map(|clone| Whose::of(&clone.spec)), Vec::new())
        };
        replays.iter_mut().for_each(Replaying::stop);
        self.host.terminate(id).await?;
        for replay in replays {
            replay.end().await;
        }
        if let Some(whose) = whose {
            self.clear(&whose).await?;
            // Not before: who asks again would be told that nothing is left.
            self.present().remove(id);
        }
        Ok(())
    }

    async fn settle(&self, of: &JobKey) -> Result<(), PortError> {
        self.host.settle(of).await?;
        if *of != self.job {
            return Ok(());
        }
        drop(self.making.write().await);
        let running = self.host.running().await?;
        let running: BTreeSet<Whose> = running.iter().map(|clone| Whose::of(&clone.spec)).collect();
        let left = self.left(|_| true).await?;
        let left: BTreeSet<Whose> =
            left.iter().filter_map(|name| self.labels.whose(name)).collect();
        let mut cleared = Ok(());
        for whose in left.difference(&running) {
            let gone = self.clear(whose).await;
            cleared = cleared.and(gone);
        }
        cleared
    }

    async fn running(&self) -> Result<Vec<RunningClone>, PortError> {
        self.host.running().await
    }
}

#[async_trait]
impl WorkloadLog for KafkaClones {
    async fn recorded(&self, job: &JobKey) -> Result<Span, PortError> {
        if *job != self.job {
            return Err(PortError::NotFound(format!("workload of job {job} in these topics")));
        }
        let now = self.clock.now();
        let (mut cut, mut first) = (None, None);
        for input in &self.inputs {
            let kept = self.kept(input).await?;
            cut = cut.max(kept.cut_ms);
            first = [first, kept.first_ms].into_iter().flatten().min();
        }
        let from = cut.or(first).map(|ms| self.clock.of_wall(Timestamp(ms)));
        Ok(Span { from: from.unwrap_or(now), to: now })
    }

    async fn replay(
        &self,
        job: &JobKey,
        from: Timestamp,
        clone: &CloneId,
    ) -> Result<(), PortError> {
        let recorded = self.recorded(job).await?;
        if !recorded.contains(from) {
            return Err(PortError::Refused(format!(
                "what arrived at {job} {:.0} s ago is not in its topics: they reach back {:.0} s; raise their \
                 retention, or observe again",
                recorded.to.secs_since(from),
                recorded.secs(),
            )));
        }
        let id = clone.engine_id();
        let whose = self.present().get(id).map(|present| present.whose.clone());
        let whose =
            whose.ok_or_else(|| PortError::NotFound(format!("clone {id} of this khaos")))?;
        let mut replays = Vec::new();
        for input in &self.inputs {
            let into = self.labels.name(&whose, input);
            let from_ms = self.clock.to_wall(from).0;
            let replay =
                Replaying::begin(&self.settings, input.clone(), from_ms, into, self.clock).await?;
            replays.extend(replay);
        }
        if let Some(present) = self.present().get_mut(id) {
            present.replays = replays;
            present.fed_until = Some(self.clock.now().plus_secs(recorded.to.secs_since(from)));
        }
        Ok(())
    }
}

#[async_trait]
impl Metrics for KafkaClones {
    /// What is read of a clone, as long as it is given what the job was given.
    async fn readings(&self, job: &EngineJobId, span: Span) -> Result<Readings, PortError> {
        let found = self.present().get(job).and_then(|present| {
            let spoilt = present.replays.iter().find_map(Replaying::spoilt);
            Some((Arc::clone(present.load.as_ref()?), spoilt, present.fed_until))
        });
        let Some((load, spoilt, fed_until)) = found else {
            return Err(PortError::NotFound(format!("clone {job} of this khaos")));
        };
        if let Some(why) = spoilt {
            return Err(PortError::Refused(format!("the replay is spoilt: {why}")));
        }
        // That nothing more arrives would look like a recovery.
        if fed_until.is_some_and(|until| span.to > until) {
            let why = "what was recorded ends before the trial does: observe again";
            return Err(PortError::Refused(why.to_owned()));
        }
        load.readings(job, span).await
    }
}

/// Does `work` in a thread that may wait.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, PortError> {
    in_thread("asking Kafka for a clone", work).await.map_err(|error| no_port(&error))
}

/// What it means to a port that Kafka does not do what was asked: who is away may come back.
fn no_port(error: &KafkaError) -> PortError {
    match error {
        KafkaError::NoAnswer { .. } | KafkaError::Away { .. } => {
            PortError::Unavailable(error.to_string())
        }
        _ => PortError::Refused(error.to_string()),
    }
}

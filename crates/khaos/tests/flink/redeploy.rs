//! Redeploying: stopped with a savepoint, started from it, and nothing lost, whatever goes wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use khaos_adapters::flink::{Description, Flink, Recovered, Redeployer, Submission};
use khaos_adapters::lab::{Delivered, PacedJob, delivered};
use khaos_control::contract;
use khaos_control::ports::{Actuator, Jobs, Metrics, PortError};
use khaos_core::job::{EngineJobId, JobKey, JobRun, JobStatus};
use khaos_core::series::Reading;
use khaos_core::units::{CheckpointInterval, Span, Timestamp};
use serde_json::Value;

use crate::bench::{Cluster, RATE, in_real_time};

/// The jobs' own interval, s.
const OWN_S: u32 = 8;

fn secs(seconds: u32) -> CheckpointInterval {
    CheckpointInterval::from_secs(seconds).unwrap()
}

/// A job that can be redeployed: what arrives at it goes by one epoch, whichever deployment reads it.
struct Redeployed<'a> {
    cluster: &'a Cluster,
    submission: Submission,
    folder: tempfile::TempDir,
    /// When the first event arrived.
    epoch: Timestamp,
}

impl<'a> Redeployed<'a> {
    async fn runs(cluster: &'a Cluster, name: &str, more: &[(&str, &str)]) -> (Self, JobRun) {
        let mut flink_configuration = BTreeMap::from([
            ("execution.checkpointing.interval".to_owned(), format!("{OWN_S} s")),
            ("execution.checkpointing.min-pause".to_owned(), "0 s".to_owned()),
        ]);
        flink_configuration
            .extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let folder = cluster.folder();
        let epoch = cluster.clock.now();
        let job = PacedJob {
            name: name.to_owned(),
            rates: format!("3600:{RATE}").parse().unwrap(),
            parallelism: 1,
            epoch_ms: Some(epoch.0),
            deliveries: Some(deliveries(&folder)),
            flink_configuration,
            ..PacedJob::default()
        };
        cluster.lab.submit(&job).await.unwrap();
        let run = cluster.running(name).await;
        let submission = cluster.lab.submission(&job);
        (Self { cluster, submission, folder, epoch }, run)
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("redeploy.json")
    }

    /// Another khaos, as after a death.
    fn redeployer(&self) -> Redeployer {
        self.with(self.submission.clone(), None)
    }

    fn with(&self, submission: Submission, savepoints: Option<String>) -> Redeployer {
        let described = Description::of(submission).unwrap();
        Redeployer::new(self.cluster.flink.clone(), described, savepoints, self.journal())
    }

    async fn now(&self) -> JobRun {
        self.cluster.running(&self.submission.name).await
    }

    async fn told(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.cluster.lab.rest_url());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// `run` went on where `before` ended: it started from the savepoint of its end, and catches up with
    /// what arrived meanwhile. One that had begun anew would deliver everything once more.
    async fn goes_on(&self, before: &EngineJobId, run: &JobRun) {
        let ended = self.told(&format!("/jobs/{before}/checkpoints")).await;
        let started = self.told(&format!("/jobs/{}/checkpoints", run.engine_id)).await;
        let savepoint = &ended["latest"]["savepoint"]["external_path"];
        assert!(savepoint.is_string(), "{ended}");
        assert_eq!(&started["latest"]["restored"]["external_path"], savepoint);
        let job = self.told(&format!("/jobs/{before}")).await;
        assert_eq!(job["state"], "FINISHED");
        let down_s = run.running_since.unwrap().0 - job["timestamps"]["FINISHED"].as_i64().unwrap();
        println!("{}: nothing ran for {:.2} s", run.key, down_s as f64 / 1_000.0);
        self.cluster
            .wait_for("the backlog to go", 180.0, async || {
                let span = Span::last(5.0, self.cluster.clock.now());
                let readings = self.cluster.flink.readings(&run.engine_id, span).await.ok()?;
                let lag = readings.lag();
                let last = lag.samples().last()?.value;
                let Reading::Known(read) = readings.throughput.mean(span) else { return None };
                (last < RATE as f64 && read > 0.0).then_some(())
            })
            .await;
        self.delivers(run).await;
    }

    /// All that arrived before `run` began is delivered, once. One subtask delivers in the order in which
    /// events arrived, so whatever is committed is the first so many of them: one that was lost, or came
    /// twice, would be missing or too many in every sum after it. Waits for the checkpoint that commits it.
    async fn delivers(&self, run: &JobRun) {
        let arrived_ms = u64::try_from(run.running_since.unwrap().0 - self.epoch.0).unwrap();
        let arrived = arrived_ms * RATE / 1_000;
        let events = self
            .cluster
            .wait_for("a checkpoint to commit what had arrived", 180.0, async || {
                let so_far = delivered(&deliveries(&self.folder)).unwrap();
                assert_eq!(so_far, Delivered::first(so_far.events), "{}: lost or doubled", run.key);
                (so_far.events >= arrived).then_some(so_far.events)
            })
            .await;
        println!("{}: {events} events, each of them once ({arrived} before it ran)", run.key);
    }
}

/// Where the job's sink counts.
fn deliveries(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("deliveries")
}

fn refused(answer: Result<(), PortError>) -> String {
    match answer {
        Err(PortError::Refused(why)) => {
            println!("{why}");
            why
        }
        other => panic!("{other:?}"),
    }
}

async fn keeps_the_contract(cluster: &Cluster) {
    let (paced, run) = Redeployed::runs(cluster, "paced", &[]).await;
    let bench = cluster.bench(&run);
    contract::refuses_stale_generations(&bench, &paced.redeployer()).await;
    assert_eq!(
        paced.now().await.engine_id,
        run.engine_id,
        "nothing changed, nothing was redeployed"
    );
    contract::achieves_its_interval(&bench, &paced.redeployer()).await;
    assert!(!paced.journal().exists());
    paced.delivers(&paced.now().await).await;
}

/// Flink refuses an interval during backlog that is shorter than the interval: what is refused is the
/// new one alone.
async fn goes_back_when_the_new_one_cannot_start(cluster: &Cluster) {
    let backlog = "execution.checkpointing.interval-during-backlog";
    let (job, before) = Redeployed::runs(cluster, "refused", &[(backlog, "10 s")]).await;
    let why = refused(job.redeployer().apply(&before, secs(30), 1).await);
    assert!(why.contains("did not come up at 30 s") && why.contains("old interval"), "{why}");
    let run = job.now().await;
    assert_ne!(run.engine_id, before.engine_id);
    assert_eq!(run.checkpointing, before.checkpointing);
    job.goes_on(&before.engine_id, &run).await;
    assert!(!job.journal().exists());
    // The next change is one like any other.
    job.redeployer().apply(&run, secs(4), 2).await.unwrap();
    let after = job.now().await;
    assert_eq!(after.checkpointing.interval, secs(4));
    job.goes_on(&run.engine_id, &after).await;
}

async fn runs_on_when_the_savepoint_fails(cluster: &Cluster) {
    let (job, before) = Redeployed::runs(cluster, "unwritable", &[]).await;
    let nowhere = Some("file:///proc/khaos".to_owned());
    let redeployer = job.with(job.submission.clone(), nowhere);
    let why = refused(redeployer.apply(&before, secs(4), 1).await);
    assert!(why.contains("could not be stopped") && why.contains("It runs on"), "{why}");
    let run = job.now().await;
    assert_eq!((&run.engine_id, run.checkpointing), (&before.engine_id, before.checkpointing));
    println!("restarted by Flink: {} → {}", before.attempt, run.attempt);
    assert!(!job.journal().exists());
    job.delivers(&run).await;
}

/// Dies as soon as the journal says what `is_reached` waits for.
async fn dies(job: &Redeployed<'_>, run: &JobRun, is_reached: impl Fn(&Value) -> bool) {
    let redeployer = job.redeployer();
    let reached = job.cluster.wait_for("the moment to die", 180.0, async || {
        let text = std::fs::read(job.journal()).ok()?;
        is_reached(&serde_json::from_slice(&text).unwrap()).then_some(())
    });
    tokio::select! {
        biased;
        () = reached => {}
        done = redeployer.apply(run, secs(4), 1) => panic!("it was too quick: {done:?}"),
    }
}

async fn a_death_leaves_a_job_that_can_be_started_again(cluster: &Cluster) {
    let (job, before) = Redeployed::runs(cluster, "orphan", &[]).await;
    assert_eq!(job.redeployer().recover().await, Ok(None));
    // Just after the stop was asked for: where the savepoint is has to be found out.
    dies(&job, &before, |_| true).await;
    let recovered = job.redeployer().recover().await.unwrap().unwrap();
    println!("died early: {recovered}");
    let run = job.now().await;
    match &recovered {
        Recovered::Old(id) => {
            assert_eq!(&run.engine_id, id);
            job.goes_on(&before.engine_id, &run).await;
        }
        Recovered::NeverStopped(id) => {
            assert_eq!((id, &run.engine_id), (&before.engine_id, id));
            job.delivers(&run).await;
        }
        other => panic!("{other}"),
    }
    assert_eq!(run.checkpointing, before.checkpointing);
    assert!(!job.journal().exists());

    // With the savepoint known, and the new one perhaps submitted, perhaps not.
    dies(&job, &run, |intent| intent["savepoint"].is_string()).await;
    let recovered = job.redeployer().recover().await.unwrap().unwrap();
    println!("died late: {recovered}");
    let (Recovered::Old(id) | Recovered::New(id)) = &recovered else { panic!("{recovered}") };
    let after = job.now().await;
    assert_eq!(&after.engine_id, id);
    job.goes_on(&run.engine_id, &after).await;
}

/// Neither the new one nor the old one comes up: what to do is said, and done by the next one that can.
async fn what_cannot_be_started_is_said(cluster: &Cluster) {
    let (job, before) = Redeployed::runs(cluster, "stranded", &[]).await;
    let gone = Submission { jar: job.folder.path().join("gone.jar"), ..job.submission.clone() };
    let why = refused(job.with(gone, None).apply(&before, secs(4), 1).await);
    assert!(why.contains("gone.jar cannot be read"), "{why}");
    assert_eq!(job.now().await.engine_id, before.engine_id, "not stopped for want of a jar");

    let other = Some("khaos.lab.Nothing".to_owned());
    let other = Submission { entry_class: other, ..job.submission.clone() };
    let why = refused(job.with(other, None).apply(&before, secs(4), 2).await);
    assert!(why.contains("flink run -d -s file:") && why.contains("-c khaos.lab.Nothing"), "{why}");
    let described = cluster.flink.run(&before.engine_id).await.map(|run| run.status);
    assert_eq!(described, Ok(JobStatus::Ended));
    let recovered = job.redeployer().recover().await.unwrap().unwrap();
    let run = job.now().await;
    assert_eq!(recovered, Recovered::Old(run.engine_id.clone()));
    job.goes_on(&before.engine_id, &run).await;

    std::fs::write(job.journal(), "{").unwrap();
    let why = refused(job.redeployer().apply(&run, secs(4), 3).await);
    assert!(why.contains("redeploy.json is no journal"), "{why}");
    let key = JobKey("stranded".to_owned());
    assert_eq!(cluster.flink.describe(&key).await.unwrap().engine_id, run.engine_id);
}

/// In the moment in which nobody runs the job, somebody else takes its slot: the new one never comes up,
/// and is taken back; the old one does when there is a slot again.
async fn goes_back_when_its_slot_is_taken(version: &str, port_base: u16) {
    let cluster = Cluster::up(version, port_base, 1).await;
    let (job, before) = Redeployed::runs(&cluster, "slotless", &[]).await;
    // Waits for the second of its slots.
    let greedy = PacedJob { name: "greedy".to_owned(), ..PacedJob::default() };
    let greedy = cluster.lab.submit(&greedy).await.unwrap();
    // The deadlines of a clock that runs 12 times as fast: minutes are seconds.
    let clock = cluster.clock.times(12);
    let flink = Flink::at(cluster.lab.rest_url(), clock).unwrap();
    let hasty = flink.describe(&before.key).await.unwrap();
    assert_eq!(hasty.checkpointing.interval, secs(12 * OWN_S));
    let described = Description::of(job.submission.clone()).unwrap();
    let redeployer = Redeployer::new(flink, described, None, job.journal());
    let makes_room = async {
        cluster
            .wait_for("it to go back", 180.0, async || {
                let text = std::fs::read(job.journal()).ok()?;
                let intent: Value = serde_json::from_slice(&text).unwrap();
                intent["back"].is_string().then_some(())
            })
            .await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/jobs/{}?mode=cancel", cluster.lab.rest_url(), greedy.id());
        assert!(client.patch(url).send().await.unwrap().status().is_success());
    };
    let (answer, ()) = futures::join!(redeployer.apply(&hasty, secs(48), 1), makes_room);
    let why = refused(answer);
    assert!(why.contains("not every vertex ran within 600 s"), "{why}");
    let run = job.now().await;
    assert_eq!(run.checkpointing, before.checkpointing);
    job.goes_on(&before.engine_id, &run).await;
    assert!(!job.journal().exists());
    cluster.lab.down().await.unwrap();
}

async fn redeploys_on(version: &str, port_base: u16) {
    let cluster = Cluster::up(version, port_base, 3).await;
    futures::join!(
        keeps_the_contract(&cluster),
        goes_back_when_the_new_one_cannot_start(&cluster),
        runs_on_when_the_savepoint_fails(&cluster),
        a_death_leaves_a_job_that_can_be_started_again(&cluster),
        what_cannot_be_started_is_said(&cluster),
    );
    cluster.lab.down().await.unwrap();
    goes_back_when_its_slot_is_taken(version, port_base).await;
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn flink_2_is_redeployed() {
    in_real_time(redeploys_on("2", 26_400));
}

#[test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
fn flink_1_20_is_redeployed() {
    in_real_time(redeploys_on("1.20", 26_600));
}

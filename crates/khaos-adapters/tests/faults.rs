//! Breaking things in the lab, on a real Flink: what is hurt, what is not, and who brings it back.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]
#![allow(clippy::print_stdout, reason = "what lab/README.md tells is measured here")]

use std::path::{Path, PathBuf};
use std::process::Command;

use khaos_adapters::lab::{
    Broken, Lab, LabConfig, LabError, LabInjector, LabTarget, PacedJob, Role, Status, status,
};
use khaos_control::ports::{Fault, PortError};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant, sleep_until, timeout};

/// Only one lab at a time: two of them would be eight Javas.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A lab, and what can be asked about it while it is supervised.
struct Scene {
    lab: Lab,
    eyes: Eyes,
    _dir: TempDir,
}

struct Eyes {
    flink: String,
    folder: PathBuf,
    rest_url: String,
    client: reqwest::Client,
}

async fn scene(version: &str, port_base: u16, task_managers: u8, slots: u8) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("KHAOS_CACHE").map(PathBuf::from);
    let config = LabConfig {
        port_base,
        version: version.parse().unwrap(),
        task_managers,
        slots,
        ..LabConfig::new(
            dir.path().join("lab"),
            cache.unwrap_or(workspace.join("target/lab-cache")),
        )
    };
    let lab = Lab::up(config, |_| ()).await.unwrap();
    let eyes = Eyes {
        flink: version.to_owned(),
        folder: lab.folder().to_owned(),
        rest_url: lab.rest_url().to_owned(),
        client: reqwest::Client::builder().no_proxy().build().unwrap(),
    };
    Scene { lab, eyes, _dir: dir }
}

impl Eyes {
    async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("{}{path}", self.rest_url)).send().await.unwrap();
        response.json().await.unwrap()
    }

    /// When `seen` was, after `since`.
    async fn until(&self, what: &str, since: Instant, seen: impl AsyncFn() -> bool) -> Duration {
        while !seen().await {
            assert!(since.elapsed() < Duration::from_mins(1), "{what}: not within a minute");
            sleep_until(Instant::now() + Duration::from_millis(20)).await;
        }
        let after = since.elapsed();
        println!("flink {}: {what}: {:.2} s", self.flink, after.as_secs_f64());
        after
    }

    async fn is_running(&self, job: &LabTarget) -> bool {
        let job = self.get(&format!("/jobs/{}", job.id())).await;
        let vertices = job["vertices"].as_array().unwrap();
        job["state"] == "RUNNING" && vertices.iter().all(|vertex| vertex["status"] == "RUNNING")
    }

    /// Since when each subtask runs, and where: another attempt is another entry.
    async fn attempts(&self, job: &LabTarget) -> Vec<(Value, Value, Value)> {
        let described = self.get(&format!("/jobs/{}", job.id())).await;
        let mut attempts = Vec::new();
        for vertex in described["vertices"].as_array().unwrap() {
            let id = vertex["id"].as_str().unwrap();
            let details = self.get(&format!("/jobs/{}/vertices/{id}", job.id())).await;
            for subtask in details["subtasks"].as_array().unwrap() {
                let tell = |key: &str| subtask[key].clone();
                attempts.push((tell("attempt"), tell("start-time"), tell("taskmanager-id")));
            }
        }
        attempts
    }

    async fn task_managers(&self) -> Vec<String> {
        let told = self.get("/taskmanagers").await;
        let managers = told["taskmanagers"].as_array().unwrap().iter();
        managers.map(|manager| manager["id"].as_str().unwrap().to_owned()).collect()
    }

    fn status(&self) -> Status {
        status(&self.folder).unwrap()
    }

    /// Breaks `job`, and sees it run again on another TaskManager.
    async fn break_and_see(&self, injector: &LabInjector, job: &LabTarget, fault: Fault) {
        let began = Instant::now();
        let Broken { task_manager, at } = injector.hurt(job, fault).await.unwrap();
        println!("flink {}: {fault:?}, injected in {:?}", self.flink, began.elapsed());
        let back = async {
            let noticed = self
                .until("noticed", at, async || {
                    self.get(&format!("/jobs/{}", job.id())).await["state"] != "RUNNING"
                })
                .await;
            self.until("runs again", at, async || self.is_running(job).await).await;
            noticed
        };
        let forgotten = self.until("Flink has forgotten the TaskManager", at, async || {
            !self.task_managers().await.contains(&task_manager)
        });
        let replaced = self.until("another one is registered", at, async || {
            let others = async || self.task_managers().await.into_iter();
            others().await.filter(|id| *id != task_manager).count() == 3
        });
        let (noticed, _, replaced) = tokio::join!(back, forgotten, replaced);
        match fault {
            Fault::Crash => assert!(noticed < Duration::from_secs(4), "{noticed:?}"),
            // Nothing but heartbeats can tell, and who is stopped is killed only after them.
            Fault::Hang => assert!(
                (3_000..9_000).contains(&noticed.as_millis()) && replaced > Duration::from_secs(7),
                "{noticed:?} {replaced:?}"
            ),
        }
        let url = format!("{}/taskmanagers/{task_manager}", self.rest_url);
        let lost = self.client.get(url).send().await.unwrap();
        assert_eq!(lost.status(), 500, "as docs/flink.md says");
        let on = self.attempts(job).await;
        assert!(on.iter().all(|(_, _, manager)| *manager != task_manager.as_str()), "{on:?}");
    }
}

/// One TaskManager is spare, so that what is broken runs again before its own is back.
async fn what_is_broken_comes_back(version: &str, port_base: u16) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Scene { mut lab, eyes, _dir } = scene(version, port_base, 3, 1).await;
    let job =
        |name: &str| PacedJob { name: name.to_owned(), parallelism: 1, ..PacedJob::default() };
    let hurt = lab.submit(&job("hurt")).await.unwrap();
    let spared = lab.submit(&job("spared")).await.unwrap();
    let injector = lab.injector().unwrap();
    let began = Instant::now();
    eyes.until("both run", began, async || {
        eyes.is_running(&hurt).await && eyes.is_running(&spared).await
    })
    .await;
    let untouched = eyes.attempts(&spared).await;
    let before = eyes.status().processes;
    let story = async {
        for fault in [Fault::Crash, Fault::Hang] {
            eyes.break_and_see(&injector, &hurt, fault).await;
            // The next one meets a TaskManager that has started, and a calm Flink.
            sleep_until(Instant::now() + Duration::from_secs(2)).await;
        }
    };
    tokio::select! {
        ended = lab.supervise() => panic!("{ended}"),
        () = story => {}
    }
    assert_eq!(eyes.attempts(&spared).await, untouched, "the other job did not notice");
    assert!(eyes.is_running(&spared).await);
    let after = eyes.status().processes;
    let started_again = before.iter().zip(&after).filter(|(before, after)| before != after);
    assert!((1..=2).contains(&started_again.count()), "{before:?} {after:?}");
    assert!(after.iter().all(|process| process.alive), "{after:?}");
    lab.down().await.unwrap();
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn what_is_broken_comes_back_on_flink_2() {
    what_is_broken_comes_back("2", 27_800).await;
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn what_is_broken_comes_back_on_flink_1_20() {
    what_is_broken_comes_back("1.20", 28_000).await;
}

/// Two jobs share the one TaskManager; and what does not run, or is not there, cannot be broken.
async fn what_would_hurt_another_job_is_refused(version: &str, port_base: u16) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Scene { mut lab, eyes, _dir } = scene(version, port_base, 1, 2).await;
    let job = PacedJob { name: "one".to_owned(), parallelism: 1, ..PacedJob::default() };
    let one = lab.submit(&job).await.unwrap();
    let other = lab.submit(&PacedJob { name: "other".to_owned(), ..job.clone() }).await.unwrap();
    eyes.until("both run", Instant::now(), async || {
        eyes.is_running(&one).await && eyes.is_running(&other).await
    })
    .await;
    let (processes, managers) = (lab.processes(), eyes.task_managers().await);
    let injector = LabInjector::at(&eyes.folder, &eyes.rest_url).unwrap();
    for fault in [Fault::Crash, Fault::Hang] {
        let refused = injector.hurt(&one, fault).await.unwrap_err();
        let PortError::Refused(why) = &refused else { panic!("{refused:?}") };
        for named in [managers[0].as_str(), other.id(), "one slot"] {
            assert!(why.contains(named), "{named} is not in {why}");
        }
        println!("flink {version}: {why}");
    }
    sleep_until(Instant::now() + Duration::from_secs(1)).await;
    assert_eq!((lab.exited(), lab.processes()), (None, processes), "nothing died");
    assert!(eyes.is_running(&one).await && eyes.is_running(&other).await);

    let twin = lab.submit(&PacedJob { capacity: 1, ..job }).await.unwrap();
    let refused = injector.hurt(&one, Fault::Crash).await.unwrap_err().to_string();
    assert!(refused.contains(one.id()) && refused.contains(twin.id()), "{refused}");

    let url = |job: &LabTarget| format!("{}/jobs/{}", eyes.rest_url, job.id());
    for ended in [&twin, &other] {
        eyes.client.patch(url(ended)).send().await.unwrap();
    }
    eyes.until("the other is gone", Instant::now(), async || {
        injector.hurt(&other, Fault::Crash).await
            == Err(PortError::NotFound("job 'other' in the lab that has not ended".to_owned()))
    })
    .await;
    eyes.until("the job has its TaskManager for itself", Instant::now(), async || {
        // Refused until then.
        injector.hurt(&one, Fault::Crash).await.is_ok()
    })
    .await;
    let deadline = Instant::now() + Duration::from_secs(5);
    let died = loop {
        if let Some(died) = lab.exited() {
            break died;
        }
        assert!(Instant::now() < deadline, "it is alive");
        sleep_until(Instant::now() + Duration::from_millis(20)).await;
    };
    assert_eq!((died.role, died.how.as_str()), (Role::TaskManager(1), "by signal 9"));
    lab.down().await.unwrap();
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn what_would_hurt_another_job_is_refused_on_flink_2() {
    what_would_hurt_another_job_is_refused("2", 27_800).await;
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn what_would_hurt_another_job_is_refused_on_flink_1_20() {
    what_would_hurt_another_job_is_refused("1.20", 28_000).await;
}

/// Kills a process of the lab from outside.
fn kill(lab: &Lab, role: Role) {
    let pid = lab.processes().into_iter().find(|(there, _)| *there == role).unwrap().1;
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
#[ignore = "starts a real Flink: ./test.sh runs it"]
async fn supervising_ends_where_it_does_not_help() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Scene { mut lab, eyes, _dir } = scene("2", 27_800, 1, 1).await;
    let supervised = async |lab: &mut Lab| {
        let ended = timeout(Duration::from_mins(1), lab.supervise()).await.unwrap();
        let LabError::LogsKept { source, .. } = ended else { panic!("{ended}") };
        *source
    };
    // From now on no TaskManager can start.
    let config = eyes.folder.join("conf/config.yaml");
    let good = std::fs::read_to_string(&config).unwrap();
    let broken = good.replace("network.max: \"16m\"", "network.max: \"many\"");
    assert_ne!(broken, good);
    std::fs::write(&config, broken).unwrap();
    kill(&lab, Role::TaskManager(1));
    let began = Instant::now();
    let ended = supervised(&mut lab).await;
    let LabError::KeepsDying { starts: 5, last, .. } = &ended else { panic!("{ended}") };
    assert_eq!(last.role, Role::TaskManager(1));
    assert!(ended.to_string().contains("taskmanager.memory.network.max"), "{ended}");
    println!("after {:.1} s: {ended}", began.elapsed().as_secs_f64());

    kill(&lab, Role::JobManager);
    let ended = supervised(&mut lab).await;
    let LabError::Died(died) = &ended else { panic!("{ended}") };
    assert_eq!(died.role, Role::JobManager);
    lab.down().await.unwrap();
}

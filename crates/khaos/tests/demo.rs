//! The demo: the story, the result, the page, and that the same seed gives the same bytes.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::sync::{Arc, OnceLock};

use assert_cmd::Command;
use khaos::demo::{Demo, quietly};
use khaos_control::ports::Store;
use khaos_core::optimize::Effect;
use khaos_core::record::{Fact, Kind, Record};
use khaos_core::series::Reading;
use khaos_core::units::EventRate;
use serde_json::Value;

fn demo() -> &'static Demo {
    static DEMO: OnceLock<Demo> = OnceLock::new();
    DEMO.get_or_init(|| quietly(1).unwrap())
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let again = quietly(1).unwrap();
    assert_eq!(demo().json().to_string(), again.json().to_string());
    assert_eq!(demo().page().unwrap(), again.page().unwrap());
    let other = quietly(2).unwrap();
    assert_ne!(demo().json().to_string(), other.json().to_string());
}

#[test]
fn khaos_is_less_exposed_than_any_guess_and_restarts_nothing() {
    let results = &demo().results;
    let find = |name: &str| results.iter().find(|r| r.name == name).unwrap();
    let (khaos, oracle) = (find("khaos"), find("oracle"));
    for guess in results.iter().filter(|r| r.name.starts_with("static")) {
        assert!(khaos.exposure < guess.exposure, "{guess:?}");
    }
    assert!(khaos.exposure >= oracle.exposure, "nobody beats the oracle: {khaos:?} {oracle:?}");
    assert!(khaos.downtime_s.abs() < 1e-12);
    assert_eq!((khaos.failures, khaos.trials), (12, 6));
    assert!(khaos.exposure_if_dead.unwrap() > khaos.exposure);
}

#[test]
fn a_perturbed_record_changes_the_page() {
    let demo = demo();
    let page = demo.page().unwrap();
    for kind in
        ["minute", "observation", "design", "trial", "failure", "models", "decision", "outcome"]
    {
        let mut perturbed = false;
        let records: Vec<Arc<Record>> = demo
            .records
            .iter()
            .rev()
            .map(|record| {
                let changed = perturb(record.fact())
                    .filter(|_| !perturbed && record.fact().kind().name() == kind);
                changed.map_or_else(
                    || record.clone(),
                    |fact| {
                        perturbed = true;
                        let parents = record.parents().to_vec();
                        Arc::new(Record::new(record.job(), record.at(), parents, fact))
                    },
                )
            })
            .collect();
        assert!(perturbed, "there is no {kind} to perturb");
        let records = records.into_iter().rev().collect();
        let other = Demo {
            simulation: demo.simulation.clone(),
            results: demo.results.clone(),
            yesterday: Vec::new(),
            records,
        };
        assert!(other.page().unwrap() != page, "the page ignores the {kind} records");
    }
}

/// The fact with one number changed, where it has one that the page should show.
fn perturb(fact: &Fact) -> Option<Fact> {
    let rate = |value| EventRate::new(value).unwrap();
    match fact.clone() {
        Fact::Minute(mut minute) => {
            minute.arrival = Reading::Known(rate(minute.arrival.known()?.get() * 1.5 + 1_000.0));
            Some(Fact::Minute(minute))
        }
        Fact::Trial(mut trial) => {
            trial.load = rate(trial.load.get() + 1_000.0);
            Some(Fact::Trial(trial))
        }
        Fact::Failure(mut failure) => {
            failure.predicted = None;
            Some(Fact::Failure(failure))
        }
        Fact::Models(mut models) => {
            models.recovery.parameters.settling_s += 20.0;
            Some(Fact::Models(models))
        }
        Fact::Decision(mut decision) => {
            let changed = decision.from != decision.interval;
            std::mem::swap(&mut decision.from, &mut decision.interval);
            changed.then_some(Fact::Decision(decision))
        }
        Fact::Outcome(mut outcome) => {
            let changed = outcome.from != outcome.to && outcome.effect == Effect::Applied;
            outcome.to = outcome.from;
            changed.then_some(Fact::Outcome(outcome))
        }
        Fact::Observation(mut observation) => {
            observation.steady_minutes -= 7;
            Some(Fact::Observation(observation))
        }
        Fact::Design(mut design) => {
            design.trials[0].load = rate(design.trials[0].load.get() + 1_000.0);
            Some(Fact::Design(design))
        }
    }
}

#[test]
fn whoever_stops_reading_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let binary = assert_cmd::cargo::cargo_bin("khaos");
    let mut child = std::process::Command::new(binary)
        .args(["demo", "--json", "--out"])
        .arg(dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_folder_that_cannot_be_made_is_said_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut command = Command::cargo_bin("khaos").unwrap();
    let output =
        command.args(["demo", "--out"]).arg(file.join("x")).assert().code(2).get_output().clone();
    assert!(String::from_utf8(output.stderr).unwrap().contains("--out"));
    assert!(output.stdout.is_empty());
}

#[test]
fn the_command_writes_page_and_result_and_nothing_but_json_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::cargo_bin("khaos").unwrap();
        command
            .arg("demo")
            .args(args)
            .arg("--out")
            .arg(dir.path())
            .assert()
            .success()
            .get_output()
            .clone()
    };
    let story = String::from_utf8(run(&[]).stdout).unwrap();
    for said in [
        "1. Observe",
        "2. Profile",
        "3. Optimize",
        "static:120s",
        "khaos",
        "oracle",
        "If Khaos died",
    ] {
        assert!(story.contains(said), "the story does not tell of {said}");
    }
    let output = run(&["--json"]);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let written: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("result.json")).unwrap())
            .unwrap();
    assert_eq!(printed, written);
    assert_eq!(printed.to_string(), demo().json().to_string(), "the command and the library agree");

    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        let namespaces = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!namespaces.contains(outside), "the page must open offline: {outside}");
    }
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    let store =
        khaos_adapters::sqlite::SqliteStore::open(&dir.path().join("records.sqlite")).unwrap();
    let job = khaos_core::job::JobKey("web-shop".into());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let latest = runtime.block_on(store.latest(&job, Kind::Decision)).unwrap().unwrap();
    let expected = demo().records.iter().rfind(|r| r.decision().is_some()).unwrap();
    assert_eq!(&latest, expected);
}

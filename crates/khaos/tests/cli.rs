//! The command line: the contract of `simulate`, and one clear error for what cannot be used.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    /// An hour of a load that rises and falls, and the world of the paper's cluster.
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        let rate = |i: u32| 14_000.0 + 9_000.0 * (f64::from(i) / 10.0).sin();
        let rows: Vec<String> = (0..60).map(|i| format!("{},{:.1}", i * 60, rate(i))).collect();
        files.write("workload.csv", &format!("second,events_per_second\n{}\n", rows.join("\n")));
        files.write("world.toml", include_str!("worlds/iot-vehicles.toml"));
        files
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn usual(&self, more: &[&str]) -> assert_cmd::assert::Assert {
        let (world, workload) = (self.path("world.toml"), self.path("workload.csv"));
        simulate(&world, &workload).args(["--recovery", "240s"]).args(more).assert()
    }
}

fn simulate(world: &Path, workload: &Path) -> Command {
    let mut command = Command::cargo_bin("khaos").unwrap();
    command.arg("simulate").arg("--world").arg(world).arg("--workload").arg(workload);
    command.args(["--latency", "1s"]);
    command
}

#[test]
fn simulate_prints_the_contract() {
    let files = Files::new();
    let policies = "static:30s,young-daly,paper,khaos,oracle";
    let failures = files.write("failures.csv", "second\n1500\n");
    let args = ["--policies", policies, "--json", "--failures", failures.to_str().unwrap()];
    let run = || files.usual(&args).success().get_output().clone();
    let output = run();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["virtual_s"], 3_600.0);
    let names: Vec<&str> = result["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.join(","), policies);
    for policy in result["policies"].as_array().unwrap() {
        for key in [
            "exposure",
            "latency_mean_ms",
            "latency_over_share",
            "failures",
            "recoveries_over",
            "recovery_max_s",
            "visibility_mean_s",
            "interval_changes",
            "checkpoints",
            "downtime_s",
            "trials",
        ] {
            assert!(policy[key].is_number(), "{key} of {policy}");
        }
    }
    let of = |key: &str| -> Vec<&Value> {
        result["policies"].as_array().unwrap().iter().map(|policy| &policy[key]).collect()
    };
    assert_eq!(of("trials"), [0, 0, 60, 6, 0]);
    // The engine's own interval needs nobody to drive it.
    let driven: Vec<bool> = of("exposure_if_dead").iter().map(|e| e.is_number()).collect();
    assert_eq!(driven, [false, false, false, true, true]);
    assert_eq!(output.stdout, run().stdout, "the same seed gives the same bytes");
}

#[test]
fn people_get_a_table() {
    let files = Files::new();
    let output = files.usual(&["--policies", "static:30s"]).success().get_output().clone();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("exposure") && table.contains("static:30s"), "{table}");
}

#[test]
fn failures_strike_where_they_are_asked_to() {
    let files = Files::new();
    let failures = files.write("failures.csv", "second\n900\n2400\n");
    let args = ["--policies", "static:10s", "--json", "--failures", failures.to_str().unwrap()];
    let output = files.usual(&args).success().get_output().clone();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["policies"][0]["failures"], 2);
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    let files = Files::new();
    let (world, workload) = (files.path("world.toml"), files.path("workload.csv"));
    let rows = std::fs::read_to_string(&workload).unwrap();
    let gap = files.write("gap.csv", &rows.replace("\n120,", "\n130,"));
    let unknown = files.write(
        "unknown.toml",
        &format!("colour = 1\n{}", include_str!("worlds/iot-vehicles.toml")),
    );
    let ten_minutes: Vec<&str> = rows.lines().take(11).collect();
    let short = files.write("short.csv", &ten_minutes.join("\n"));
    let nowhere = files.path("nowhere.csv");
    let cases: [(&Path, &Path, &[&str], &[&str]); 11] = [
        (&world, &nowhere, &[], &["nowhere.csv"]),
        (&world, &gap, &[], &["gap.csv", "line 4", "130"]),
        (&unknown, &workload, &[], &["unknown.toml", "line 1", "colour"]),
        (&world, &short, &[], &["short.csv", "10 minutes", "--recording"]),
        (&world, &short, &["--policies", "paper"], &["paper cannot", "leave paper out"]),
        (&world, &workload, &["--policies", "static:30"], &["static:30", "static:30s"]),
        (
            &world,
            &workload,
            &["--policies", "best"],
            &["'best'", "static:30s", "young-daly", "paper", "khaos", "oracle"],
        ),
        (&world, &workload, &["--recovery", "soon"], &["soon", "30s"]),
        (&world, &workload, &["--min-interval", "1500ms"], &["1500ms", "whole seconds"]),
        (&world, &workload, &["--min-interval", "200s"], &["--min-interval", "200 s", "120 s"]),
        (&world, &workload, &["--seed", "one"], &["--seed", "one"]),
    ];
    for (world, workload, more, says) in cases {
        let mut command = simulate(world, workload);
        if !more.contains(&"--recovery") {
            command.args(["--recovery", "240s"]);
        }
        command.args(more);
        let output = command.assert().code(2).get_output().clone();
        let error = String::from_utf8(output.stderr).unwrap();
        for said in says {
            assert!(error.contains(said), "{more:?} does not say {said}: {error}");
        }
        assert!(output.stdout.is_empty(), "an error leaves standard output empty");
    }
}

#[test]
fn a_replay_is_not_asked_for_times_that_cannot_be_waited_for() {
    let cases: [(&[&str], &[&str]); 10] = [
        (&["--max-late", "1e30s"], &["--max-late", "'1e30s'", "at most 876000h"]),
        (&["--max-late", "1e-9ms"], &["--max-late", "'1e-9ms'", "at least 1ms"]),
        (&["--from", "1e30s"], &["--from", "'1e30s'", "at most 876000h"]),
        (&["--to", "1e15s"], &["--to", "'1e15s'", "at most 876000h"]),
        (&["--to", "noon"], &["--to", "'noon'", "90s"]),
        (&["--patience", "0.5ms"], &["--patience", "'0.5ms'", "at least 1s", "at most 576h"]),
        (&["--patience", "600h"], &["--patience", "'600h'", "at most 576h"]),
        (&["--speed", "1e-20"], &["--speed", "'1e-20'", "1e-6"]),
        (&["--speed", "0"], &["--speed", "'0'", "0.5"]),
        (&["--speed", "NaN"], &["--speed", "'NaN'", "0.5"]),
    ];
    for (more, says) in cases {
        let mut command = Command::cargo_bin("khaos").unwrap();
        command.args(["replay", "--bootstrap", "127.0.0.1:1", "--recording", "nowhere"]);
        command.args(["--into", "copy"]).args(more);
        let output = command.assert().code(2).get_output().clone();
        let error = String::from_utf8(output.stderr).unwrap();
        for said in says {
            assert!(error.contains(said), "{more:?} does not say {said}: {error}");
        }
    }
}

/// Nobody is asked for a topic before it is clear for how long.
#[test]
fn a_recording_of_more_than_a_life_is_refused() {
    for option in ["--for", "--patience"] {
        let mut command = Command::cargo_bin("khaos").unwrap();
        command.args(["record", "--bootstrap", "127.0.0.1:1", "--topic", "clicks", "--out", "out"]);
        let output = command.args([option, "1e30s"]).assert().code(2).get_output().clone();
        let error = String::from_utf8(output.stderr).unwrap();
        for said in [option, "'1e30s' is too long", "876600h"] {
            assert!(error.contains(said), "{option} does not say {said}: {error}");
        }
        assert!(output.stdout.is_empty(), "an error leaves standard output empty");
    }
}

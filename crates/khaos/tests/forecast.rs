//! `khaos forecast`: the contract, and one clear error for what cannot be used.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

/// So many minutes of days that rise and fall, with a scatter of ±4 % that is no function of the hour.
fn file(dir: &tempfile::TempDir, minutes: u32) -> PathBuf {
    let rate = |i: u32| {
        let day = f64::from(i) / 1_440.0 * std::f64::consts::TAU;
        let noise = (f64::from(i) * 12.9898).sin() * 43_758.547;
        10_000.0 * (1.2 - day.cos()) * (1.0 + 0.08 * (noise - noise.floor() - 0.5))
    };
    let rows: Vec<String> = (0..minutes).map(|i| format!("{},{:.1}", 60 * i, rate(i))).collect();
    let path = dir.path().join("workload.csv");
    std::fs::write(&path, format!("second,events_per_second\n{}\n", rows.join("\n"))).unwrap();
    path
}

fn forecast(workload: &Path, more: &[&str]) -> assert_cmd::assert::Assert {
    let mut khaos = Command::cargo_bin("khaos").unwrap();
    khaos.arg("forecast").arg("--workload").arg(workload).args(more).assert()
}

#[test]
fn json_has_every_key_and_the_bound_holds() {
    let dir = tempfile::tempdir().unwrap();
    let workload = file(&dir, 1_440);
    let run = || forecast(&workload, &["--json"]).success().get_output().stdout.clone();
    let result: Value = serde_json::from_slice(&run()).unwrap();
    assert_eq!(result["origins"], 1_440 - 70 - 10 + 1);
    assert_eq!(result["horizon_s"], 600.0);
    let figure = |key: &str| result[key].as_f64().unwrap();
    assert!(figure("mape") < figure("last_value_mape"), "{result:#}");
    assert!((0.86..=0.95).contains(&figure("upper90_coverage")), "{result:#}");
    assert!(figure("bound_above_maximum") < 0.15, "{result:#}");
    assert_eq!(run(), run(), "the same workload gives the same bytes");
}

#[test]
fn a_season_helps_from_the_second_day_on() {
    let dir = tempfile::tempdir().unwrap();
    let mape = |minutes| {
        let workload = file(&dir, minutes);
        let output = forecast(&workload, &["--json", "--horizon", "30m"]).success();
        let result: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
        result["mape"].as_f64().unwrap()
    };
    let (first_day, three_days) = (mape(1_440), mape(3 * 1_440));
    assert!(three_days < 0.9 * first_day, "{three_days} after three days, {first_day} after one");
}

#[test]
fn people_get_a_table_and_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let output = forecast(&file(&dir, 200), &["--out", out.to_str().unwrap()]).success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(text.contains("10 minutes ahead") && text.contains("last value"), "{text}");
    let page = std::fs::read_to_string(out.join("forecast.html")).unwrap();
    assert!(page.contains("<svg role=\"img\""), "a picture that says what it is");
    let outside = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    assert!(!outside.contains("http"), "it opens offline");
    let csv = std::fs::read_to_string(out.join("forecast.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 200 - 70 - 10 + 1);
}

#[test]
fn what_cannot_be_used_is_refused_with_what_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let short = file(&dir, 79);
    let gap = dir.path().join("gap.csv");
    std::fs::write(&gap, "second,events_per_second\n0,1\n90,1\n").unwrap();
    for (workload, more, says) in [
        (&dir.path().join("nowhere.csv"), vec![], vec!["nowhere.csv"]),
        (&short, vec![], vec!["workload.csv", "79 minutes", "80 or more"]),
        (&short, vec!["--horizon", "90s"], vec!["--horizon", "whole minutes"]),
        (&short, vec!["--horizon", "0m"], vec!["--horizon"]),
        (&short, vec!["--horizon", "soon"], vec!["soon"]),
        (&gap, vec![], vec!["gap.csv", "line 3", "90"]),
    ] {
        let output = forecast(workload, &more).code(2).get_output().clone();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(says.iter().all(|said| error.contains(said)), "{more:?}: {error}");
        assert!(output.stdout.is_empty());
    }
    forecast(&short, &["--horizon", "9m"]).success();
}

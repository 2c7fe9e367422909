//! `khaos recording`: what it shows, what it exits with, and that its rates are a workload.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use khaos_adapters::recording::{Event, Manifest, Stores, TimestampKind, Writer};
use serde_json::Value;

/// 2026-11-25T07:00:00Z.
const BEGUN_MS: i64 = 1_795_590_000_000;

fn manifest(stores: Stores) -> Manifest {
    let topic = "clicks".to_owned();
    Manifest { topic, partitions: 2, timestamps: TimestampKind::Create, stores }
}

/// So many minutes: the first has 60 events a second, every further one 6 more, in two partitions.
fn recorded(dir: &Path, minutes: i64) -> PathBuf {
    let path = dir.join("recording");
    let mut writer = Writer::create(&path, manifest(Stores::Events)).unwrap();
    let mut offset = 0;
    for second in 0..minutes * 60 {
        let events = 60 + 6 * (second / 60);
        for i in 0..events {
            let event = Event {
                partition: (i % 2) as i32,
                offset,
                timestamp_ms: BEGUN_MS + second * 1_000 + i * 1_000 / events,
                key: None,
                value: Some(b"value"),
                headers: Vec::new(),
            };
            writer.append(&event).unwrap();
            offset += 1;
        }
    }
    writer.finish().unwrap();
    path
}

fn khaos(args: &[&str], dir: &Path) -> assert_cmd::assert::Assert {
    let mut khaos = Command::cargo_bin("khaos").unwrap();
    khaos.current_dir(dir).args(args).assert()
}

fn stdout(output: &assert_cmd::assert::Assert) -> String {
    String::from_utf8(output.get_output().stdout.clone()).unwrap()
}

fn stderr(output: &assert_cmd::assert::Assert) -> String {
    String::from_utf8(output.get_output().stderr.clone()).unwrap()
}

fn document(output: &assert_cmd::assert::Assert) -> Value {
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

#[test]
fn show_tells_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    recorded(dir.path(), 2);
    let text = stdout(&khaos(&["recording", "show", "recording"], dir.path()).success());
    for says in ["Topic clicks", "7560 events", "2026-11-25T07:00:00Z", "partition", "3780"] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let shown =
        document(&khaos(&["recording", "show", "recording", "--json"], dir.path()).success());
    assert_eq!(shown["events"], 7_560);
    assert_eq!(shown["first_ms"], BEGUN_MS);
    assert_eq!(shown["stores"], "events");
    assert_eq!(shown["partitions"][1]["first_offset"], 1);
    assert_eq!(shown["partitions"][1]["next_offset"], 7_560);
    assert_eq!(shown["torn"], Value::Null);
    assert_eq!(shown["is_written"], false);
}

#[test]
fn verify_tells_sound_from_torn_from_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = recorded(dir.path(), 2);
    let verify = |more: &[&str]| {
        let args: Vec<&str> =
            ["recording", "verify", "recording"].iter().chain(more).copied().collect();
        khaos(&args, dir.path())
    };
    let text = stdout(&verify(&[]).code(0));
    assert!(text.starts_with("Sound: 7560 events"), "{text}");
    assert_eq!(document(&verify(&["--json"]).code(0))["verdict"], "sound");

    let segment = path.join("00000000.segment");
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, &whole[..whole.len() - 10]).unwrap();
    let text = stdout(&verify(&[]).code(0));
    assert!(text.contains("a copy that was cut short") && !text.contains("synced"), "{text}");
    assert!(text.contains("torn tail") && text.contains("00000000.segment"), "{text}");
    let cut = document(&verify(&["--json"]).code(0));
    assert_eq!((&cut["verdict"], &cut["events"]), (&Value::from("cut"), &Value::from(7_560)));
    assert!(cut["torn"]["bytes"].as_u64().unwrap() > 0);

    let mut flipped = whole.clone();
    flipped[1_000] ^= 4;
    fs::write(&segment, flipped).unwrap();
    let output = verify(&[]).code(1);
    let text = stderr(&output);
    assert!(text.contains("00000000.segment: damaged at byte"), "{text}");
    assert!(stdout(&output).is_empty());
    let damaged = document(&verify(&["--json"]).code(1));
    assert_eq!(damaged["verdict"], "damaged");
    assert!(damaged["error"].as_str().unwrap().contains("damaged at byte"), "{damaged}");
}

#[test]
fn its_rates_are_a_workload() {
    let dir = tempfile::tempdir().unwrap();
    recorded(dir.path(), 90);
    let export = ["recording", "export", "recording", "--rates", "rates.csv"];
    let text = stdout(&khaos(&export, dir.path()).success());
    assert!(text.contains("90 rows") && text.contains("2026-11-25T07:00:00Z"), "{text}");
    let csv = fs::read_to_string(dir.path().join("rates.csv")).unwrap();
    assert!(csv.starts_with("second,events_per_second\n0,60\n60,66\n120,72\n"), "{csv}");
    let forecast = ["forecast", "--workload", "rates.csv", "--json"];
    let forecast = document(&khaos(&forecast, dir.path()).success());
    assert_eq!(forecast["origins"], 11);

    let seconds: Vec<&str> = export.into_iter().chain(["--every", "1s", "--from"]).collect();
    let from: Vec<&str> = seconds.into_iter().chain(["2026-11-25T07:01:30Z"]).collect();
    let to: Vec<&str> = from.into_iter().chain(["--to", "2026-11-25T07:02:01.5Z"]).collect();
    khaos(&to, dir.path()).success();
    let csv = fs::read_to_string(dir.path().join("rates.csv")).unwrap();
    let rows: Vec<&str> = csv.lines().skip(1).collect();
    assert_eq!((rows[0], rows[29], rows.len()), ("0,66", "29,66", 32));
    assert_eq!(rows[30], "30,72");
}

#[test]
fn what_was_never_recorded_has_no_rows() {
    let dir = tempfile::tempdir().unwrap();
    recorded(dir.path(), 2);
    let export = ["recording", "export", "recording", "--rates", "rates.csv"];
    let exported = |more: &[&str]| {
        let output = khaos(&[&export[..], more].concat(), dir.path()).success();
        (fs::read_to_string(dir.path().join("rates.csv")).unwrap(), stderr(&output))
    };
    let all = "second,events_per_second\n0,60\n60,66\n".to_owned();
    let own = ["--from", "2026-11-25T07:00:00Z", "--to", "2026-11-25T07:02:00Z"];
    assert_eq!(exported(&own), (all.clone(), String::new()));
    let (csv, said) = exported(&["--from", "0", "--to", "2026-11-25T19:00:00Z"]);
    assert_eq!(csv, all);
    for says in ["--from is before", "2026-11-25T07:00:00Z", "--to is behind", "07:01:59Z"] {
        assert!(said.contains(says), "{says}: {said}");
    }
}

/// An event whose producer's clock was at the epoch.
#[test]
fn a_recording_with_a_timestamp_out_of_place_asks_for_a_stretch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let mut writer = Writer::create(&path, manifest(Stores::Events)).unwrap();
    for (offset, timestamp_ms) in (0..).zip([0, BEGUN_MS, BEGUN_MS + 60_000]) {
        let headers = Vec::new();
        let event =
            Event { partition: 0, offset, timestamp_ms, key: None, value: Some(b"value"), headers };
        writer.append(&event).unwrap();
    }
    writer.finish().unwrap();
    let export = ["recording", "export", "recording", "--rates", "rates.csv"];
    let seconds = [&export[..], &["--every", "1s"]].concat();
    let text = stderr(&khaos(&seconds, dir.path()).code(2));
    assert!(text.contains("1970") && text.contains("--from"), "{text}");
    let stretch = [&seconds[..], &["--from", "2026-11-25T07:00:00Z"]].concat();
    khaos(&stretch, dir.path()).success();
    let csv = fs::read_to_string(dir.path().join("rates.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 61);
}

#[test]
fn offsets_alone_have_rates_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    let mut writer = Writer::create(&path, manifest(Stores::Offsets)).unwrap();
    for second in 0..=120_i64 {
        let ends = BTreeMap::from([(0, 1_000 + 10 * second), (1, 5 * second)]);
        writer.append_ends(BEGUN_MS + second * 1_000, &ends).unwrap();
    }
    writer.finish().unwrap();
    let shown =
        document(&khaos(&["recording", "show", "recording", "--json"], dir.path()).success());
    assert_eq!(
        (&shown["events"], &shown["stores"]),
        (&Value::from(1_800), &Value::from("offsets"))
    );
    let export = ["recording", "export", "recording", "--rates", "rates.csv"];
    khaos(&export, dir.path()).success();
    let csv = fs::read_to_string(dir.path().join("rates.csv")).unwrap();
    assert_eq!(csv, "second,events_per_second\n0,15\n60,15\n");
    assert_eq!(
        document(&khaos(&["recording", "verify", "recording", "--json"], dir.path()).success())["verdict"],
        "sound"
    );
}

#[test]
fn what_cannot_be_used_is_refused_with_what_to_change() {
    let dir = tempfile::tempdir().unwrap();
    recorded(dir.path(), 2);
    let export = ["recording", "export", "recording", "--rates", "rates.csv"];
    for (args, says) in [
        (vec!["recording", "show", "."], vec!["holds no recording"]),
        (vec!["recording", "verify", "nowhere"], vec!["nowhere", "holds no recording"]),
        ([&export[..], &["--every", "1.5s"]].concat(), vec!["--every", "whole seconds"]),
        ([&export[..], &["--every", "5m"]].concat(), vec!["120 s", "--every"]),
        ([&export[..], &["--from", "2030-01-01T00:00:00Z"]].concat(), vec!["2026-11-25T07:01:59Z"]),
    ] {
        let output = khaos(&args, dir.path()).code(2);
        let text = stderr(&output);
        assert!(says.iter().all(|said| text.contains(said)), "{args:?}: {text}");
        assert!(stdout(&output).is_empty());
    }
    assert!(!dir.path().join("rates.csv").exists());
}

//! `khaos demo`: the three phases on the embedded engine, told as a story.
//!
//! Yesterday is observed and profiled, today is lived under each policy; the story is told from the
//! records as they arrive (`story`), the page is drawn from them at the end ([`crate::report`]).

mod story;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use khaos_core::profile::IntervalBounds;
use khaos_core::record::Record;
use khaos_core::stats::Seed;
use khaos_core::units::{CheckpointInterval, Millis, Seconds};
use khaos_twin::{Workload, World};
use serde_json::{Value, json};

use self::story::Story;
use crate::output::{folder, keep, say};
use crate::report::{Report, keep_records, page};
use crate::simulate::{Policy, PolicyResult, Simulation, usual_failures};

/// The load at the height of the evening, events/s, but for noise.
const PEAK_EPS: f64 = 42_000.0;
/// Intervals that somebody might have guessed, s; the first is what the job has today.
const GUESSES: [u32; 4] = [120, 60, 30, 10];

/// What a demo amounts to.
#[derive(Debug)]
pub struct Demo {
    /// The simulation behind it.
    pub simulation: Simulation,
    /// How each policy did, khaos and the oracle last.
    pub results: Vec<PolicyResult>,
    /// Everything that khaos recorded yesterday.
    pub yesterday: Vec<Arc<Record>>,
    /// Everything that khaos recorded today, beginning with what yesterday concluded.
    pub records: Vec<Arc<Record>>,
}

/// The demo's day.
pub fn simulation(seed: u64) -> anyhow::Result<Simulation> {
    let workload = Workload::web_shop_day(PEAK_EPS, Seed(seed).child("today"));
    let interval = |secs| CheckpointInterval::from_secs(secs);
    Ok(Simulation {
        world: World::parse(include_str!("demo/world.toml"))?,
        recording: Workload::web_shop_day(PEAK_EPS, Seed(seed).child("yesterday")),
        failures: usual_failures(&workload),
        workload,
        recovery: Seconds::new(180.0)?,
        latency: Millis::new(500.0)?,
        bounds: IntervalBounds::new(interval(10)?, interval(GUESSES[0])?)?,
        seed,
        noise: true,
    })
}

/// Runs the demo, telling `story` as it goes.
fn play(seed: u64, story: &mut Story) -> anyhow::Result<Demo> {
    let simulation = simulation(seed)?;
    story.begin(&simulation)?;
    let rehearsal = simulation.rehearse(story.observing(&simulation))?;
    let learnt = rehearsal.learnt();
    story.profiled(&learnt)?;

    let mut results = Vec::new();
    for guess in GUESSES {
        let policy = Policy::Static(CheckpointInterval::from_secs(guess)?);
        let watch = story.living(policy, &simulation);
        results.push(simulation.live(policy, &[], watch)?.result);
    }
    let khaos =
        simulation.live(Policy::Khaos, &learnt, story.living(Policy::Khaos, &simulation))?;
    results.push(khaos.result);
    let oracle = story.living(Policy::Oracle, &simulation);
    results.push(simulation.live(Policy::Oracle, &[], oracle)?.result);
    story.end(&simulation, &khaos.day.records, &results)?;
    Ok(Demo { simulation, results, yesterday: rehearsal.records, records: khaos.day.records })
}

impl Demo {
    /// The machine-readable result: the same seed gives the same bytes.
    pub fn json(&self) -> Value {
        let trials: Vec<_> = self.records.iter().filter_map(|r| r.trial()).collect();
        let models = self.records.iter().rev().find_map(|r| r.models());
        let changes: Vec<_> = self
            .records
            .iter()
            .filter_map(|r| r.outcome())
            .filter(|outcome| outcome.from != outcome.to)
            .collect();
        json!({
            "seed": self.simulation.seed,
            "world": self.simulation.world.name,
            "objectives": self.simulation.goals().objectives,
            "fallback_s": self.simulation.bounds.max(),
            "trials": trials,
            "models": models,
            "interval_changes": changes,
            "policies": self.results,
            "virtual_s": self.simulation.workload.secs(),
        })
    }

    /// The page that shows it.
    pub fn page(&self) -> anyhow::Result<String> {
        page(&Report {
            title: "A day of a web shop",
            records: &self.records,
            results: &self.results,
            goals: &self.simulation.goals(),
        })
    }

    fn write(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        keep(dir, "result.json", &format!("{:#}\n", self.json()))?;
        keep_records(dir, self.yesterday.iter().chain(&self.records))?;
        keep(dir, "report.html", &self.page()?)
    }
}

/// Runs the demo and writes its results into `dir`; prints the story, or one JSON document.
pub fn run(seed: u64, dir: &Path, as_json: bool) -> anyhow::Result<()> {
    folder(dir)?;
    let mut story = if as_json { Story::silent() } else { Story::aloud() };
    let demo = play(seed, &mut story)?;
    let page = demo.write(dir)?;
    if as_json {
        say(&format!("{:#}", demo.json()))
    } else {
        say(&format!("\nThe day as pictures: {}", page.display()))
    }
}

/// Runs the demo without a word.
pub fn quietly(seed: u64) -> anyhow::Result<Demo> {
    play(seed, &mut Story::silent())
}

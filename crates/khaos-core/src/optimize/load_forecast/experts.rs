//! Forecasts that compete: each minute they are blended by how well each did lately.
//!
//! Some take the load as it comes, from the last value to slow means and trends; the others take its
//! ratio to what is usual at that time ([`super::season`]). Nobody has to know which suits a job: a
//! season that is none, or is no more, forecasts badly and loses its weight within minutes, and so
//! does a trend where there is only noise.

use std::collections::VecDeque;

use khaos_stats::{DampedHolt, damping};

use super::season::{SEASONS, Sums};

/// Damping of every trend, per minute.
const PHI: f64 = 0.97;
/// How fast level and trend follow the load itself; in doubt the first is preferred.
const PLAIN: [(f64, f64); 6] =
    [(1.0, 0.0), (0.7, 0.3), (0.3, 0.1), (0.3, 0.0), (0.1, 0.0), (0.03, 0.0)];
/// How fast the level follows the ratio to the usual load.
const SEASONAL: [f64; 2] = [0.3, 0.05];
/// Minutes after which an error counts half.
const HALF_LIFE: f64 = 120.0;
/// Minutes after which an error counts half in what is usual for the blend.
const USUAL_HALF_LIFE: f64 = 60.0;
/// The weight falls with this power of the error: the best decides, its equals help.
const POWER: i32 = -12;
/// By how much each expert is distrusted more than the one before it.
const DISTRUST: f64 = 0.02;
/// An error that everybody may have: below it nobody is better.
const NEGLIGIBLE: f64 = 1e-4;
/// Minutes that an expert on a season has to be judged by before it counts.
const JUDGED: f64 = 15.0;
/// Added to loads before they are compared with the usual ones, as a share of the mean load: a night
/// without load has no ratio.
const OFFSET: f64 = 0.05;
/// Minutes whose highest load a trend may exceed by a factor only.
const LATELY: usize = 3;
/// Minutes in which the experts get to know the load before what they say is asked for.
const WARM_UP: usize = 240;
/// What is asked of the minutes after the last known one: those up to `ahead`, and of their highest
/// only those after the gap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    /// Minutes that have passed already and are not known.
    pub(super) gap: usize,
    /// Minutes from the last known one to the end of the horizon, one or more.
    pub(super) minutes: usize,
    /// Nothing is expected beyond this factor times what was seen: of a trend, lately; of what is
    /// usual, ever.
    pub(super) wide: f64,
}

/// What was forecast at a minute from what was known at its end, events/s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Made {
    /// The highest expected load over the horizon.
    pub(super) peak: f64,
    /// The load expected at its end.
    pub(super) at_horizon: f64,
    /// How far the latter has lately been off on average; unknown before the first was judged.
    pub(super) usual_error: Option<f64>,
}

/// A mean in which what is older counts less.
#[derive(Debug, Clone, Copy, Default)]
struct Lately {
    sum: f64,
    weight: f64,
}

impl Lately {
    fn add(&mut self, value: f64, half_life: f64) {
        let kept = (-std::f64::consts::LN_2 / half_life).exp();
        self.sum = self.sum * kept + value;
        self.weight = self.weight * kept + 1.0;
    }

    fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

#[derive(Debug)]
struct Expert {
    alpha: f64,
    beta: f64,
    state: Option<DampedHolt>,
    /// What it said of the minutes to come, of the next one first; shorter while it is new.
    said: VecDeque<Option<f64>>,
    error: Lately,
    /// What its errors are multiplied by.
    distrust: f64,
}

impl Expert {
    fn new(alpha: f64, beta: f64, distrust: f64) -> Self {
        let error = Lately::default();
        Self { alpha, beta, state: None, said: VecDeque::new(), error, distrust }
    }

    /// How much it weighs; `None` while it does not count.
    fn weight(&self, group: &Group) -> Option<f64> {
        let counts = group.season.is_none() || self.error.weight >= JUDGED;
        let error = (self.error.mean().unwrap_or(0.0) + NEGLIGIBLE) * self.distrust;
        counts.then(|| error.powi(POWER))
    }

    fn see(&mut self, value: Option<f64>) {
        match (&mut self.state, value) {
            (Some(state), value) => state.update(value),
            (state @ None, Some(first)) => {
                *state = Some(DampedHolt::new(self.alpha, self.beta, PHI, first));
            }
            (None, None) => {}
        }
    }
}

/// Experts on the same thing: the load, or its ratio to what is usual.
#[derive(Debug)]
struct Group {
    season: Option<Usual>,
    experts: Vec<Expert>,
}

/// Usual loads by minute, those of the minutes ahead among them, and what is added to a load before
/// it is compared.
#[derive(Debug)]
struct Usual {
    loads: Vec<Option<f64>>,
    offset: f64,
}

impl Group {
    /// The load of a minute as the experts take it.
    fn relative(&self, load: f64, minute: usize) -> Option<f64> {
        match &self.season {
            None => Some(load),
            Some(usual) => Some((load + usual.offset) / (usual.loads[minute]? + usual.offset)),
        }
    }

    /// The load of a minute that an expert's value means.
    fn absolute(&self, value: f64, minute: usize) -> Option<f64> {
        let load = match &self.season {
            None => value,
            Some(usual) => value * (usual.loads[minute]? + usual.offset) - usual.offset,
        };
        Some(load.max(0.0))
    }

    /// Judges what was said of `minute`, takes in what came, and says something of the minute
    /// `dampings` ahead.
    fn see(&mut self, load: Option<f64>, minute: usize, dampings: &[f64]) {
        let ahead = dampings.len();
        let value = load.and_then(|load| self.relative(load, minute));
        for i in 0..self.experts.len() {
            let expert = &mut self.experts[i];
            let due = expert.said.len() == ahead;
            let said = if due { expert.said.pop_front().flatten() } else { None };
            if let (Some(said), Some(load)) = (said, load) {
                expert.error.add(relative_error(said, load), HALF_LIFE);
            }
            expert.see(value);
            let state = expert.state;
            let says = state.map(|state| state.level() + dampings[ahead - 1] * state.trend());
            let says = says.and_then(|value| self.absolute(value, minute + ahead));
            self.experts[i].said.push_back(says);
        }
    }
}

/// How far off `said` was, from 0 to 1: one spike or one silence is not all that counts.
fn relative_error(said: f64, came: f64) -> f64 {
    if said + came > 0.0 { (said - came).abs() / (said + came) } else { 0.0 }
}

/// What is forecast at each of the last `minutes` minutes of `loads`, each from what was known then,
/// and the loads that the last of them expects of the minutes ahead. The loads begin with a known one.
pub(super) fn forecasts(
    loads: &[Option<f64>],
    ahead: Ahead,
    minutes: usize,
) -> (Vec<Made>, Vec<f64>) {
    let first = loads.len().saturating_sub(minutes + WARM_UP);
    let mut highest = loads[..first].iter().flatten().copied().fold(0.0, f64::max);
    let mut groups = groups(loads, first, ahead.minutes);
    let dampings: Vec<f64> = (1..=ahead.minutes).map(|steps| damping(PHI, steps)).collect();
    let mut error = Lately::default();
    let mut path = Vec::new();
    let mut made: Vec<Made> = Vec::with_capacity(loads.len() - first);
    for (minute, &load) in loads[first..].iter().enumerate() {
        let then = minute.checked_sub(ahead.minutes).map(|then| made[then].at_horizon);
        if let (Some(load), Some(said)) = (load, then) {
            error.add((load - said).abs(), USUAL_HALF_LIFE);
        }
        for group in &mut groups {
            group.see(load, minute, &dampings);
        }
        highest = load.map_or(highest, |load| highest.max(load));
        let known = loads[..=first + minute].iter().rev().flatten();
        let lately = known.take(LATELY).copied().fold(0.0, f64::max);
        let caps = Caps { trend: ahead.wide * lately, any: ahead.wide * highest };
        path = blend(&groups, minute, &dampings, caps);
        made.push(Made {
            peak: path[ahead.gap..].iter().copied().fold(0.0, f64::max),
            at_horizon: path[ahead.minutes - 1],
            usual_error: error.mean(),
        });
    }
    (made.split_off(made.len().saturating_sub(minutes)), path)
}

fn groups(loads: &[Option<f64>], first: usize, ahead: usize) -> Vec<Group> {
    let sums = Sums::of(loads);
    let day = loads.len().saturating_sub(1_440);
    // A day without load has no ratios at all, whatever the offset.
    let offset = (OFFSET * sums.mean(day, loads.len()).unwrap_or(0.0)).max(f64::MIN_POSITIVE);
    let mut distrust = 1.0;
    let mut expert = |alpha, beta| {
        distrust += DISTRUST;
        Expert::new(alpha, beta, distrust)
    };
    let plain = PLAIN.iter().map(|&(alpha, beta)| expert(alpha, beta)).collect();
    let mut groups = vec![Group { season: None, experts: plain }];
    for season in SEASONS {
        let usual = (first..loads.len() + ahead).map(|minute| season.usual(&sums, minute));
        groups.push(Group {
            season: Some(Usual { loads: usual.collect(), offset }),
            experts: SEASONAL.iter().map(|&alpha| expert(alpha, 0.0)).collect(),
        });
    }
    groups
}

/// What a group says: level and trend, and how much that weighs.
#[derive(Debug)]
struct Line<'a> {
    group: &'a Group,
    level: f64,
    trend: f64,
    weight: f64,
}

impl<'a> Line<'a> {
    /// The blend of a group's experts, which is one line, because they share their damping. `None`
    /// while none of them counts.
    fn of(group: &'a Group) -> Option<Self> {
        let heard = group.experts.iter().filter_map(|e| Some((e.state?, e.weight(group)?)));
        let none = Self { group, level: 0.0, trend: 0.0, weight: 0.0 };
        let sum = heard.fold(none, |sum, (state, weight)| Self {
            group,
            level: sum.level + weight * state.level(),
            trend: sum.trend + weight * state.trend(),
            weight: sum.weight + weight,
        });
        let Self { level, trend, weight, .. } = sum;
        (weight > 0.0).then(|| Self { group, level: level / weight, trend: trend / weight, weight })
    }
}

/// What no forecast exceeds.
#[derive(Debug, Clone, Copy)]
struct Caps {
    /// One that takes the load as it comes: after a step up a trend shoots over.
    trend: f64,
    /// Any other: a ratio to hardly anything may be anything.
    any: f64,
}

/// The expected loads of the minutes ahead of `minute`.
fn blend(groups: &[Group], minute: usize, dampings: &[f64], caps: Caps) -> Vec<f64> {
    let lines: Vec<Line<'_>> = groups.iter().filter_map(Line::of).collect();
    let at = |(step, damping): (usize, &f64)| {
        let said = lines.iter().filter_map(|line| {
            let value = line.level + damping * line.trend;
            let load = line.group.absolute(value, minute + step + 1)?;
            let cap = if line.group.season.is_none() { caps.trend } else { caps.any };
            Some((load.min(cap), line.weight))
        });
        let (sum, weight) =
            said.fold((0.0, 0.0), |(sum, weight), (load, w)| (sum + w * load, weight + w));
        // Not zero: those that take the load as it comes have something to say of every minute.
        sum / weight
    };
    dampings.iter().enumerate().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(loads: impl IntoIterator<Item = f64>) -> Vec<Option<f64>> {
        loads.into_iter().map(Some).collect()
    }

    fn ahead(minutes: usize) -> Ahead {
        Ahead { gap: 0, minutes, wide: 1.5 }
    }

    /// What the last minute of `loads` expects ten minutes later.
    fn in_ten_minutes(loads: &[f64]) -> f64 {
        forecasts(&known(loads.iter().copied()), ahead(10), 1).1[9]
    }

    #[test]
    fn one_minute_is_carried_on() {
        let (made, path) = forecasts(&known([7.0]), ahead(3), 10);
        assert_eq!(made.len(), 1);
        assert!(path.iter().all(|load| (load - 7.0).abs() < 1e-12), "{path:?}");
        assert_eq!((path.len(), made[0].usual_error), (3, None));
    }

    #[test]
    fn the_second_forecast_by_hand() {
        // From 10 to 20 with nobody judged yet: each expert is at 10 + 10 α with a trend of 10 α β,
        // damped by 0.97, and weighs (1 + 0.02 i)^-12.
        let (made, path) = forecasts(&known([10.0, 20.0]), ahead(1), 1);
        let said = [20.0, 17.0 + 0.97 * 2.1, 13.0 + 0.97 * 0.3, 13.0, 11.0, 10.3];
        let weights = (1..=6).map(|i| (1.0 + 0.02 * f64::from(i)).powi(-12));
        let (mut sum, mut weight) = (0.0, 0.0);
        for (said, w) in said.iter().zip(weights) {
            (sum, weight) = (sum + said * w, weight + w);
        }
        // That is the first minute with a judgement: all said 10 of the 20, and are equally wrong.
        assert!((path[0] - sum / weight).abs() < 1e-9, "{path:?}");
        assert_eq!(made[0].usual_error, Some(10.0));
    }

    #[test]
    fn a_trend_is_found_and_noise_is_not_taken_for_one() {
        let rising: Vec<f64> = (0..200).map(|i| 1_000.0 + 10.0 * f64::from(i)).collect();
        let said = in_ten_minutes(&rising);
        assert!((said / 3_090.0 - 1.0).abs() < 0.02, "{said}");
        // From 900 to 1,100 in no order: the mean, not the last value.
        let noise = |i: i32| {
            let wave = (f64::from(i) * 12.9898).sin() * 43_758.547;
            900.0 + 200.0 * (wave - wave.floor())
        };
        let said = in_ten_minutes(&(0..300).map(noise).collect::<Vec<_>>());
        assert!((said / 1_000.0 - 1.0).abs() < 0.03, "{said}");
    }

    #[test]
    fn yesterday_helps_only_where_today_is_like_it() {
        let day = |i: usize| 1_000.0 + 900.0 * ((i % 1_440) as f64 / 30.0).sin();
        let mean_error = |loads: &[f64], from: usize| {
            let origins = loads.len() - 10 - from;
            let errors = (from..loads.len() - 10)
                .map(|n| (in_ten_minutes(&loads[..n]) - loads[n + 9]).abs());
            errors.sum::<f64>() / origins as f64
        };
        // The same again, at another height.
        let again: Vec<f64> =
            (0..1_700).map(|i| if i < 1_440 { day(i) } else { 1.3 * day(i) }).collect();
        let alone: Vec<f64> = again[1_440 - 260..].to_vec();
        let (with, without) = (mean_error(&again, 1_560), mean_error(&alone, 380));
        assert!(with < 0.2 * without, "{with} {without}");
        // Another day: yesterday's is worth nothing.
        let other =
            |i: usize| if i < 1_440 { day(i) } else { 1_000.0 + 900.0 * (i as f64 / 47.0).cos() };
        let other: Vec<f64> = (0..1_700).map(other).collect();
        let alone: Vec<f64> = other[1_440 - 260..].to_vec();
        let (with, without) = (mean_error(&other, 1_560), mean_error(&alone, 380));
        assert!(with < 1.1 * without, "{with} {without}");
    }
}

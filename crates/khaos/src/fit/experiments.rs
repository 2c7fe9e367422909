//! What would a campaign of a few trials have known? Chosen among recorded trials by the same rule as
//! a campaign's own, and judged on all others.

use khaos_core::optimize::{Measures, Place, RecoveryModel};
use khaos_core::profile::{CORNERS, Trial};
use khaos_core::stats::FitError;

/// Chooses `count` of the `places` in `trials`: first those nearest to the corners that suit any job,
/// then whatever would teach most about recovery over all of them. Only intervals and loads of trials
/// that were not chosen before are looked at.
pub(super) fn choose(
    trials: &[Trial],
    places: &[usize],
    count: usize,
) -> Result<Vec<usize>, FitError> {
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    let (intervals, loads) = (
        Range::of(places.iter().map(|i| trials[*i].interval.seconds().ln())),
        Range::of(places.iter().map(|i| trials[*i].load.get())),
    );
    let free = |chosen: &[usize]| -> Vec<usize> {
        places.iter().copied().filter(|i| !chosen.contains(i)).collect()
    };
    for corner in CORNERS.iter().take(count) {
        let off = |&i: &usize| {
            (intervals.share(trials[i].interval.seconds().ln()) - corner.interval).abs()
                + (loads.share(trials[i].load.get()) - corner.load).abs()
        };
        chosen.extend(free(&chosen).into_iter().min_by(|a, b| off(a).total_cmp(&off(b))));
    }
    while chosen.len() < count {
        let known: Vec<&Trial> = chosen.iter().map(|i| &trials[*i]).collect();
        let model = RecoveryModel::fit(&known)?;
        let everywhere: Vec<Place> = places.iter().map(|i| model.place(&trials[*i])).collect();
        let doubt =
            |i: &usize| model.doubt_after(model.place(&trials[*i]), Measures::Whole, &everywhere);
        let next = free(&chosen).into_iter().min_by(|a, b| doubt(a).total_cmp(&doubt(b)));
        match next {
            Some(next) => chosen.push(next),
            None => break,
        }
    }
    Ok(chosen)
}

/// From the smallest to the largest.
struct Range {
    from: f64,
    to: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        Self {
            from: values.clone().fold(f64::INFINITY, f64::min),
            to: values.fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Where `value` lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        if self.to > self.from { (value - self.from) / (self.to - self.from) } else { 0.0 }
    }
}

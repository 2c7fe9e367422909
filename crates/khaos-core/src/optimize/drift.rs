//! Drift: do the models still speak of this job?
//!
//! Of single recoveries one in ten lies outside of what is predicted for nine in ten, so one that
//! does says nothing. Two of three on the same side come by chance once in a hundred failures: the
//! job is another one, and what was learnt before the first of the two counts no more.

use std::collections::VecDeque;

use crate::profile::{Compared, Failure};

/// So many of the last few failures
const SURPRISES: usize = 2;
/// of so many that could be compared.
const OF_LAST: usize = 3;

/// Where the last drift began: the place in `failures`, oldest first, of the first one that still
/// counts. `None` when there was none.
pub fn last_drift(failures: &[&Failure]) -> Option<usize> {
    let mut began = None;
    let mut lately: VecDeque<(usize, Compared)> = VecDeque::new();
    for (place, failure) in failures.iter().enumerate() {
        let Some(compared) = failure.compared() else { continue };
        lately.push_back((place, compared));
        if lately.len() > OF_LAST {
            lately.pop_front();
        }
        let alike: Vec<usize> = lately
            .iter()
            .filter(|(_, other)| *other == compared && compared != Compared::AsPredicted)
            .map(|(place, _)| *place)
            .collect();
        if alike.len() >= SURPRISES {
            began = alike.first().copied();
            // They make the new models, and are no surprise to them.
            lately.clear();
        }
    }
    began
}

/// How many of `failures` in a row, up to the last, came out as predicted. Those that could not be
/// compared neither count nor break the row.
pub fn as_predicted(failures: &[&Failure]) -> usize {
    let compared = failures.iter().rev().filter_map(|failure| failure.compared());
    compared.take_while(|compared| *compared == Compared::AsPredicted).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimize::models::tests::failure;

    /// Recoveries where 100 to 200 s were predicted; `None` where nothing was.
    fn failures(recoveries: &[Option<f64>]) -> Vec<Failure> {
        let of = |(i, seen): (usize, &Option<f64>)| {
            failure(i as u32, 60, 500.0, seen.unwrap_or(150.0), seen.map(|_| (100.0, 200.0)))
        };
        recoveries.iter().enumerate().map(of).collect()
    }

    fn drift(recoveries: &[f64]) -> Option<usize> {
        let failures = failures(&recoveries.iter().map(|s| Some(*s)).collect::<Vec<_>>());
        last_drift(&failures.iter().collect::<Vec<_>>())
    }

    #[test]
    fn two_of_three_on_the_same_side_are_drift() {
        assert_eq!(drift(&[150.0, 150.0, 150.0]), None);
        assert_eq!(drift(&[150.0, 250.0, 150.0]), None, "one is chance");
        assert_eq!(drift(&[150.0, 250.0, 260.0]), Some(1));
        assert_eq!(drift(&[150.0, 250.0, 150.0, 260.0]), Some(1));
        assert_eq!(drift(&[250.0, 150.0, 150.0, 260.0]), None, "too far apart");
        assert_eq!(drift(&[150.0, 250.0, 50.0]), None, "one too long, one too short");
        assert_eq!(drift(&[150.0, 50.0, 60.0]), Some(1), "too short is drift too");
    }

    #[test]
    fn what_began_a_drift_does_not_begin_another() {
        assert_eq!(drift(&[250.0, 260.0, 150.0, 150.0]), Some(0));
        assert_eq!(drift(&[250.0, 260.0, 270.0]), Some(0));
        assert_eq!(drift(&[250.0, 260.0, 270.0, 280.0]), Some(2));
    }

    #[test]
    fn a_row_ends_at_a_surprise_and_goes_on_over_what_cannot_be_compared() {
        let row = |recoveries: &[Option<f64>]| {
            let failures = failures(recoveries);
            as_predicted(&failures.iter().collect::<Vec<_>>())
        };
        assert_eq!(row(&[]), 0);
        assert_eq!(row(&[Some(150.0), Some(250.0), Some(150.0), Some(160.0)]), 2);
        assert_eq!(row(&[Some(150.0), None, Some(160.0)]), 2);
        assert_eq!(row(&[Some(150.0), Some(90.0)]), 0);
    }
}

//! Deliveries: what the lab's job has delivered exactly once, as its counting sink committed it.

use std::io;
use std::path::Path;

/// Events that were delivered, over all checkpoints that are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivered {
    /// How many.
    pub events: u64,
    /// Sum of their indices, from 0 in each source: a lost event is not made up for by another that came
    /// twice.
    pub sum: u128,
}

impl Delivered {
    /// The first `events` of one source, each of them once.
    pub fn first(events: u64) -> Self {
        let count = u128::from(events);
        Self { events, sum: count * count.saturating_sub(1) / 2 }
    }
}

/// What is committed in `dir`, the [`super::PacedJob::deliveries`] of one or several jobs. An error where it
/// cannot be read, as before the first of them runs, or where something else lies in it.
pub fn delivered(dir: &Path) -> io::Result<Delivered> {
    let mut total = Delivered::default();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // What begins with a dot is being written.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let text = std::fs::read_to_string(&path)?;
        let one = read(&text).ok_or_else(|| {
            io::Error::other(format!("{} holds '{text}', not COUNT SUM", path.display()))
        })?;
        total.events += one.events;
        total.sum += one.sum;
    }
    Ok(total)
}

fn read(text: &str) -> Option<Delivered> {
    let (events, sum) = text.trim_end().split_once(' ')?;
    Some(Delivered { events: events.parse().ok()?, sum: sum.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_files_are_summed_up_and_unfinished_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("a", "2 1\n"), ("b", "1 2\n"), (".3.tmp", "1 3\n"), (".4.tmp", "")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(delivered(dir.path()).unwrap(), Delivered::first(3));
        // The third lost, the second twice.
        assert_ne!(Delivered { events: 3, sum: 2 }, Delivered::first(3));
    }

    #[test]
    fn what_is_no_count_is_named_and_a_folder_that_is_not_there_is_no_zero() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(delivered(dir.path()).unwrap(), Delivered::first(0));
        for text in ["", "1", "-1 2", "1 2 3"] {
            std::fs::write(dir.path().join("odd"), text).unwrap();
            let error = delivered(dir.path()).unwrap_err().to_string();
            assert!(error.contains("odd"), "{error}");
        }
        let missing = delivered(&dir.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}

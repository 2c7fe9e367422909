//! The only place where things are wired, printed and served.
//!
//! [`cli`] is what the user can type, [`config`] and [`input`] read the files that they name. [`run`]
//! follows a real job, [`observe`] and [`profile`] are its first two phases by themselves, [`drive`] drives one by
//! hand, all in real time ([`mod@clock`]); [`doctor`]
//! says whether that can be done; [`lab`] starts a real Flink, [`recording`] shows what was recorded of
//! a topic. [`demo`] tells the story of the three phases; [`simulate`] lives a day under each
//! policy and [`score`] judges it; [`report`] draws a day from its records, [`mod@table`] prints what
//! is printed in rows.

pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod drive;
mod duration;
pub mod fit;
pub mod forecast;
pub mod input;
mod judged;
pub mod kafka;
pub mod lab;
pub mod observe;
pub mod output;
pub mod profile;
pub mod progress;
pub mod record;
pub mod recording;
pub mod replay;
pub mod report;
pub mod run;
pub mod score;
pub mod simulate;
pub mod table;
mod wired;

use khaos_core::units::Timestamp;

/// Hours and minutes of the day.
fn clock_time(at: Timestamp) -> String {
    let minutes = at.0.div_euclid(60_000).rem_euclid(24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The time of the day to the second.
fn clock_time_exact(at: Timestamp) -> String {
    format!("{}:{:02}", clock_time(at), at.0.div_euclid(1_000).rem_euclid(60))
}

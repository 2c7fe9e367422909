//! The only place where things are wired, printed and served.
//!
//! [`cli`] is what the user can type, [`input`] reads the files that they name; [`simulate`] lives a
//! day under each policy, [`score`] judges it.

pub mod cli;
pub mod input;
pub mod score;
pub mod simulate;

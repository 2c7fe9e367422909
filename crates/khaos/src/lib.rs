//! The only place where things are wired, printed and served.

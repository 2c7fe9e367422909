//! What needs a real Kafka: the lab's broker, what is made and removed on it, what a job's topics tell of its load,
//! and the paper's two jobs.

mod admin;
mod broker;
mod load;
mod pipelines;
mod visibility;

//! What needs a real Kafka: the lab's broker, what a job's topics tell of its load, and the paper's two jobs.

mod broker;
mod load;
mod pipelines;
mod visibility;

//! Real modules through the whole way: compiled, loaded, run by the queue, under every limit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod cpu;
mod disk;
mod encode;
mod engines;
mod executors;
mod guests;
mod harness;
mod hostile_modules;
mod intake;
mod limits;
mod messages;
mod network;
mod policy;
mod running;
mod samples;
mod sandbox;
mod seeds;
mod service;
mod worker;

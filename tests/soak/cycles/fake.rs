//! Cycles on the fake engine.

use super::super::fake::Fake;
use super::{Extent, cycle};

#[test]
fn s1_cycles_of_start_and_stop_leave_threads_descriptors_streams_and_memory_constant() {
    let mut machine = Fake::new();
    let engine = machine.socket();
    cycle(&mut machine, &engine, Extent::or(40, 4), Fake::speak);
}

//! Cycles on a real engine, with compose and a real registry.

use super::super::real::Real;
use super::{Extent, cycle};

#[test]
fn s1_cycles_of_start_and_stop_leave_threads_descriptors_streams_and_memory_constant() {
    let mut machine = Real::speaking();
    let engine = machine.socket();
    // What runs writes a line a second by itself.
    cycle(&mut machine, &engine, Extent::or(16, 3), |_, _| {});
}

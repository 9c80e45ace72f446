//! The allocator of the system's libc.

/// Has all threads share one heap. Call it before the first of them is started.
///
/// The allocator of glibc gives each thread a heap of its own, so that threads that allocate all the time do not wait for
/// each other. Ours mostly wait for something else, and what they have freed lies there unused. Other allocators have one heap.
pub fn share_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "no safe crate has this call")]
        // SAFETY: sets a number of the allocator, under the allocator's own lock; no memory is passed.
        let taken = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        // Without it the agent works as well, with more memory.
        debug_assert_eq!(taken, 1, "a number that glibc knows");
    }
}

//! What allocates in static builds. Logs are allocated by one thread and freed by another; musl's own allocator serves such
//! threads one by one, and the one that zig puts in its place keeps what was freed for the thread that freed it, so that a
//! device that logs would slowly fill up (`make bench`).
//!
//! The tests of the library do without: the emulators in which they run (qemu up to 7.2) take away what lies behind a mapping
//! that `mremap` has shortened, and tests make blocks large enough for that. `make check-boards` runs the agent itself with it.

use dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

//! What allocates in static builds. Logs are allocated by one thread and freed by another; musl's own allocator serves such
//! threads one by one, and the one that zig puts in its place keeps what was freed for the thread that freed it, so that a
//! device that logs would slowly fill up (`make bench`).

use dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

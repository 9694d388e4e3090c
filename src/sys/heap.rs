//! The C library's heap.

/// One heap for all threads, where the C library would set one up for each of the first few: that costs a
/// new thread some ten system calls, which hold up the page faults of the others. peapod's threads beside
/// the first allocate little. To be called before there are threads.
pub fn share_between_threads() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) with M_ARENA_MAX only sets a limit; there is one thread, and so one arena, yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

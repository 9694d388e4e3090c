//! `fcntl(2)` for sockets, which wasi-libc in Rust 1.95 does not have: it answers EINVAL, and mio, on which
//! tokio stands, makes its sockets non-blocking by it. Where the library has one, this file can go.

use std::ffi::c_int;

/// wasi-libc, `fcntl.h` and `sys/ioctl.h`.
const F_SETFL: c_int = 4;
const O_NONBLOCK: c_int = 4;
const FIONBIO: c_int = 2;

unsafe extern "C" {
    fn ioctl(fd: c_int, request: c_int, ...) -> c_int;
}

/// Only what mio asks for.
///
/// # Safety
///
/// Called as C's `fcntl` is: with an `int` after `F_SETFL`. In the C ABI of WebAssembly the arguments behind
/// the dots come as a pointer to them.
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, command: c_int, arguments: *const c_int) -> c_int {
    if command != F_SETFL {
        return 0;
    }
    // SAFETY: the caller gives F_SETFL an int, see above.
    let nonblocking = c_int::from(unsafe { *arguments } & O_NONBLOCK != 0);
    // SAFETY: FIONBIO takes a pointer to an int.
    unsafe { ioctl(fd, FIONBIO, &raw const nonblocking) }
}

//! What the kernel says about a socket, as ss(8) asks it.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A part of `struct tcp_info` (tcp(7), TCP_INFO).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// `tcpi_state`: `include/net/tcp_states.h`.
    pub state: u8,
    /// `tcpi_unacked`; of a listener: connections that wait to be accepted.
    pub unacked: u32,
    /// `tcpi_sacked`; of a listener: how many may wait.
    pub sacked: u32,
}

/// TCP_INFO.
///
/// # Errors
/// getsockopt(2)'s.
pub fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
    // SAFETY: tcp_info is made of integers, for which all bits zero is a value.
    let zero = unsafe { MaybeUninit::<libc::tcp_info>::zeroed().assume_init() };
    let info = get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, zero)?;
    Ok(TcpInfo { state: info.tcpi_state, unacked: info.tcpi_unacked, sacked: info.tcpi_sacked })
}

/// Whether there is something to receive: data, its end, or an error (poll(2)).
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when there is not, as a receive would say, which this stands in for.
pub fn has_something(socket: impl AsFd) -> io::Result<()> {
    let mut fds = [PollFd::new(&socket, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&now)) {
        Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
        // An error of poll's own is for the receive to meet.
        _ => Ok(()),
    }
}

/// Makes room for so many more bytes in a socket's send buffer, beyond the user's limit (`wmem_max`) where this process
/// may (socket(7), SO_SNDBUFFORCE).
pub fn make_room(socket: impl AsFd, bytes: usize) {
    // The kernel counts its own overhead too, and doubles what it is told for that.
    let wanted = 2 * (bytes + unsent(&socket).unwrap_or(0) as usize);
    if setsockopt(&socket, sockopt::SndBufForce, &wanted).is_err() {
        let _ = setsockopt(&socket, sockopt::SndBuf, &wanted);
    }
}

/// Bytes that were sent and not acknowledged, or not yet sent (tcp(7), SIOCOUTQ).
///
/// # Errors
/// ioctl(2)'s.
pub fn unsent(socket: impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (which is TIOCOUTQ) writes one int to where its argument points, and `bytes` is one.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(u64::try_from(bytes).unwrap_or(0)) }
}

/// The memory, bytes, of what a socket has received and of what it is sending, with the kernel's own overhead: what
/// ss(8) shows as the queues of UDP (`SO_MEMINFO`, `SK_MEMINFO_RMEM_ALLOC` and `SK_MEMINFO_WMEM_ALLOC`).
///
/// # Errors
/// getsockopt(2)'s.
pub fn queue_memory(socket: impl AsFd) -> io::Result<(u64, u64)> {
    // `enum` in include/uapi/linux/sock_diag.h: SK_MEMINFO_VARS is 9.
    let [received, _, sending, ..] = get(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, [0u32; 9])?;
    Ok((received.into(), sending.into()))
}

/// getsockopt(2) of an option that is made of integers. What the kernel does not fill keeps its value.
fn get<T: Copy>(socket: impl AsFd, level: libc::c_int, name: libc::c_int, mut value: T) -> io::Result<T> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`, which is that long; every caller's T is made of
    // integers only, for which all bits are values.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn the_kernel_tells_of_states_and_queues() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(tcp_info(&client).unwrap().state, 1);
        let listening = tcp_info(&listener).unwrap();
        assert_eq!((listening.state, listening.unacked), (10, 1));
        assert!(listening.sacked > 0);
        let (_server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        assert!(unsent(&client).unwrap() <= 1);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(queue_memory(&udp).unwrap(), (0, 0));
        udp.send_to(b"x", udp.local_addr().unwrap()).unwrap();
        assert!(queue_memory(&udp).unwrap().0 > 0);
        assert!(tcp_info(&udp).is_err());
    }
}

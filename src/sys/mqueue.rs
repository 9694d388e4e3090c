//! POSIX message queues of this IPC namespace (mq_overview(7)). Descriptors never block, and can be polled.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An open message queue.
#[derive(Debug)]
pub struct MessageQueue(OwnedFd);

/// What a queue can hold, and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Messages at most.
    pub max_messages: u32,
    /// Bytes of a message at most.
    pub message_size: u32,
    /// Messages now.
    pub messages: u32,
}

/// What a descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `O_RDONLY`.
    Read,
    /// `O_WRONLY`.
    Write,
    /// `O_RDWR`.
    Both,
}

impl MessageQueue {
    /// Opens the queue `name`, which begins with its slash; with `make` (messages, bytes of a message) makes it, which
    /// fails with EEXIST where it is there.
    ///
    /// # Errors
    /// mq_open(3)'s.
    pub fn open(name: &CStr, access: Access, make: Option<(u32, u32)>) -> io::Result<Self> {
        let access = match access {
            Access::Read => libc::O_RDONLY,
            Access::Write => libc::O_WRONLY,
            Access::Both => libc::O_RDWR,
        };
        let flags = access | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let descriptor = match make {
            // SAFETY: the name is a C string that outlives the call.
            None => unsafe { libc::mq_open(name.as_ptr(), flags) },
            Some((max_messages, message_size)) => {
                // SAFETY: plain numbers, for which zeros are valid.
                let mut attributes: libc::mq_attr = unsafe { MaybeUninit::zeroed().assume_init() };
                attributes.mq_maxmsg = libc::c_long::from(max_messages);
                attributes.mq_msgsize = libc::c_long::from(message_size);
                let flags = flags | libc::O_CREAT | libc::O_EXCL;
                let mode: libc::mode_t = 0o600;
                // SAFETY: as above; with O_CREAT a mode and attributes follow, which outlive the call.
                unsafe { libc::mq_open(name.as_ptr(), flags, mode, &raw mut attributes) }
            }
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that mq_open has just made; on Linux it is a file descriptor (mq_overview(7)).
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Sends a message: all of it, or none.
    ///
    /// # Errors
    /// mq_send(3)'s: EAGAIN when the queue is full.
    pub fn send(&self, message: &[u8], priority: u32) -> io::Result<()> {
        // SAFETY: the pointer and the length are those of a slice that outlives the call.
        let sent =
            unsafe { libc::mq_send(self.0.as_raw_fd(), message.as_ptr().cast(), message.len(), priority) };
        if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Receives a message into a buffer of at least the queue's message size; its length and priority.
    ///
    /// # Errors
    /// mq_receive(3)'s: EAGAIN when the queue is empty, EMSGSIZE for a buffer that is too small.
    pub fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<u32> {
        let mut priority = 0;
        buffer.clear();
        // SAFETY: the pointer and the capacity are those of a buffer that outlives the call.
        let received = unsafe {
            libc::mq_receive(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.capacity(),
                &raw mut priority,
            )
        };
        let length = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel has written so many bytes, within the capacity that it was told.
        unsafe { buffer.set_len(length) };
        Ok(priority)
    }

    /// What the queue can hold, and holds.
    ///
    /// # Errors
    /// mq_getattr(3)'s.
    pub fn attributes(&self) -> io::Result<Attributes> {
        let mut attributes = MaybeUninit::<libc::mq_attr>::zeroed();
        // SAFETY: a valid pointer to write the attributes to.
        if unsafe { libc::mq_getattr(self.0.as_raw_fd(), attributes.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: zeros are valid, and the kernel has written over them.
        let attributes = unsafe { attributes.assume_init() };
        Ok(Attributes {
            max_messages: attributes.mq_maxmsg as u32,
            message_size: attributes.mq_msgsize as u32,
            messages: attributes.mq_curmsgs as u32,
        })
    }
}

/// The names of the queues of this IPC namespace, without their slash; at most so many. They are in a file system that
/// need not be mounted anywhere (fsopen(2), fsmount(2); Linux 5.2).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENODEV or ENOSYS when the kernel has none.
pub fn names(limit: usize) -> io::Result<Vec<String>> {
    let descriptor = |result: libc::c_long| {
        let descriptor = RawFd::try_from(result).ok().filter(|descriptor| *descriptor >= 0);
        // SAFETY: a descriptor that the call has just made.
        descriptor.map(|new| unsafe { OwnedFd::from_raw_fd(new) }).ok_or_else(io::Error::last_os_error)
    };
    // SAFETY: a C string that outlives the call.
    let context =
        descriptor(unsafe { libc::syscall(libc::SYS_fsopen, c"mqueue".as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    let made = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), libc::FSCONFIG_CMD_CREATE, nothing, nothing, 0)
    };
    if made != 0 {
        return Err(io::Error::last_os_error());
    }
    let (context, flags) = (context.as_raw_fd(), libc::FSMOUNT_CLOEXEC);
    // SAFETY: plain numbers.
    let root = descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context, flags, 0) })?;
    let mut directory =
        Dir::openat(&root, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let names = directory.iter().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name != "." && name != "..").take(limit).collect())
}

impl MessageQueue {
    /// What tells it from the namespace's other queues as long as it is there, whatever their names.
    ///
    /// # Errors
    /// fstat(2)'s; none is known.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(fstat(&self.0)?.st_ino)
    }

    /// Lets the event loop of this task tell when it is readable or writable.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn watch(self, interest: Interest) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is this value's own, the same for as long as it lives, and closed with it.
        Ok(unsafe { AsyncFd::register_with_interest(self, interest) }?)
    }
}

impl AsFd for MessageQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for MessageQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Removes a queue's name.
///
/// # Errors
/// mq_unlink(3)'s.
pub fn unlink(name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a C string that outlives the call.
    if unsafe { libc::mq_unlink(name.as_ptr()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_by_priority_and_nothing_blocks() {
        let name = std::ffi::CString::new(format!("/peapod-sys-{}", std::process::id())).unwrap();
        let _ = unlink(&name);
        let queue = MessageQueue::open(&name, Access::Both, Some((2, 16))).unwrap();
        let twice = MessageQueue::open(&name, Access::Both, Some((2, 16))).unwrap_err();
        assert_eq!(twice.kind(), io::ErrorKind::AlreadyExists);
        queue.send(b"low", 1).unwrap();
        queue.send(b"high", 9).unwrap();
        assert_eq!(queue.send(b"more", 1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(
            queue.attributes().unwrap(),
            Attributes { max_messages: 2, message_size: 16, messages: 2 }
        );
        let mut buffer = Vec::with_capacity(16);
        assert_eq!((queue.receive(&mut buffer).unwrap(), &buffer[..]), (9, &b"high"[..]));
        assert_eq!((queue.receive(&mut buffer).unwrap(), &buffer[..]), (1, &b"low"[..]));
        assert_eq!(queue.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        unlink(&name).unwrap();
        assert_eq!(unlink(&name).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

//! The user that one thread works with files as.
//!
//! ```text
//! thread of root ─► groups ─► fsgid ─► fsuid ─► no capabilities ─► checked ─► opens, makes and removes as the user
//! ```
//!
//! On Linux users are a property of threads; it is glibc that makes setuid(2) one of the process. Only the
//! *file system* user is changed (setfsuid(2)): with its real user a thread would give every process of that
//! user the right to trace it (ptrace(2)), and through it all memory of the pod.

use std::io;

use nix::errno::Errno;

/// `_LINUX_CAPABILITY_VERSION_3`, capget(2).
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`, capget(2).
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    /// 0: this thread.
    pid: i32,
}

/// `struct __user_cap_data_struct`, capget(2); two of them make 64 bits.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Lets this thread, and no other, work with files as a user, for good: what it makes is the user's, and it may do what
/// the user may. All but root lose every capability, those that override permissions among them.
///
/// # Errors
/// EPERM without CAP_SETUID and CAP_SETGID, EINVAL for a user or a group that this user namespace does not have. The
/// thread is of no more use then.
#[expect(unsafe_code, reason = "no other way to change the user of one thread only")]
pub fn work_as(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: setgroups(2) reads so many numbers from a slice that has them. The raw system call is for this thread
    // only, where glibc's would be for all.
    let changed = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(changed)?;
    for (call, id) in [(libc::SYS_setfsgid, gid), (libc::SYS_setfsuid, uid)] {
        // SAFETY: setfsgid(2) and setfsuid(2) take a number and touch no memory. They say what was before and nothing
        // of their own success: the second call, with an id that no one has, changes nothing and says what is.
        let is = unsafe {
            libc::syscall(call, id);
            libc::syscall(call, u32::MAX)
        };
        if is as u32 != id {
            return Err(Errno::EINVAL.into());
        }
    }
    if uid == 0 {
        return Ok(());
    }
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let none = [CapabilityData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: capset(2) reads a header and, for this version, two entries, which live until it returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })?;
    Ok(())
}

/// Whether this process's user namespace has a user, or a group, of this number (user_namespaces(7)).
///
/// # Errors
/// `/proc` is not mounted.
pub fn has_user(uid: u32) -> io::Result<bool> {
    Ok(maps(&std::fs::read_to_string("/proc/self/uid_map")?, uid))
}

/// [`has_user`] of a group.
///
/// # Errors
/// `/proc` is not mounted.
pub fn has_group(gid: u32) -> io::Result<bool> {
    Ok(maps(&std::fs::read_to_string("/proc/self/gid_map")?, gid))
}

/// Whether a `uid_map` or a `gid_map` maps an id: `inside outside length` on each line.
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
        match (numbers.next().flatten(), numbers.nth(1).flatten()) {
            (Some(first), Some(length)) => (first..first + length).contains(&u64::from(id)),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    /// What a thread of its own returns.
    fn in_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(run).join().unwrap()
    }

    #[test]
    fn a_thread_works_as_its_user_and_the_others_as_theirs() {
        if !crate::testing::needs_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let path = dir.path().to_owned();
        let secret = path.join("secret");
        fs::write(&secret, "x").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let shared = path.join("shared");
        fs::write(&shared, "x").unwrap();
        std::os::unix::fs::chown(&shared, Some(0), Some(3000)).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o660)).unwrap();
        let made = path.join("made");
        let denied = in_thread({
            let (secret, shared, made) = (secret.clone(), shared.clone(), made.clone());
            move || {
                work_as(1000, 2000, &[3000]).unwrap();
                fs::write(made, "x").unwrap();
                fs::write(shared, "by its group").unwrap();
                [fs::read(&secret).map(drop), fs::remove_file("/etc/hostname"), fs::write("/new", "x")]
                    .map(|result| result.unwrap_err().kind())
            }
        });
        assert_eq!(denied, [io::ErrorKind::PermissionDenied; 3]);
        let made = fs::metadata(made).unwrap();
        assert_eq!((made.uid(), made.gid()), (1000, 2000));
        // This thread is as it was, and so are those it makes.
        assert_eq!(in_thread(move || fs::read_to_string(secret).unwrap()), "x");
        // Root is never to be traced by a user, whatever it does on their behalf.
        in_thread(|| {
            work_as(1000, 2000, &[]).unwrap();
            assert!(nix::unistd::getuid().is_root() && nix::unistd::geteuid().is_root());
            assert!(work_as(1001, 2000, &[]).is_err(), "there is no way back");
        });
    }

    #[test]
    fn what_a_namespace_maps() {
        assert!(maps("         0          0 4294967295\n", 65534));
        let single = "      1000       1000          1\n";
        assert!(maps(single, 1000));
        assert!(!maps(single, 0) && !maps(single, 1001) && !maps("", 0) && !maps("x y z", 0));
    }
}

//! A network namespace with nothing but loopback in it.
//!
//! Needs CAP_SYS_ADMIN. Without it the benchmark runs on the machine's own loopback, and what
//! the kernel does for a packet before a process sees it cannot be told apart.

use std::io;

/// Where the benchmark runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own.
    Private,
    Shared,
}

/// Moves this thread, and all that it starts from now on, to a network of its own.
pub fn enter() -> Network {
    // SAFETY: unshare takes flags and touches no memory of ours.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    let entered = if result == 0 { raise_loopback() } else { Err(io::Error::last_os_error()) };
    match entered {
        Ok(()) => Network::Private,
        Err(error) => {
            eprintln!("no network of our own ({error}): the kernel's share is not measured");
            Network::Shared
        }
    }
}

fn raise_loopback() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open and `request` is a whole ifreq.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Raises the limit of open files, the hard one too where that is allowed: a call takes four
/// sockets in the recorder, which inherits the limit.
pub fn raise_file_limit(files: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the length of the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 && limit.rlim_cur >= files {
        return;
    }
    let wanted = libc::rlimit { rlim_cur: files, rlim_max: files.max(limit.rlim_max) };
    // SAFETY: `wanted` is a valid rlimit for the length of the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) } != 0 {
        // What can be had is what there is; the recorder says how many calls it allows.
        eprintln!("the limit of open files stays: {}", io::Error::last_os_error());
    }
}

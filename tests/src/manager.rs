//! A service manager that keeps descriptors for its service, as systemd does (FDSTORE in
//! sd_notify(3), and sd_listen_fds(3) for the way back).

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use sendfd::RecvWithFd;
use tempfile::TempDir;

use crate::product::linekeeper;

pub struct ServiceManager {
    dir: TempDir,
    kept: Arc<Mutex<VecDeque<(String, OwnedFd)>>>,
}

impl ServiceManager {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let store = Arc::clone(&kept);
        std::thread::spawn(move || {
            let (mut bytes, mut fds) = ([0; 4096], [0; 64]);
            while let Ok((length, count)) = socket.recv_with_fd(&mut bytes, &mut fds) {
                // SAFETY: the kernel has just opened them for us, and nobody else has them.
                let fds = fds[..count].iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) });
                let mut store = store.lock().expect("the store is whole");
                take(&mut store, &String::from_utf8_lossy(&bytes[..length]), fds.collect());
            }
        });
        Self { dir, kept }
    }

    /// How many descriptors it keeps.
    pub fn kept(&self) -> usize {
        self.store().len()
    }

    fn store(&self) -> MutexGuard<'_, VecDeque<(String, OwnedFd)>> {
        self.kept.lock().expect("the store is whole")
    }

    /// `linekeeper` as a service of ours, to be started with arguments.
    pub fn service(&self) -> Command {
        const FIRST: RawFd = 3;
        /// Above whatever a test has open.
        const ASIDE: RawFd = 4_000;
        let store = self.store();
        let names: Vec<&str> = store.iter().map(|(name, _)| name.as_str()).collect();
        // Only the process itself knows its id before it is one.
        let mut command = Command::new("sh");
        command
            .args(["-c", "export LISTEN_PID=$$; exec \"$0\" \"$@\""])
            .arg(linekeeper())
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"))
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        let kept: Vec<OwnedFd> =
            store.iter().map(|(_, fd)| fd.try_clone().expect("a copy")).collect();
        let place = move || {
            let mut aside = [-1; 1_024];
            for (at, fd) in kept.iter().enumerate() {
                // SAFETY: fcntl and dup2 take integers and may be called between fork and exec.
                aside[at] = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ASIDE) };
            }
            for (at, to) in (0..kept.len()).zip(FIRST..) {
                // SAFETY: as above.
                if aside[at] < 0 || unsafe { libc::dup2(aside[at], to) } < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: `place` allocates nothing and calls only what is safe between fork and exec.
        unsafe { command.pre_exec(place) };
        command
    }
}

fn take(store: &mut VecDeque<(String, OwnedFd)>, message: &str, fds: Vec<OwnedFd>) {
    let field = |name: &str| {
        message
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let name = field("FDNAME").unwrap_or_else(|| "stored".to_owned());
    if field("FDSTOREREMOVE").is_some() {
        store.retain(|(held, _)| *held != name);
    } else if field("FDSTORE").is_some() {
        store.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
    }
}

//! Leaves the RTP sockets of live calls with the service manager, so that a restart costs nothing.
//!
//! The port of a process that is gone is closed, and the kernel tells the SRC so (ICMP port
//! unreachable), which makes some stop. systemd keeps the sockets that it is handed, in its
//! descriptor store (FDSTORE in sd_notify(3)), and hands them to the next start of the service.
//! Meanwhile packets wait in them: seconds of audio.
//!
//! - Without a service manager that keeps sockets, nothing here does anything.
//! - A socket that is handed back and that no call wants is closed, here and there.
//! - Only sockets are left there, no ring: what the ring's drop let nobody have arrives at them as
//!   soon as the drop is gone, which goes with the process.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use sd_notify::NotifyState;
use socket2::{Socket, Type};

use super::ports::PortPair;

/// Begins the names of ours among what the service manager hands over.
const PREFIX: char = '~';

/// What the service manager keeps for us.
#[derive(Debug, Default)]
pub struct Kept {
    is_kept: bool,
    /// Of the process before, by address.
    inherited: HashMap<SocketAddr, UdpSocket>,
}

impl Kept {
    /// Takes what was handed over. In one process the first caller gets it, and nobody else.
    pub fn from_service_manager() -> Self {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Self::default();
        }
        let handed = match sd_notify::listen_fds_with_names() {
            Ok(handed) => handed,
            Err(error) => {
                tracing::warn!(%error, "what the service manager hands over cannot be read");
                return Self { is_kept: is_managed(), inherited: HashMap::new() };
            }
        };
        let ours = handed.filter(|(_, name)| name.starts_with(PREFIX));
        let inherited = ours
            .filter_map(|(fd, _)| {
                // SAFETY: the service manager has opened this descriptor for us (sd_listen_fds(3)),
                // and `TAKEN` lets nobody make a second owner of it.
                let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
                let address = socket.local_addr().ok()?.as_socket()?;
                (socket.r#type().ok()? == Type::DGRAM).then(|| (address, socket.into()))
            })
            .collect();
        Self { is_kept: is_managed(), inherited }
    }

    /// The sockets that this pair had in the process before.
    pub fn take(&mut self, rtp: SocketAddr, rtcp: SocketAddr) -> Option<PortPair> {
        let (rtp, rtcp) = (self.inherited.remove(&rtp)?, self.inherited.remove(&rtcp)?);
        let port = rtp.local_addr().ok()?.port();
        Some(PortPair { port, rtp, rtcp })
    }

    pub fn keep(&self, pair: &PortPair) {
        if !self.is_kept {
            return;
        }
        let name = name(pair.port);
        // A packet that could not be delivered is an error of a socket and no reason to close it.
        let state =
            [NotifyState::FdStore, NotifyState::FdName(&name), NotifyState::Custom("FDPOLL=0")];
        let sockets = [pair.rtp.as_fd(), pair.rtcp.as_fd()];
        if let Err(error) = sd_notify::notify_with_fds(&state, &sockets) {
            tracing::warn!(port = pair.port, %error, "a restart would close this port");
        }
    }

    pub fn forget(&self, port: u16) {
        if !self.is_kept {
            return;
        }
        let name = name(port);
        let state = [NotifyState::FdStoreRemove, NotifyState::FdName(&name)];
        if let Err(error) = sd_notify::notify(&state) {
            tracing::warn!(port, %error, "the service manager keeps a port that is not used");
        }
    }

    /// Closes what nobody has taken; how many sockets that are.
    pub fn discard_rest(&mut self) -> usize {
        let rest = std::mem::take(&mut self.inherited);
        for port in rest.keys().map(SocketAddr::port).filter(|port| port.is_multiple_of(2)) {
            self.forget(port);
        }
        rest.len()
    }
}

fn is_managed() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Short, because the names of all of them together are one variable of the next process, and
/// above 128 kB the kernel would not start it: room for 26,000 sockets.
fn name(port: u16) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut name = String::from(PREFIX);
    let pair = usize::from(port / 2);
    for digit in [pair / 1_296, pair / 36 % 36, pair % 36] {
        name.push(DIGITS[digit].into());
    }
    name
}

#[test]
fn every_pair_has_a_short_name_of_its_own() {
    let names: std::collections::HashSet<String> = (0..=u16::MAX).step_by(2).map(name).collect();
    assert_eq!(names.len(), 1 << 15);
    assert!(names.iter().all(|name| name.len() == 4 && name.starts_with(PREFIX)));
    assert_eq!(name(20_000), name(20_001), "both sockets of a pair go by one name");
}

#[test]
fn without_a_service_manager_nothing_is_kept_and_nothing_found() {
    let mut kept = Kept::default();
    let address = SocketAddr::from(([127, 0, 0, 1], 20_000));
    assert!(kept.take(address, address).is_none());
    assert_eq!(kept.discard_rest(), 0);
}

//! Drops audio at the door of the machine, behind the ring that has copied it.
//!
//! Without this the kernel would look for a socket for every packet, find none, and tell the
//! sender so (ICMP port unreachable), which stops it. The drop is held by descriptors: when this
//! process dies without having handed them to somebody, the kernel takes the drop away.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use super::bpf::{self, Place, PortSet, Wanted};

/// Packets that are wanted end at the ingress of every interface, for as long as this lives.
#[derive(Debug)]
pub struct IngressDrop {
    program: OwnedFd,
    /// By number of the interface.
    links: BTreeMap<u32, OwnedFd>,
}

impl IngressDrop {
    pub fn attach(wanted: &Wanted) -> io::Result<Self> {
        let mut drop = Self { program: bpf::load(wanted, Place::Ingress)?, links: BTreeMap::new() };
        drop.follow()?;
        Ok(drop)
    }

    /// To these ports, whatever address of this machine they are sent to: for measurements.
    pub fn of_ports(first: u16, last: u16) -> io::Result<Self> {
        let wanted = Wanted { ports: PortSet::new()?, addresses: Vec::new() };
        (first..=last).try_for_each(|port| wanted.ports.insert(port))?;
        Self::attach(&wanted)
    }

    /// Attaches to interfaces that are new; how many those are.
    pub fn follow(&mut self) -> io::Result<usize> {
        let before = self.links.len();
        let now = interfaces()?;
        self.links.retain(|index, _| now.contains(index));
        for index in now {
            if !self.links.contains_key(&index) {
                self.links.insert(index, bpf::attach(&self.program, index)?);
            }
        }
        Ok(self.links.len().saturating_sub(before))
    }
}

/// Every interface of this machine, by the kernel's number.
fn interfaces() -> io::Result<Vec<u32>> {
    // SAFETY: if_nameindex takes nothing and gives back an array that it wants to have back.
    let list = unsafe { libc::if_nameindex() };
    if list.is_null() {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut at = list;
    // SAFETY: the array ends with an index of 0 and is given back once, after the last use.
    unsafe {
        while (*at).if_index != 0 {
            found.push((*at).if_index);
            at = at.add(1);
        }
        libc::if_freenameindex(list);
    }
    Ok(found)
}

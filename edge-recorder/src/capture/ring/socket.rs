//! A packet socket whose packets the kernel writes into memory that we share with it
//! (packet(7), TPACKET_V3): no system call and no wake-up per packet.
//!
//! The kernel fills blocks in turn and hands each over when it is full, or a while after its
//! first packet. Blocks that are ours are read in turn and handed back.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use super::bpf::{self, Place, Wanted};

/// 64 MB: half a second of 5,000 calls, and many small blocks so that a slow trickle, which
/// closes a block at every timeout, still leaves room for seconds.
const BLOCK_BYTES: usize = 128 * 1024;
const BLOCKS: usize = 512;
/// After its first packet a block is handed over at the latest this much later.
const HAND_OVER_AFTER: Duration = Duration::from_millis(10);

/// The numbers of `linux/if_packet.h`.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const TPACKET_V3: libc::c_int = 2;
const FANOUT_CPU: u32 = 2;
const FANOUT_FLAG_DEFRAG: u32 = 0x8000;
const FANOUT_FLAG_UNIQUEID: u32 = 0x2000;

const STATUS_KERNEL: u32 = 0;
const STATUS_USER: u32 = 1 << 0;
const STATUS_CUT: u32 = 1 << 1;
const STATUS_CHECKSUM_NOT_READY: u32 = 1 << 3;
const STATUS_CHECKSUM_VALID: u32 = 1 << 7;

/// `struct tpacket_block_desc`, up to where the packets begin.
#[repr(C)]
struct Block {
    version: u32,
    offset_to_priv: u32,
    status: u32,
    packets: u32,
    first_packet_at: u32,
    bytes: u32,
    sequence: u64,
}

/// `struct tpacket3_hdr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct PacketHeader {
    next_at: u32,
    seconds: u32,
    nanoseconds: u32,
    kept_bytes: u32,
    bytes: u32,
    status: u32,
    mac: u16,
    net: u16,
    rxhash: u32,
    vlan_tci: u32,
    vlan_tpid: u16,
    padding: u16,
    zero: [u8; 8],
}

/// One packet from its IP header on, valid until the block is handed back.
#[derive(Debug)]
pub struct Frame<'a> {
    pub bytes: &'a [u8],
    /// When it arrived, in nanoseconds of CLOCK_REALTIME.
    pub wall_ns: u64,
    pub checksum: Checksum,
    /// It was longer than what was kept of it.
    pub truncated: bool,
}

/// What is known of a packet's UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Checked by the card, or never needed because the packet did not leave this machine.
    Right,
    Unknown,
}

/// The socket and its memory.
#[derive(Debug)]
pub struct RingSocket {
    fd: OwnedFd,
    memory: NonNull<c_void>,
    next: usize,
}

// SAFETY: the memory belongs to this value alone; the kernel and we hand blocks to each other by
// their status words, which are read and written atomically.
unsafe impl Send for RingSocket {}

impl RingSocket {
    /// Receives what `wanted` says, from every interface, from now on.
    pub fn open(wanted: &Wanted) -> io::Result<Self> {
        // Without a protocol it receives nothing before everything is set up.
        // SAFETY: socket takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was opened above and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let raw = fd.as_raw_fd();
        set(raw, libc::SOL_PACKET, libc::PACKET_VERSION, &TPACKET_V3)?;
        set(raw, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_BYTES as u32,
            tp_block_nr: BLOCKS as u32,
            // Only its product with the number of frames is checked by this version.
            tp_frame_size: 2_048,
            tp_frame_nr: (BLOCK_BYTES / 2_048 * BLOCKS) as u32,
            tp_retire_blk_tov: HAND_OVER_AFTER.as_millis() as u32,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(raw, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let filter = bpf::load(wanted, Place::SocketFilter)?;
        set(raw, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &filter.as_raw_fd())?;
        let memory = map(raw)?;
        let ring = Self { fd, memory, next: 0 };
        bind(raw)?;
        // Of a group of one: what is wanted is that the kernel puts fragments together first. By
        // processor, because that is a number at hand; a hash of each packet costs 250 ns.
        let group = (FANOUT_CPU | FANOUT_FLAG_DEFRAG | FANOUT_FLAG_UNIQUEID) << 16;
        set(raw, libc::SOL_PACKET, libc::PACKET_FANOUT, &group)?;
        Ok(ring)
    }

    /// Calls `each` for every packet of the blocks that are ours, and hands them back.
    pub fn read(&mut self, mut each: impl FnMut(Frame<'_>)) {
        // A flood fills blocks as fast as they are read; once around is enough for a visit.
        for _ in 0..BLOCKS {
            let block = self.block(self.next);
            // SAFETY: `block` points to a block of the mapping; its status is written by the kernel
            // too, hence atomically.
            let status = unsafe { AtomicU32::from_ptr(&raw mut (*block).status) };
            if status.load(Ordering::Acquire) & STATUS_USER == 0 {
                return;
            }
            // SAFETY: the status says that the block is ours until we hand it back below.
            unsafe { read_block(block, &mut each) };
            fence(Ordering::Release);
            status.store(STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % BLOCKS;
        }
    }

    /// Packets that the kernel had to drop because the ring was full, since the last question.
    pub fn newly_dropped(&self) -> io::Result<u64> {
        let mut statistics =
            libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
        // SAFETY: the descriptor is open and `statistics` has the length that is passed.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(u64::from(statistics.tp_drops))
    }

    fn block(&self, number: usize) -> *mut Block {
        // SAFETY: `number` is below BLOCKS, so the block lies within the mapping; blocks are
        // aligned to pages.
        unsafe { self.memory.as_ptr().byte_add(number * BLOCK_BYTES).cast() }
    }
}

impl Drop for RingSocket {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and is used by nobody any more.
        unsafe { libc::munmap(self.memory.as_ptr(), BLOCK_BYTES * BLOCKS) };
    }
}

/// # Safety
///
/// The block must be ours.
unsafe fn read_block(block: *const Block, each: &mut impl FnMut(Frame<'_>)) {
    // SAFETY: the caller's promise; a block begins with its description.
    let (packets, mut at) = unsafe { ((*block).packets, (*block).first_packet_at as usize) };
    for _ in 0..packets {
        if at + size_of::<PacketHeader>() > BLOCK_BYTES {
            return;
        }
        // SAFETY: it lies within the block, as was just checked; the kernel aligns headers.
        let header = unsafe { block.byte_add(at).cast::<PacketHeader>().read() };
        let from = at + usize::from(header.net);
        let kept = header.kept_bytes as usize;
        if from + kept > BLOCK_BYTES {
            return;
        }
        // SAFETY: the bytes lie within the block, which is ours while `each` runs.
        let bytes = unsafe { std::slice::from_raw_parts(block.byte_add(from).cast::<u8>(), kept) };
        let is_known = header.status & (STATUS_CHECKSUM_VALID | STATUS_CHECKSUM_NOT_READY) != 0;
        each(Frame {
            bytes,
            wall_ns: u64::from(header.seconds) * 1_000_000_000 + u64::from(header.nanoseconds),
            checksum: if is_known { Checksum::Right } else { Checksum::Unknown },
            truncated: header.status & STATUS_CUT != 0 || header.bytes > header.kept_bytes,
        });
        at += header.next_at as usize;
    }
}

fn set<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is open and `value` has the length that is passed; every caller passes
    // the type that the option is documented with.
    let result = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn map(fd: RawFd) -> io::Result<NonNull<c_void>> {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            BLOCK_BYTES * BLOCKS,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory).ok_or_else(|| io::Error::other("the ring was mapped at zero"))
}

/// To every interface and every protocol: only such sockets see packets before the ingress drop.
fn bind(fd: RawFd) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data, for which zeros are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the descriptor is open and the address has the length that is passed.
    let result = unsafe { libc::bind(fd, (&raw const address).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

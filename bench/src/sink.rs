//! The yardstick: one socket, recvmmsg of 256 datagrams, a nap of 2 ms when it is empty.
//!
//! Nothing that receives through a socket can do less. It reads a command a line: `count`
//! answers with what was received so far, the end of its input ends it.

use std::io::{BufRead, Write};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

const BATCH: usize = 256;
const NAP: Duration = Duration::from_millis(2);
const DATAGRAM_BYTES: usize = 2_048;
/// What a stall of the sink may leave in the socket at a million packets a second.
const BUFFER_BYTES: libc::c_int = 256 << 20;

pub fn run() -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("open the sink's socket")?;
    enlarge(&socket);
    println!("{}", socket.local_addr()?);
    let received = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let thread = {
        let (received, over) = (Arc::clone(&received), Arc::clone(&over));
        std::thread::spawn(move || drink(&socket, &received, &over))
    };
    for line in std::io::stdin().lock().lines() {
        line?;
        println!("{}", received.load(Ordering::Relaxed));
        std::io::stdout().flush()?;
    }
    over.store(true, Ordering::Relaxed);
    thread.join().expect("the sink has nothing that panics")
}

fn enlarge(socket: &UdpSocket) {
    let bytes = BUFFER_BYTES;
    for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
        // SAFETY: the descriptor is open and the option is an int of the length that is passed.
        // What the kernel does not grant shows as loss.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const bytes).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
}

fn drink(socket: &UdpSocket, received: &AtomicU64, over: &AtomicBool) -> Result<()> {
    let mut data = vec![[0_u8; DATAGRAM_BYTES]; BATCH];
    let mut vectors: Vec<libc::iovec> = data
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: DATAGRAM_BYTES })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: mmsghdr is integers and pointers, for which zero is a valid value.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    while !over.load(Ordering::Relaxed) {
        // SAFETY: every header points to a buffer of the length it names, and all of them outlive
        // the call. The timeout may be null.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        match u64::try_from(count) {
            Ok(count) if count > 0 => {
                received.fetch_add(count, Ordering::Relaxed);
            }
            _ => std::thread::sleep(NAP),
        }
    }
    Ok(())
}

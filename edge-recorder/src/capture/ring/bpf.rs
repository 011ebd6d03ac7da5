//! The one question asked of every packet in the kernel: is it audio of ours?
//!
//! Written as instructions, because it is thirty of them and a compiler for the kernel's machine
//! is not to be had where the recorder is built. The same program filters the ring (a hit is kept)
//! and guards the ingress (a hit goes no further), so that the two cannot disagree.
//!
//! A hit is a UDP datagram, whole or its first fragment, to this machine, to one of its addresses
//! that calls are told of, to a port that a call has now. IPv6 with extension headers before UDP
//! is no hit: it goes on to the kernel's own stack and is answered from there.

use std::ffi::CString;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Which packets are ours.
#[derive(Debug)]
pub struct Wanted {
    /// That calls have now.
    pub ports: PortSet,
    /// To these addresses only; empty: to any address of this machine.
    pub addresses: Vec<IpAddr>,
}

/// A set of ports that the programs in the kernel look into.
#[derive(Debug)]
pub struct PortSet {
    map: OwnedFd,
}

impl PortSet {
    pub fn new() -> io::Result<Self> {
        #[repr(C)]
        #[derive(Default)]
        struct MapCreate {
            map_type: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            map_flags: u32,
        }
        const ARRAY: u32 = 2;
        let attributes = MapCreate {
            map_type: ARRAY,
            key_size: 4,
            value_size: 1,
            max_entries: 1 << 16,
            ..MapCreate::default()
        };
        // SAFETY: `attributes` holds no pointers.
        Ok(Self { map: unsafe { bpf(MAP_CREATE, &attributes) }? })
    }

    pub fn insert(&self, port: u16) -> io::Result<()> {
        self.set(port, 1)
    }

    pub fn remove(&self, port: u16) -> io::Result<()> {
        self.set(port, 0)
    }

    fn set(&self, port: u16, value: u8) -> io::Result<()> {
        #[repr(C)]
        struct MapUpdate {
            map_fd: u32,
            unused: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let key = u32::from(port);
        let attributes = MapUpdate {
            map_fd: self.map.as_raw_fd() as u32,
            unused: 0,
            key: (&raw const key) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        // SAFETY: the pointers are to a key and a value of the sizes that the map was made with.
        unsafe { bpf_number(MAP_UPDATE, &attributes) }.map(drop)
    }
}

/// Where a program is used, by the kernel's numbers (`enum bpf_prog_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of a hit the socket is given all, of others nothing.
    SocketFilter = 1,
    /// A hit is dropped, others go on to the next program.
    Ingress = 3,
}

impl Place {
    fn verdicts(self) -> (i32, i32) {
        match self {
            Self::SocketFilter => (0x0004_0000, 0),
            Self::Ingress => (TCX_DROP, TCX_NEXT),
        }
    }
}

const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;
/// `BPF_TCX_INGRESS` of `enum bpf_attach_type`, since Linux 6.6.
const TCX_INGRESS: u32 = 46;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

/// One instruction of the kernel's machine (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A place in the program that jumps name before it is known where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    V4,
    V6,
    V4Address,
    V6Address,
    Port,
    Miss,
}

const LABELS: usize = 6;

/// Puts instructions one after another and fills in where jumps go.
#[derive(Default)]
struct Assembler {
    program: Vec<Instruction>,
    jumps: Vec<(usize, Label)>,
    places: [Option<usize>; LABELS],
}

/// Registers: arguments of a helper are 1 to 5, its result 0; 6 to 9 survive it; 10 is the stack.
const RESULT: u8 = 0;
const CONTEXT: u8 = 6;
const VALUE: u8 = 7;
const HEADER_BYTES: u8 = 8;
const STACK: u8 = 10;

/// Offsets in `struct __sk_buff`.
const PKT_TYPE: i16 = 4;
const PROTOCOL: i16 = 16;
/// Where on the stack headers are copied to.
const HEADER_AT: i16 = -64;
const PORT_AT: i16 = -8;

/// The protocol in an IP header.
const UDP: i32 = 17;

/// `bpf_map_lookup_elem`.
const MAP_LOOKUP: i32 = 1;
/// `bpf_skb_load_bytes_relative`, which counts from the IP header whatever lies before it.
const LOAD_BYTES_RELATIVE: i32 = 68;
const FROM_IP_HEADER: i32 = 1;

impl Assembler {
    fn put(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        let registers = from << 4 | to;
        self.program.push(Instruction { code, registers, offset, immediate });
    }

    fn set(&mut self, register: u8, value: i32) {
        self.put(0xb7, register, 0, 0, value);
    }

    fn copy(&mut self, to: u8, from: u8) {
        self.put(0xbf, to, from, 0, 0);
    }

    fn add(&mut self, register: u8, value: i32) {
        self.put(0x07, register, 0, 0, value);
    }

    fn load_u8(&mut self, to: u8, base: u8, offset: i16) {
        self.put(0x71, to, base, offset, 0);
    }

    fn load_u16(&mut self, to: u8, base: u8, offset: i16) {
        self.put(0x69, to, base, offset, 0);
    }

    fn load_u32(&mut self, to: u8, base: u8, offset: i16) {
        self.put(0x61, to, base, offset, 0);
    }

    /// Jumps compare the low 32 bits (class JMP32).
    fn jump(&mut self, operation: u8, register: u8, value: i32, label: Label) {
        self.jumps.push((self.program.len(), label));
        self.put(operation | 0x06, register, 0, 0, value);
    }

    fn if_equal(&mut self, register: u8, value: i32, label: Label) {
        self.jump(0x10, register, value, label);
    }

    fn if_not_equal(&mut self, register: u8, value: i32, label: Label) {
        self.jump(0x50, register, value, label);
    }

    fn if_any_bit(&mut self, register: u8, bits: i32, label: Label) {
        self.jump(0x40, register, bits, label);
    }

    /// All 64 bits: what a look-up returns is an address.
    fn if_null(&mut self, register: u8, label: Label) {
        self.jumps.push((self.program.len(), label));
        self.put(0x15, register, 0, 0, 0);
    }

    fn go_to(&mut self, label: Label) {
        self.jumps.push((self.program.len(), label));
        self.put(0x05, 0, 0, 0, 0);
    }

    fn here(&mut self, label: Label) {
        self.places[label as usize] = Some(self.program.len());
    }

    /// Copies `bytes` that lie behind the IP header's begin to the stack; misses if they are not
    /// there. Where they lie is in register 2.
    fn copy_bytes(&mut self, stack: i16, bytes: i32) {
        self.copy(1, CONTEXT);
        self.copy(3, STACK);
        self.add(3, i32::from(stack));
        self.set(4, bytes);
        self.set(5, FROM_IP_HEADER);
        self.put(0x85, 0, 0, 0, LOAD_BYTES_RELATIVE);
        self.if_not_equal(RESULT, 0, Label::Miss);
    }

    fn exit(&mut self, result: i32) {
        self.set(RESULT, result);
        self.put(0x95, 0, 0, 0, 0);
    }

    fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let to = self.places[label as usize].expect("every label that is jumped to is placed");
            self.program[at].offset =
                i16::try_from(to as i64 - at as i64 - 1).expect("the program is short");
        }
        self.program
    }
}

/// The bytes of a number as they lie in a packet, as the machine loads them.
fn network_u16(value: u16) -> i32 {
    i32::from(value.to_be())
}

fn program(wanted: &Wanted, place: Place) -> Vec<Instruction> {
    const TO_THIS_MACHINE: i32 = 0;
    let (hit, miss) = place.verdicts();
    let any = wanted.addresses.is_empty();
    let mut v4 = wanted.addresses.iter().filter(|address| address.is_ipv4()).peekable();
    let mut v6 = wanted.addresses.iter().filter(|address| address.is_ipv6()).peekable();
    // The kernel refuses a program with instructions that nothing leads to.
    let (with_v4, with_v6) = (any || v4.peek().is_some(), any || v6.peek().is_some());
    let mut code = Assembler::default();
    code.copy(CONTEXT, 1);
    code.load_u32(VALUE, CONTEXT, PKT_TYPE);
    code.if_not_equal(VALUE, TO_THIS_MACHINE, Label::Miss);
    code.load_u32(VALUE, CONTEXT, PROTOCOL);
    if with_v4 {
        code.if_equal(VALUE, network_u16(libc::ETH_P_IP as u16), Label::V4);
    }
    if with_v6 {
        code.if_equal(VALUE, network_u16(libc::ETH_P_IPV6 as u16), Label::V6);
    }
    code.go_to(Label::Miss);
    if with_v4 {
        put_v4(&mut code, any, v4);
    }
    if with_v6 {
        put_v6(&mut code, any, v6);
    }
    put_port(&mut code, wanted.ports.map.as_raw_fd());
    code.exit(hit);
    code.here(Label::Miss);
    code.exit(miss);
    code.finish()
}

/// Goes on to the port with the length of the IP header.
fn put_v4<'a>(code: &mut Assembler, any: bool, addresses: impl Iterator<Item = &'a IpAddr>) {
    code.here(Label::V4);
    code.set(2, 0);
    code.copy_bytes(HEADER_AT, 20);
    code.load_u8(VALUE, STACK, HEADER_AT + 9);
    code.if_not_equal(VALUE, UDP, Label::Miss);
    // A fragment that is not the first has no port; it is put together with the first later.
    code.load_u16(VALUE, STACK, HEADER_AT + 6);
    code.if_any_bit(VALUE, network_u16(0x1fff), Label::Miss);
    if !any {
        code.load_u32(VALUE, STACK, HEADER_AT + 16);
        for address in addresses {
            let IpAddr::V4(address) = address else { continue };
            code.if_equal(VALUE, i32::from_ne_bytes(address.octets()), Label::V4Address);
        }
        code.go_to(Label::Miss);
    }
    code.here(Label::V4Address);
    code.load_u8(HEADER_BYTES, STACK, HEADER_AT);
    code.put(0x57, HEADER_BYTES, 0, 0, 0x0f);
    code.put(0x67, HEADER_BYTES, 0, 0, 2);
    code.go_to(Label::Port);
}

/// Falls through to the port with the length of the IP header.
fn put_v6<'a>(code: &mut Assembler, any: bool, addresses: impl Iterator<Item = &'a IpAddr>) {
    code.here(Label::V6);
    code.set(2, 0);
    code.copy_bytes(HEADER_AT, 40);
    code.load_u8(VALUE, STACK, HEADER_AT + 6);
    code.if_not_equal(VALUE, UDP, Label::Miss);
    if !any {
        for address in addresses {
            let IpAddr::V6(address) = address else { continue };
            let octets = address.octets();
            // Each word that differs leads past this address.
            let words = octets
                .chunks_exact(4)
                .map(|word| i32::from_ne_bytes(word.try_into().expect("chunks of four bytes")));
            for (number, word) in (0_i16..).zip(words) {
                code.load_u32(VALUE, STACK, HEADER_AT + 24 + number * 4);
                // To behind the last word's jump: two instructions a word, and the one to go.
                let past = (3 - number) * 2 + 1;
                code.put(0x56, VALUE, 0, past, word);
            }
            code.go_to(Label::V6Address);
        }
        code.go_to(Label::Miss);
    }
    code.here(Label::V6Address);
    code.set(HEADER_BYTES, 40);
}

fn put_port(code: &mut Assembler, map: i32) {
    code.here(Label::Port);
    code.copy(2, HEADER_BYTES);
    code.add(2, 2);
    code.copy_bytes(PORT_AT, 2);
    code.load_u16(VALUE, STACK, PORT_AT);
    // From the network's order to the machine's.
    code.put(0xdc, VALUE, 0, 0, 16);
    code.put(0x63, STACK, VALUE, PORT_AT, 0);
    // The map takes two instructions, with its descriptor in the first.
    const MAP_DESCRIPTOR: u8 = 1;
    code.put(0x18, 1, MAP_DESCRIPTOR, 0, map);
    code.put(0, 0, 0, 0, 0);
    code.copy(2, STACK);
    code.add(2, i32::from(PORT_AT));
    code.put(0x85, 0, 0, 0, MAP_LOOKUP);
    code.if_null(RESULT, Label::Miss);
    code.load_u8(VALUE, RESULT, 0);
    code.if_equal(VALUE, 0, Label::Miss);
}

/// Loads the program into the kernel, which checks it.
pub fn load(wanted: &Wanted, place: Place) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct ProgLoad {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
    }
    let code = program(wanted, place);
    let license = CString::new("MIT").expect("it holds no zero");
    let mut log = vec![0_u8; 16 * 1024];
    let mut attributes = ProgLoad {
        prog_type: place as u32,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log_buf: log.as_mut_ptr() as u64,
        prog_name: *b"linekeeper\0\0\0\0\0\0",
        ..ProgLoad::default()
    };
    if place == Place::Ingress {
        attributes.expected_attach_type = TCX_INGRESS;
    }
    // SAFETY: every pointer in `attributes` is to memory of the length beside it, and lives until
    // after the call.
    let loaded = unsafe { bpf(PROG_LOAD, &attributes) };
    loaded.map_err(|error| {
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        let said = String::from_utf8_lossy(&log[..end]);
        match said.trim() {
            "" => error,
            said => io::Error::new(error.kind(), format!("{error}: {said}")),
        }
    })
}

/// Attaches an ingress program to an interface. It is detached when the descriptor is closed,
/// which the kernel does for a process that dies.
pub fn attach(program: &OwnedFd, interface: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct LinkCreate {
        prog_fd: u32,
        target_ifindex: u32,
        attach_type: u32,
        flags: u32,
        relative_fd: u32,
        /// Keeps the revision, a u64, aligned.
        unused: u32,
        expected_revision: u64,
    }
    let attributes = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target_ifindex: interface,
        attach_type: TCX_INGRESS,
        ..LinkCreate::default()
    };
    // SAFETY: `attributes` holds no pointers.
    unsafe { bpf(LINK_CREATE, &attributes) }
}

/// # Safety
///
/// `attributes` must be what the kernel expects of `command`, and its pointers valid.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf_number(command, attributes) }?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
///
/// As [`bpf`].
unsafe fn bpf_number<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: the caller's promise; the length is that of the attributes.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    match i32::try_from(result) {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(addresses: &[&str]) -> Wanted {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        // Any descriptor will do where the program is only looked at.
        let map = std::fs::File::open("/dev/null").unwrap().into();
        Wanted { ports: PortSet { map }, addresses }
    }

    #[test]
    fn no_jump_leaves_the_program_or_goes_back() {
        for addresses in [&[][..], &["192.0.2.1"], &["192.0.2.1", "2001:db8::1", "::1"]] {
            for place in [Place::SocketFilter, Place::Ingress] {
                let code = program(&wanted(addresses), place);
                for (at, instruction) in code.iter().enumerate() {
                    let is_jump = matches!(instruction.code & 7, 5 | 6)
                        && !matches!(instruction.code, 0x85 | 0x95);
                    let to = at as i64 + 1 + i64::from(instruction.offset);
                    assert!(!is_jump || (instruction.offset >= 0 && to < code.len() as i64));
                }
            }
        }
    }
}

//! Packets for which the journal had no room: what a call has lost is told in the call.

/// What the journal has refused since it last took packets of this call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    pub packets: usize,
    /// When the first and the last of them arrived.
    pub from_boot_ns: u64,
    pub to_boot_ns: u64,
}

impl Refused {
    pub fn add(&mut self, packets: usize, from_boot_ns: u64, to_boot_ns: u64) {
        if self.packets == 0 {
            self.from_boot_ns = from_boot_ns;
        }
        self.packets += packets;
        self.from_boot_ns = self.from_boot_ns.min(from_boot_ns);
        self.to_boot_ns = self.to_boot_ns.max(to_boot_ns);
    }

    /// For the mark on the time line.
    pub fn detail(&self) -> String {
        format!("the disk did not keep up: {} packets lost", self.packets)
    }
}

#[test]
fn what_was_refused_is_counted_from_the_first_to_the_last() {
    let mut refused = Refused::default();
    refused.add(3, 100, 160);
    refused.add(2, 180, 200);
    assert_eq!(refused, Refused { packets: 5, from_boot_ns: 100, to_boot_ns: 200 });
    assert!(refused.detail().ends_with("5 packets lost"));
}

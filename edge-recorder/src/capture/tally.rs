//! Counts of one visit, told to the metrics at its end: finding a counter by its name costs as
//! much as taking a packet.

use std::collections::BTreeMap;

use metrics::counter;

#[derive(Debug, Default)]
pub struct Tally {
    /// RTP packets.
    pub recorded: u64,
    pub lost: u64,
    pub dropped_by_kernel: u64,
    pub not_authentic: u64,
    pub reports_sent: u64,
    rejected: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub fn reject(&mut self, reason: &'static str) {
        *self.rejected.entry(reason).or_default() += 1;
    }

    /// Tells what was counted, and begins anew.
    pub fn tell(&mut self) {
        let counted = std::mem::take(self);
        for (name, count) in [
            ("linekeeper_rtp_packets_total", counted.recorded),
            ("linekeeper_rtp_lost_packets_total", counted.lost),
            ("linekeeper_rtp_kernel_dropped_packets_total", counted.dropped_by_kernel),
            ("linekeeper_srtp_not_authentic_packets_total", counted.not_authentic),
            ("linekeeper_rtcp_reports_sent_total", counted.reports_sent),
        ] {
            if count > 0 {
                counter!(name).increment(count);
            }
        }
        for (reason, count) in counted.rejected {
            counter!("linekeeper_rtp_rejected_packets_total", "reason" => reason).increment(count);
        }
    }
}

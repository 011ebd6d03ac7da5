//! Prometheus metrics. Their names are promised to operators: add, never rename.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use model::WallTime;
use siprec::Counts;

use crate::journal::{Positions, Room, SyncObserver};

const SYNC_SECONDS: &str = "linekeeper_journal_sync_seconds";

/// A sync took 2 to 10 ms at the median and up to 0.8 s at worst where we measured.
const SYNC_BUCKETS_SECONDS: [f64; 10] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Renders all metrics of this process. Several recorders in one process share them.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(SYNC_SECONDS.to_owned()), &SYNC_BUCKETS_SECONDS)
            .expect("the list of buckets is not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Somebody else's recorder is in place only if the process that embeds us installed one;
        // then ours stays empty and theirs has everything.
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed, /metrics will be empty");
        }
        describe();
        handle
    });
    handle.clone()
}

fn describe() {
    describe_gauge!(
        "linekeeper_position_seconds",
        "Unix time of the newest packet that is received, synced, stored, announced; now, when idle"
    );
    describe_gauge!(
        "linekeeper_oldest_unstored_seconds",
        "Age of the oldest audio that only this machine has"
    );
    describe_gauge!("linekeeper_calls_active", "Recording sessions in progress");
    describe_counter!("linekeeper_calls_total", "Recording sessions accepted");
    describe_counter!("linekeeper_calls_refused_total", "Recording sessions refused, by reason");
    describe_counter!(
        "linekeeper_calls_flagged_total",
        "Calls in progress that did not sound as they should, by flag"
    );
    describe_counter!("linekeeper_rtp_packets_total", "RTP packets recorded");
    describe_counter!(
        "linekeeper_rtp_lost_packets_total",
        "RTP packets that were sent, by their sequence numbers, and did not come"
    );
    describe_counter!(
        "linekeeper_rtp_rejected_packets_total",
        "Packets on RTP ports that were not recorded, by reason"
    );
    describe_counter!(
        "linekeeper_srtp_not_authentic_packets_total",
        "Packets of encrypted streams that are not of who has the key, of those that were tried"
    );
    describe_counter!("linekeeper_rtcp_reports_sent_total", "RTCP reports sent to SRCs");
    describe_counter!(
        "linekeeper_rtp_kernel_dropped_packets_total",
        "Packets that the kernel dropped because a socket's buffer was full"
    );
    describe_counter!(
        "linekeeper_journal_dropped_packets_total",
        "Packets lost because the journal's buffer was full"
    );
    describe_counter!(
        "linekeeper_capture_stalled_sweeps_total",
        "Visits of the RTP sockets left out because the recorder took nothing"
    );
    describe_counter!(
        "linekeeper_sip_strangers_total",
        "SIP messages from addresses that are no trunk, by the answer they got"
    );
    describe_counter!(
        "linekeeper_sip_foreign_requests_total",
        "Requests in a dialog that did not come from the dialog's trunk"
    );
    describe_counter!("linekeeper_sip_challenges_total", "Requests answered 401");
    describe_counter!(
        "linekeeper_sip_wrong_passwords_total",
        "Credentials with a wrong user or password"
    );
    describe_counter!("linekeeper_sip_unreadable_total", "What could not be read as SIP");
    describe_counter!(
        "linekeeper_sip_connections_refused_total",
        "SIP connections closed at once because too many are open, by limit"
    );
    describe_gauge!(
        "linekeeper_disk_full_in_seconds",
        "Until new calls are refused, at the present rate and without any upload"
    );
    describe_gauge!("linekeeper_capacity_used_ratio", "Share in use, of calls and of ports");
    describe_counter!("linekeeper_uploaded_bytes_total", "Bytes put into the object store");
    describe_gauge!("linekeeper_trunk_calls_active", "Recording sessions in progress, by trunk");
    describe_histogram!(SYNC_SECONDS, "Time that a sync of the journal took");
    describe_counter!("linekeeper_journal_sync_errors_total", "Syncs of the journal that failed");
    // Counters that are absent until something goes wrong cannot be alarmed on.
    for name in [
        "linekeeper_rtp_packets_total",
        "linekeeper_rtp_lost_packets_total",
        "linekeeper_rtp_kernel_dropped_packets_total",
        "linekeeper_srtp_not_authentic_packets_total",
        "linekeeper_journal_dropped_packets_total",
        "linekeeper_journal_sync_errors_total",
        "linekeeper_calls_total",
    ] {
        counter!(name).increment(0);
    }
}

/// What the journal tells after each sync.
pub fn sync_observer() -> SyncObserver {
    Arc::new(|took: Duration, ok| {
        histogram!(SYNC_SECONDS).record(took.as_secs_f64());
        if !ok {
            counter!("linekeeper_journal_sync_errors_total").increment(1);
        }
    })
}

/// What strangers and the unauthenticated cause.
pub fn tell_sip_counts(counts: Counts) {
    for (name, labels, count) in [
        ("linekeeper_sip_strangers_total", Some(("answer", "none")), counts.silenced),
        ("linekeeper_sip_strangers_total", Some(("answer", "forbidden")), counts.forbidden),
        ("linekeeper_sip_foreign_requests_total", None, counts.foreign),
        ("linekeeper_sip_challenges_total", None, counts.challenged),
        ("linekeeper_sip_wrong_passwords_total", None, counts.wrong_passwords),
        ("linekeeper_calls_refused_total", Some(("reason", "over_limit")), counts.over_limit),
        ("linekeeper_sip_unreadable_total", None, counts.unreadable),
    ] {
        match labels {
            Some((label, value)) => counter!(name, label => value).increment(count),
            None => counter!(name).increment(count),
        }
    }
}

/// The four positions as times.
pub fn tell_positions(positions: &Positions, now: WallTime) {
    let each = [
        ("received", positions.received),
        ("synced", positions.synced),
        ("stored", positions.stored),
        ("announced", positions.announced),
    ];
    for (name, reached) in each {
        let newest = positions.newest_packet_or_now(reached, now);
        gauge!("linekeeper_position_seconds", "position" => name).set(seconds(newest));
    }
    gauge!("linekeeper_oldest_unstored_seconds").set(oldest_unstored_seconds(positions, now));
}

/// Tells how long the disk will last.
pub fn tell_disk(seconds_left: f64) {
    gauge!("linekeeper_disk_full_in_seconds").set(seconds_left);
}

/// How much of what there is of something is in use: 1 is all of it.
pub fn tell_capacity(of: &'static str, used: usize, all: usize) {
    let ratio = if all == 0 { 1.0 } else { used as f64 / all as f64 };
    gauge!("linekeeper_capacity_used_ratio", "of" => of).set(ratio);
}

/// For how long the disk has room at the rate at which calls fill it, if nothing could be
/// uploaded from now on.
#[derive(Debug, Default)]
pub struct Filling {
    before: Option<(Instant, u64)>,
    bytes_per_sec: f64,
}

/// Over about so long the rate is averaged.
const FILLING_AVERAGED_SECS: f64 = 60.0;

/// A disk that lasts longer is said to last for so long.
const FILLING_FOREVER_SECS: f64 = 100.0 * 24.0 * 3600.0;

impl Filling {
    pub fn seconds_left(&mut self, room: Room, now: Instant) -> f64 {
        if let Some((at, written)) = self.before.replace((now, room.written_bytes)) {
            let secs = now.saturating_duration_since(at).as_secs_f64().max(0.001);
            let rate = room.written_bytes.saturating_sub(written) as f64 / secs;
            let weight = 1.0 - (-secs / FILLING_AVERAGED_SECS).exp();
            self.bytes_per_sec += (rate - self.bytes_per_sec) * weight;
        }
        (room.above_floor_bytes as f64 / self.bytes_per_sec.max(1.0)).min(FILLING_FOREVER_SECS)
    }
}

#[test]
fn the_disk_lasts_as_long_as_the_rate_of_the_last_minutes_says() {
    let begun = Instant::now();
    let mut filling = Filling::default();
    let room = |written_bytes| Room { above_floor_bytes: 1_000_000_000, written_bytes };
    assert_eq!(filling.seconds_left(room(0), begun), FILLING_FOREVER_SECS, "nothing is written");
    let mut left = 0.0;
    for second in 1..=600 {
        left = filling.seconds_left(room(second * 100_000), begun + Duration::from_secs(second));
    }
    assert!((9_900.0..10_100.0).contains(&left), "1 GB at 100 kB/s lasts 10,000 s: {left}");
    let full = Room { above_floor_bytes: 0, written_bytes: 60_000_000 };
    assert_eq!(filling.seconds_left(full, begun + Duration::from_secs(601)), 0.0);
}

fn oldest_unstored_seconds(positions: &Positions, now: WallTime) -> f64 {
    positions.oldest_unstored.map_or(0.0, |oldest| now.ms_since(oldest) as f64 / 1_000.0)
}

fn seconds(time: WallTime) -> f64 {
    time.unix_ms() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_what_is_unstored_is_that_of_its_oldest_packet() {
        let now = WallTime::from_unix_ms(10_000);
        let with = |oldest_unstored| Positions { oldest_unstored, ..Positions::default() };
        assert_eq!(oldest_unstored_seconds(&with(None), now), 0.0);
        let oldest = WallTime::from_unix_ms(4_000);
        assert_eq!(oldest_unstored_seconds(&with(Some(oldest)), now), 6.0);
    }

    #[test]
    fn every_promised_name_is_rendered() {
        let handle = install();
        let now = WallTime::from_unix_ms(1_700_000_000_500);
        tell_positions(&Positions::default(), now);
        sync_observer()(Duration::from_millis(3), true);
        gauge!("linekeeper_calls_active").set(0.0);
        let text = handle.render();
        for name in [
            "linekeeper_position_seconds{position=\"received\"} 1700000000.5",
            "linekeeper_position_seconds{position=\"announced\"}",
            "linekeeper_calls_active ",
            "linekeeper_rtp_packets_total ",
            "linekeeper_rtp_lost_packets_total ",
            "linekeeper_journal_sync_seconds_bucket",
            "linekeeper_oldest_unstored_seconds ",
        ] {
            assert!(text.contains(name), "{name} is not in:\n{text}");
        }
    }
}

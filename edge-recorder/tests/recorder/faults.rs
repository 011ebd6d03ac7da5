//! What the machine does to a recorder: disks that stall and fill up, more calls than it can take.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use model::recording::MarkKind;
use model::{EventBody, RecordingEvent};
use storage_ports::survived::survived;
use tempfile::TempDir;

use crate::support::{Site, Src, assert_said};

/// A file system of its own. Unlike the machine's, it may be frozen and filled.
struct Volume {
    dir: TempDir,
    frozen: bool,
}

impl Volume {
    /// `None`: this machine does not let us mount anything, and `test` counts as skipped.
    fn mount(test: &str, megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("disk"));
        std::fs::create_dir(&at).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(u64::from(megabytes) << 20).unwrap();
        let made = run("mkfs.ext4", ["-q", "-F", "-m", "0"], &[&image])
            && run("mount", ["-o", "loop"], &[&image, &at]);
        if !made {
            let path = std::env::var_os("LINEKEEPER_SKIPPED_TESTS");
            if let Some(path) = path {
                use std::io::Write;
                let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
                writeln!(file.unwrap(), "{test}: no file system can be mounted here").unwrap();
            }
            return None;
        }
        Some(Self { dir, frozen: false })
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Whoever writes waits from now on.
    fn freeze(&mut self) {
        assert!(run("fsfreeze", ["-f"], &[&self.path()]), "frozen");
        self.frozen = true;
    }

    fn thaw(&mut self) {
        assert!(run("fsfreeze", ["-u"], &[&self.path()]), "thawed");
        self.frozen = false;
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.frozen {
            run("fsfreeze", ["-u"], &[&self.path()]);
        }
        // Lazily: after a test that failed somebody may still have files open.
        run("umount", ["-l"], &[&self.path()]);
    }
}

fn run<const N: usize>(program: &str, options: [&str; N], paths: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command.args(options).args(paths).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Both streams, until `length` has passed.
async fn speak_for(src: &mut Src, length: Duration, said: &mut [Vec<Vec<u8>>; 2]) {
    let begun = Instant::now();
    while begun.elapsed() < length {
        for (said, more) in said.iter_mut().zip(src.speak(10).await) {
            said.extend(more);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_stalls_for_one_second_or_five_costs_no_packet() {
    const TEST: &str = "a_disk_that_stalls_for_one_second_or_five_costs_no_packet";
    let Some(mut volume) = Volume::mount(TEST, 48) else { return };
    let mut site = Site::new().await;
    site.config.journal.dir = volume.path().join("journal");
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let session = events.session(&src.call_id).await;
    let mut said = [Vec::new(), Vec::new()];
    for seconds in [1, 5] {
        speak_for(&mut src, Duration::from_millis(300), &mut said).await;
        volume.freeze();
        speak_for(&mut src, Duration::from_secs(seconds), &mut said).await;
        volume.thaw();
    }
    assert_eq!(src.bye().await.status, 200);
    events.stored_end(session).await;
    let is_gap =
        |event: &RecordingEvent| matches!(event.body, EventBody::Mark { mark: MarkKind::Gap, .. });
    assert!(!events.seen.iter().any(is_gap), "{:?}", events.seen);
    let stored = site.stored(session).await;
    for (stream, said) in (0..).zip(&said) {
        assert_said(&stored.datagrams(stream), said);
    }
    let said = said[0].len() + said[1].len();
    recorder.stop().await;
    survived(
        "disk stalls for 1 s and for 5 s",
        "the file system under the journal is frozen while a call is on",
        &format!("every one of {said} packets is there"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stalled_disk_costs_is_counted_and_marked_in_the_call() {
    const TEST: &str = "what_a_stalled_disk_costs_is_counted_and_marked_in_the_call";
    let Some(mut volume) = Volume::mount(TEST, 48) else { return };
    let mut site = Site::new().await;
    site.config.journal.dir = volume.path().join("journal");
    // A fraction of a second.
    site.config.journal.buffer_bytes = (32 << 10).try_into().unwrap();
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let session = events.session(&src.call_id).await;
    let mut said = [Vec::new(), Vec::new()];
    speak_for(&mut src, Duration::from_millis(300), &mut said).await;
    volume.freeze();
    // Longer than everything that is in front of the disk can hold.
    speak_for(&mut src, Duration::from_secs(6), &mut said).await;
    volume.thaw();
    // The call goes on, and what comes now is there again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let last = src.speak(20).await;
    assert_eq!(src.bye().await.status, 200);
    events.stored_end(session).await;
    let stored = site.stored(session).await;
    let mut found = 0;
    for (stream, (said, last)) in (0..).zip(said.iter_mut().zip(&last)) {
        said.extend(last.iter().cloned());
        let datagrams = stored.datagrams(stream);
        found += datagrams.len();
        assert_said(&datagrams[datagrams.len() - last.len()..], last);
        let mut said = said.iter();
        assert!(datagrams.iter().all(|found| said.any(|said| said == found)), "in order, once");
    }
    let said: usize = said.iter().map(Vec::len).sum();
    let marks: Vec<_> = events
        .seen
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Mark { mark: MarkKind::Gap, begins, detail, .. } => {
                Some((event.at, *begins, detail.clone().unwrap()))
            }
            _ => None,
        })
        .collect();
    let told: usize = marks
        .iter()
        .filter(|(_, begins, _)| *begins)
        .map(|(_, _, detail)| {
            let count = detail.split(": ").nth(1).unwrap().split(' ').next().unwrap();
            count.parse::<usize>().unwrap()
        })
        .sum();
    assert!(told > 0, "the stall was survived without any loss: it proves nothing");
    assert_eq!(found + told, said, "{marks:?}");
    let gap_ms: i64 = marks
        .iter()
        .map(|(at, begins, _)| if *begins { -at.unix_ms() } else { at.unix_ms() })
        .sum();
    assert!((0..=6_500).contains(&gap_ms), "{marks:?}");
    recorder.stop().await;
    survived(
        "disk stalls for longer than all buffers",
        "the file system is frozen for 6 s, with a journal buffer of 32 kB",
        &format!(
            "the call goes on; {told} of {said} packets lost, and told as a gap to the packet"
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_new_calls_go_elsewhere_and_calls_in_progress_are_whole() {
    const TEST: &str = "on_a_full_disk_new_calls_go_elsewhere_and_calls_in_progress_are_whole";
    let Some(volume) = Volume::mount(TEST, 48) else { return };
    let mut site = Site::new().await;
    site.config.journal.dir = volume.path().join("journal");
    site.config.journal.min_free_bytes = 16 << 20;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let session = events.session(&src.call_id).await;
    let mut said = [Vec::new(), Vec::new()];
    speak_for(&mut src, Duration::from_millis(300), &mut said).await;
    let hog = volume.path().join("hog");
    assert!(run("fallocate", ["-l", "25M"], &[&hog]), "filled");
    speak_for(&mut src, Duration::from_secs(1), &mut said).await;
    let why = recorder.wait_for_health(503).await;
    assert!(why.contains("bytes free"), "{why}");
    let mut late = Src::udp(recorder.ready.sip).await;
    assert_eq!(late.invite(None).await.status, 503);
    speak_for(&mut src, Duration::from_secs(1), &mut said).await;
    assert_eq!(src.bye().await.status, 200);
    events.stored_end(session).await;
    let stored = site.stored(session).await;
    for (stream, said) in (0..).zip(&said) {
        assert_said(&stored.datagrams(stream), said);
    }
    std::fs::remove_file(hog).unwrap();
    recorder.wait_for_health(200).await;
    recorder.stop().await;
    survived(
        "disk full",
        "a file fills the file system of the journal while a call is on",
        "new calls get 503, the call in progress is whole; room again, calls again",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn half_again_as_many_calls_as_there_is_room_for_disturb_none_that_was_taken() {
    const ROOM: usize = 20;
    let mut site = Site::new().await;
    let first = site.config.rtp.ports.first;
    site.config.rtp.ports = format!("{first}-{}", first as usize + ROOM * 4 - 1).parse().unwrap();
    let recorder = site.start().await;
    let mut events = site.events();
    let (mut taken, mut refused) = (Vec::new(), 0);
    for _ in 0..ROOM * 3 / 2 {
        let mut src = Src::udp(recorder.ready.sip).await;
        match src.invite(Some(&src.metadata())).await.status {
            200 => taken.push((src, [Vec::new(), Vec::new()])),
            503 => refused += 1,
            other => panic!("answered {other}"),
        }
        // Those in progress go on all the while.
        for (src, said) in &mut taken {
            for (said, more) in said.iter_mut().zip(src.speak(2).await) {
                said.extend(more);
            }
        }
    }
    assert_eq!((taken.len(), refused), (ROOM, ROOM / 2));
    for (src, _) in &mut taken {
        assert_eq!(src.bye().await.status, 200);
    }
    let mut packets = 0;
    for (src, said) in &taken {
        let session = events.session(&src.call_id).await;
        events.stored_end(session).await;
        let stored = site.stored(session).await;
        for (stream, said) in (0..).zip(said) {
            assert_said(&stored.datagrams(stream), said);
            packets += said.len();
        }
    }
    recorder.stop().await;
    survived(
        "1.5 × as many calls as there is room for",
        "30 calls are placed where the ports allow 20, while those taken talk",
        &format!("10 get 503; of the 20 taken every one of {packets} packets is there"),
    );
}

//! Places a call with SIPp, a SIP client that knows nothing of us.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::bin_dir;

/// The voice on the first m-line of the scenario, and the one on the second.
pub const SEED_A: u64 = 101;
pub const SEED_B: u64 = 202;

/// Where the scenario waits.
const PAUSE: &str = "<pause/>";

const OPTIONS_AND_200: &str = r#"<recv request="OPTIONS"/>
  <send>
    <![CDATA[
      SIP/2.0 200 OK
      [last_Via:]
      [last_From:]
      [last_To:]
      [last_Call-ID:]
      [last_CSeq:]
      Content-Length: 0

    ]]>
  </send>
  "#;

/// Whether SIPp is installed.
pub fn is_installed() -> bool {
    Command::new("sipp").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Runs `tests/sipp/two_streams.xml` once and returns the Call-ID. `transport` is SIPp's `-t`:
/// `u1` or `t1`. Panics with SIPp's own trace when the call does not go as the scenario says.
pub fn call(srs: SocketAddr, transport: &str, seconds: u32) -> String {
    call_through(srs, transport, seconds, 0, seconds)
}

/// The same, but the SRC is asked so many times whether the call still exists, as a restarted
/// recorder does; it hangs up `last_seconds` after the last of them.
pub fn call_through(
    srs: SocketAddr,
    transport: &str,
    seconds: u32,
    asked: usize,
    last_seconds: u32,
) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("sipp/two_streams.xml");
    let written = std::fs::read_to_string(written).expect("the scenario can be read");
    assert!(written.contains(PAUSE), "the scenario waits for its media");
    let scenario = dir.path().join("scenario.xml");
    let through = format!("{}{PAUSE}", OPTIONS_AND_200.repeat(asked));
    std::fs::write(&scenario, written.replace(PAUSE, &through)).expect("it can be written");
    let (rtp_a, rtp_b) = (free_port(), free_port());
    let call_id = format!("sipp-{transport}-{}-{rtp_a}@linekeeper.test", srs.port());
    let output = Command::new("sipp")
        .current_dir(dir.path())
        .arg(srs.to_string())
        .arg("-sf")
        .arg(scenario)
        .args(["-m", "1", "-nostdin", "-trace_err", "-trace_msg", "-t", transport])
        .args(["-i", "127.0.0.1", "-p", &free_port().to_string(), "-cid_str", &call_id])
        .args(["-key", "rtp_a", &rtp_a.to_string(), "-key", "rtp_b", &rtp_b.to_string()])
        .args(["-key", "seconds", &seconds.to_string()])
        .arg("-key")
        .arg("sender")
        .arg(bin_dir().join("rtp-send"))
        .args([
            "-timeout",
            &(seconds + 60).to_string(),
            "-d",
            &(last_seconds * 1000 + 700).to_string(),
        ])
        .stdin(Stdio::null())
        .output()
        .expect("sipp starts");
    if !output.status.success() {
        let mut trace = String::new();
        for entry in dir.path().read_dir().expect("the directory is ours").flatten() {
            trace.push_str(&std::fs::read_to_string(entry.path()).unwrap_or_default());
        }
        panic!("sipp: {}\n{trace}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    call_id
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("a bound socket has an address").port()
}

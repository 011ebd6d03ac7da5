//! Wireshark's opinion of bytes.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether tshark is installed; text2pcap comes with it.
pub fn is_installed() -> bool {
    Command::new("tshark").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A capture file with these datagrams, all from port `port` to itself.
pub fn capture(port: u16, datagrams: &[Vec<u8>], file: &Path) {
    let mut dump = String::new();
    for datagram in datagrams {
        for (row, bytes) in datagram.chunks(16).enumerate() {
            write!(dump, "{:06x}", row * 16).expect("a String grows");
            bytes.iter().for_each(|byte| write!(dump, " {byte:02x}").expect("a String grows"));
            dump.push('\n');
        }
    }
    let text = file.with_extension("txt");
    std::fs::write(&text, dump).expect("a temporary file");
    let ports = format!("{port},{port}");
    let output = Command::new("text2pcap").args(["-u", &ports]).args([&text, file]).output();
    let output = output.expect("text2pcap starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The fields of every packet that the filter lets through, a line each.
pub fn fields(file: &Path, decode_as: &[String], filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields"]);
    decode_as.iter().for_each(|rule| {
        command.args(["-d", rule]);
    });
    fields.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let output = command.output().expect("tshark starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{filter}: {errors}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Asserts that nothing in the file is malformed or worth a warning.
#[track_caller]
pub fn assert_no_complaint(file: &Path, decode_as: &[String]) {
    // 0x600000 is "warning".
    let bad = "_ws.malformed || _ws.expert.severity >= 0x600000";
    let complaints = fields(file, decode_as, bad, &["frame.number", "_ws.expert.message"]);
    assert!(complaints.is_empty(), "{complaints:?}");
}

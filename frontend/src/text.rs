//! What the product says about a call, in words.

use model::recording::{MarkKind, flag};
use model::{Participant, Recording, Status, Track};

/// `1:23`, or `1:02:03` from an hour on.
pub fn clock(seconds: f64) -> String {
    let seconds = if seconds.is_finite() && seconds > 0.0 { seconds as u64 } else { 0 };
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// `1 minute 23 seconds`: as it is read out.
pub fn spoken(seconds: f64) -> String {
    let seconds = if seconds.is_finite() && seconds > 0.0 { seconds as u64 } else { 0 };
    let parts =
        [(seconds / 3_600, "hour"), (seconds / 60 % 60, "minute"), (seconds % 60, "second")];
    let said: Vec<String> =
        parts.into_iter().filter(|&(n, _)| n > 0).map(|(n, unit)| count(n, unit)).collect();
    if said.is_empty() { "0 seconds".to_owned() } else { said.join(" ") }
}

/// `1 call`, `2 calls`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {one}s", grouped(number)) }
}

/// `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A glyph's name and the word beside it: a state is never told by colour alone.
pub fn status(status: Status, playable: bool) -> (&'static str, &'static str) {
    match (status, playable) {
        (Status::Recording, _) => ("live", "Recording"),
        (Status::Finalizing, false) => ("upload", "Finalising"),
        // Playable already, and being built again with what came late.
        (Status::Finalizing, true) | (Status::Stored, true) => ("stored", "Stored"),
        (Status::Stored, false) => ("none", "No audio"),
        (Status::Partial, _) => ("partial", "Partial"),
        (Status::Purging, _) => ("deleted", "Deleting"),
        (Status::Deleted, _) => ("deleted", "Deleted"),
    }
}

/// What the state means for who wants to listen.
pub fn status_sentence(recording: &Recording) -> &'static str {
    match (recording.status, recording.playable) {
        (Status::Recording, _) => {
            "This call is being recorded now. It can be played shortly after it ends."
        }
        (Status::Finalizing, false) => {
            "This call has ended and is stored. Its audio is being prepared, which takes a moment."
        }
        (Status::Finalizing, true) => {
            "More of this call has arrived since it was prepared; it is being prepared again."
        }
        (Status::Stored, true) => "This call is stored and complete.",
        (Status::Stored, false) => {
            "This call is stored. It has signalling but no audio that can be played."
        }
        (Status::Partial, true) => {
            "The end of this call was never seen. What was received can be played."
        }
        (Status::Partial, false) => {
            "The end of this call was never seen. What was received is being prepared."
        }
        (Status::Purging, _) => "This call is being deleted by a retention policy.",
        (Status::Deleted, _) => "This call was deleted. What remains is this record of it.",
    }
}

/// Whether the recording can still change by itself.
pub fn is_moving(recording: &Recording) -> bool {
    match recording.status {
        Status::Recording | Status::Finalizing | Status::Purging => true,
        Status::Partial => !recording.playable,
        Status::Stored | Status::Deleted => false,
    }
}

/// A flag in two or three words, for the list.
pub fn flag_label(name: &str) -> String {
    match name {
        flag::NO_METADATA => "no metadata".to_owned(),
        flag::METADATA_ERROR => "bad metadata".to_owned(),
        flag::NO_LABEL => "no label".to_owned(),
        flag::NO_SIPREC_TAG => "not SIPREC".to_owned(),
        flag::UNTRUSTED_SOURCE => "unknown source".to_owned(),
        flag::SILENT_TRACK => "silent track".to_owned(),
        flag::NO_PACKETS => "no packets".to_owned(),
        flag::INTERRUPTED => "interrupted".to_owned(),
        flag::UNDECODED_TRACK => "not decoded".to_owned(),
        flag::MIXED => "mixed".to_owned(),
        flag::NOT_AUTHENTIC => "not authentic".to_owned(),
        flag::ONE_WAY_AUDIO => "one-way audio".to_owned(),
        flag::WRONG_CODEC => "wrong codec".to_owned(),
        flag::CLOCK_TROUBLE => "clock trouble".to_owned(),
        flag::NO_ACK => "no ACK".to_owned(),
        other => other.replace('_', " "),
    }
}

/// What a flag means and what to look at.
pub fn flag_sentence(name: &str) -> String {
    match name {
        flag::NO_METADATA => {
            "The client sent no SIPREC metadata, so nobody on this call is known by name."
        }
        flag::METADATA_ERROR => {
            "The client sent metadata that could not be read. The document is kept as it came, \
             below."
        }
        flag::NO_LABEL => {
            "A stream had no label, so the metadata cannot say whose voice it carries."
        }
        flag::NO_SIPREC_TAG => {
            "The client did not mark this call as a recording session. It was recorded anyway."
        }
        flag::UNTRUSTED_SOURCE => "The call came from an address that is not a configured trunk.",
        flag::SILENT_TRACK => {
            "Nothing but silence was heard on a track. The client may have forwarded no audio."
        }
        flag::NO_PACKETS => {
            "A stream was agreed on and no packet of it ever came. Look for a firewall between \
             the client and the recorder's RTP ports."
        }
        flag::INTERRUPTED => {
            "The recorder restarted during this call and went on. The gap is marked."
        }
        flag::UNDECODED_TRACK => {
            "A stream uses a codec that cannot be played here. Its packets are kept."
        }
        flag::MIXED => "One stream carries several voices, so they cannot be told apart.",
        flag::NOT_AUTHENTIC => {
            "Packets of an encrypted stream were not made with the key that was agreed on. They are \
             kept and not played. Look for a stranger on the network, or a client with a wrong key."
        }
        flag::ONE_WAY_AUDIO => {
            "One party is heard and the other is not. They may have had the same trouble."
        }
        flag::WRONG_CODEC => {
            "Most packets of a stream were of a kind that was never agreed on. Look at the codecs \
             of the client."
        }
        flag::CLOCK_TROUBLE => {
            "A clock of the client was set during the call, or its reports contradict each other. \
             The streams lie beside each other as they arrived."
        }
        flag::NO_ACK => "The client never acknowledged the recorder's answer (no ACK).",
        other => return format!("The recorder noted: {}.", other.replace('_', " ")),
    }
    .to_owned()
}

/// Why the call ended, as a sentence.
pub fn end_sentence(reason: &str) -> String {
    match reason {
        "bye" => "The client ended the session (BYE).".to_owned(),
        "timeout" => "The session timer ran out: the client stopped answering.".to_owned(),
        "stopped" | "hung_up" => "The recorder ended the session.".to_owned(),
        "edge_lost" => "The recorder was lost during the call.".to_owned(),
        "cancelled" => "The client cancelled the session before it was set up.".to_owned(),
        "no_ack" => "The client never acknowledged the recorder's answer.".to_owned(),
        other => format!("It ended for this reason: {}.", other.replace('_', " ")),
    }
}

/// The glyph, the name and the letter of a kind of mark.
pub fn mark_kind(kind: MarkKind) -> (&'static str, &'static str) {
    match kind {
        MarkKind::Hold => ("hold", "On hold"),
        MarkKind::Pause => ("pause", "Recording paused"),
        MarkKind::Gap => ("gap", "Audio missing"),
        MarkKind::Dtmf => ("dtmf", "Key pressed"),
        MarkKind::Join => ("join", "Joined"),
        MarkKind::Leave => ("leave", "Left"),
    }
}

/// The name to call somebody by.
pub fn name(participant: &Participant) -> String {
    let name = participant.name.as_ref().map(|name| name.reveal().trim()).unwrap_or_default();
    if !name.is_empty() {
        return name.to_owned();
    }
    match &participant.aor {
        Some(aor) if !aor.reveal().trim().is_empty() => short_address(aor.reveal()).to_owned(),
        _ => "Unknown".to_owned(),
    }
}

/// The address, when it says more than the name does.
pub fn second_line(participant: &Participant) -> Option<String> {
    let aor = short_address(participant.aor.as_ref()?.reveal());
    (!aor.is_empty() && aor != name(participant)).then(|| aor.to_owned())
}

/// `sip:ana@example.com;user=phone` without scheme and parameters, a telephone number without
/// its host.
fn short_address(aor: &str) -> &str {
    let aor = aor.trim().trim_start_matches('<').trim_end_matches('>');
    let rest = match aor.split_once(':') {
        Some(("sip" | "sips" | "tel", rest)) => rest,
        _ => aor,
    };
    let rest = rest.split([';', '?']).next().unwrap_or(rest);
    match rest.split_once('@') {
        Some((user, _)) if is_number(user) => user,
        _ => rest,
    }
}

fn is_number(user: &str) -> bool {
    let digits = user.strip_prefix('+').unwrap_or(user);
    !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
}

/// Who is heard on a track.
pub fn track_name(recording: &Recording, number: usize, track: &Track) -> String {
    let speakers: Vec<String> = track
        .speakers
        .iter()
        .filter_map(|&speaker| recording.participants.get(speaker))
        .map(name)
        .collect();
    if !speakers.is_empty() {
        return speakers.join(", ");
    }
    match &track.participant {
        Some(participant) if !participant.reveal().is_empty() => {
            short_address(participant.reveal()).to_owned()
        }
        _ => format!("Track {}", number + 1),
    }
}

/// Everybody on the call, in one line.
pub fn parties(recording: &Recording) -> String {
    if recording.participants.is_empty() {
        return "Unknown parties".to_owned();
    }
    let names: Vec<String> = recording.participants.iter().map(name).collect();
    names.join(" and ")
}

/// Lost packets in percent of those expected, with as many digits as say something.
pub fn loss(track: &Track) -> String {
    if track.packets_expected == 0 {
        return "–".to_owned();
    }
    let percent = track.packets_lost as f64 * 100.0 / track.packets_expected as f64;
    match track.packets_lost {
        0 => "none".to_owned(),
        lost if percent < 0.01 => format!("{} (under 0.01 %)", grouped(lost)),
        lost => format!("{} ({percent:.2} %)", grouped(lost)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: Option<&str>, aor: Option<&str>) -> Participant {
        Participant {
            name: name.map(Into::into),
            aor: aor.map(Into::into),
            number: None,
            role: None,
        }
    }

    #[test]
    fn a_length_is_written_and_said() {
        assert_eq!(clock(83.9), "1:23");
        assert_eq!(clock(3_723.0), "1:02:03");
        assert_eq!(clock(f64::NAN), "0:00");
        assert_eq!(clock(-1.0), "0:00");
        assert_eq!(spoken(83.0), "1 minute 23 seconds");
        assert_eq!(spoken(3_601.0), "1 hour 1 second");
        assert_eq!(spoken(0.2), "0 seconds");
    }

    #[test]
    fn numbers_are_grouped_and_counted() {
        assert_eq!(count(1, "call"), "1 call");
        assert_eq!(count(0, "call"), "0 calls");
        assert_eq!(count(1_234_567, "packet"), "1,234,567 packets");
    }

    #[test]
    fn somebody_without_a_name_is_called_by_the_number() {
        assert_eq!(
            name(&person(None, Some("sip:+14155550100@sbc.example;user=phone"))),
            "+14155550100"
        );
        assert_eq!(name(&person(Some(" "), Some("<sip:ana@example.com>"))), "ana@example.com");
        assert_eq!(name(&person(None, None)), "Unknown");
        assert_eq!(name(&person(Some("Ana"), None)), "Ana");
        assert_eq!(second_line(&person(None, Some("tel:+1415"))), None);
        assert_eq!(second_line(&person(Some("Ana"), Some("tel:+1415"))).as_deref(), Some("+1415"));
    }

    #[test]
    fn a_flag_nobody_knows_yet_is_still_said() {
        assert_eq!(flag_label("late_media"), "late media");
        assert!(flag_sentence("late_media").contains("late media"));
    }
}

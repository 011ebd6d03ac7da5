//! Codecs that come frame by frame, each decoded by a crate that was written from the text of its
//! standard: G.729 (not exact to the bit) and GSM full rate.

use oxideav_core::{CodecId, CodecParameters, Decoder, Frame, Packet, TimeBase};

use super::{Codec, GSM_FRAME_BYTES, NARROW_HZ};

/// An active frame of G.729.
pub(super) const G729_FRAME_BYTES: usize = 10;
/// A frame that describes silence (RFC 3551 §4.5.6).
pub(super) const G729_SILENCE_BYTES: usize = 2;

/// The decoders of one run, made when first needed.
#[derive(Default)]
pub(super) struct Frames {
    g729: Option<Box<dyn Decoder>>,
    gsm: Option<Box<dyn Decoder>>,
}

impl Frames {
    pub fn decode(&mut self, codec: Codec, payload: &[u8], out: &mut Vec<i16>) {
        let (slot, frame_bytes) = match codec {
            Codec::G729 => (&mut self.g729, G729_FRAME_BYTES),
            Codec::GsmFr => (&mut self.gsm, GSM_FRAME_BYTES),
            _ => return,
        };
        if slot.is_none() {
            *slot = make(codec);
        }
        let Some(decoder) = slot else { return };
        for frame in payload.chunks_exact(frame_bytes) {
            let packet = Packet::new(0, TimeBase::new(1, i64::from(NARROW_HZ)), frame.to_vec());
            // What it refuses is silent, and the next frame is another.
            if decoder.send_packet(&packet).is_err() {
                continue;
            }
            while let Ok(Frame::Audio(audio)) = decoder.receive_frame() {
                for samples in &audio.data {
                    let samples = samples.chunks_exact(2);
                    out.extend(samples.map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
                }
            }
        }
    }
}

fn make(codec: Codec) -> Option<Box<dyn Decoder>> {
    let parameters = |name: &str| CodecParameters::audio(CodecId::new(name));
    match codec {
        #[cfg(feature = "g729")]
        Codec::G729 => oxideav_g729::codec::make_decoder(&parameters("g729")).ok(),
        Codec::GsmFr => {
            let mut parameters = parameters("gsm");
            // 33 octets that begin with the signature 0xD (RFC 3551 §4.5.8.1).
            parameters.extradata = b"gsm".to_vec();
            oxideav_gsm::make_decoder(&parameters).ok()
        }
        _ => None,
    }
}

/// How loud the silence is that a G.729 payload describes at its end, if it does (G.729 Annex B
/// §B.4.2.1): 32 steps from -12 to 66 dB over one unit, told as a payload of comfort noise.
pub(super) fn silence_of_g729(payload: &[u8]) -> Option<[u8; 1]> {
    let frame = &payload[payload.len() - payload.len() % G729_FRAME_BYTES..];
    let [_, second] = *frame.first_chunk::<G729_SILENCE_BYTES>()?;
    // One bit, five and four of the spectrum, then five bits of the energy, one spare.
    let step = i32::from(second >> 1 & 31);
    let decibels = match step {
        0 => -12,
        1..=5 => 4 * step - 8,
        _ => 2 * step + 4,
    };
    // Full scale is 90 dB over one unit.
    Some([(90 - decibels).clamp(0, 127) as u8])
}

#[test]
fn the_silence_at_the_end_of_a_payload_has_a_level() {
    assert_eq!(silence_of_g729(&[0; 20]), None);
    assert_eq!(silence_of_g729(&[]), None);
    assert_eq!(silence_of_g729(&[0; 12]), Some([102]));
    assert_eq!(silence_of_g729(&[0, 31 << 1]), Some([24]));
    assert_eq!(silence_of_g729(&[0; 11]), None);
}

//! `rtp-send SECONDS TARGET_A TARGET_B`: the media of a call that SIPp signals. Stream A speaks
//! with the voice [`e2e::sipp::SEED_A`], stream B with [`e2e::sipp::SEED_B`].

use anyhow::{Context, Result, bail};
use caller::{Codec, RtpTarget, SourceId, send_rtp};
use e2e::sipp::{SEED_A, SEED_B};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, a, b] = arguments.as_slice() else {
        bail!("usage: rtp-send SECONDS TARGET_A TARGET_B");
    };
    let target = |address: &str, seed| -> Result<RtpTarget> {
        let address = address.parse().with_context(|| format!("{address:?} is not an address"))?;
        Ok(RtpTarget { address, source: SourceId::Speech { seed }, codec: Codec::Pcmu })
    };
    let seconds = seconds.parse().with_context(|| format!("{seconds:?} is not a number"))?;
    send_rtp(vec![target(a, SEED_A)?, target(b, SEED_B)?], seconds).await?;
    Ok(())
}

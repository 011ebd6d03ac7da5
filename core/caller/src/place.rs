//! Carrying out a whole plan, and audio without signaling.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::call::{Call, Caller};
use crate::endpoint::local_ip;
use crate::pacer::Pacer;
use crate::plan::{CallPlan, Codec};
use crate::report::{CallError, CallReport, Progress, StreamReport};
use crate::rtp::{FRAME, RtpStream, Targets};
use crate::source::SourceId;

/// Places all calls of a plan and waits for their ends. Reports are in the order of the calls;
/// a call that was refused is a report, not an error.
pub async fn place(
    plan: CallPlan,
    progress: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<Vec<CallReport>, CallError> {
    place_until(plan, progress, std::future::pending()).await
}

/// As [`place`], but once `stop` is ready no more calls begin and all are hung up.
pub async fn place_until(
    plan: CallPlan,
    progress: impl Fn(Progress) + Send + Sync + 'static,
    stop: impl Future<Output = ()>,
) -> Result<Vec<CallReport>, CallError> {
    let (count, rate_per_sec) = (plan.calls, plan.rate_per_sec);
    let caller = Caller::connect_watched(plan, Arc::new(progress)).await?;
    let begun = Instant::now();
    let mut calls = Vec::new();
    let mut stop = std::pin::pin!(stop);
    let mut stopped = false;
    for index in 0..count {
        // At fixed times, so that a slow start of one does not shift all that follow.
        let at = begun + Duration::from_secs_f64(f64::from(index) / rate_per_sec);
        tokio::select! {
            () = &mut stop => {
                stopped = true;
                break;
            }
            () = sleep_until(at) => calls.push(caller.call(index)?),
        }
    }
    if !stopped {
        // Until the last call ends or we are told to stop; the others have ended by then or not.
        let waiting = async {
            for call in &mut calls {
                call.ended().await;
            }
        };
        tokio::select! {
            () = &mut stop => {}
            () = waiting => {}
        }
    }
    let endings: Vec<_> = calls.into_iter().map(|call| tokio::spawn(Call::hang_up(call))).collect();
    let mut reports = Vec::with_capacity(endings.len());
    for ending in endings {
        reports.push(ending.await.map_err(|_| CallError::Ended)??);
    }
    Ok(reports)
}

/// A stream of [`send_rtp`].
#[derive(Clone, Debug, PartialEq)]
pub struct RtpTarget {
    pub address: SocketAddr,
    pub source: SourceId,
    pub codec: Codec,
}

/// Sends audio alone, for `seconds`, all streams in step; beside signaling from elsewhere. RTCP
/// goes to the port above.
pub async fn send_rtp(
    targets: Vec<RtpTarget>,
    seconds: f64,
) -> Result<Vec<StreamReport>, CallError> {
    if !(0.0..=2_678_400.0).contains(&seconds) {
        let problem = "seconds must be between 0 and 2678400".to_owned();
        return Err(CallError::Plan { problem });
    }
    let max_frames = (seconds / FRAME.as_secs_f64()).round() as u64;
    let mut streams = Vec::new();
    let mut controls = Vec::new();
    for RtpTarget { address, source, codec } in targets {
        let local: IpAddr =
            local_ip(address).map_err(|source| CallError::Connect { target: address, source })?;
        let (stream, mut control) = RtpStream::open(local, codec, source, Some(max_frames), None)?;
        let rtcp = address.port().checked_add(1).map(|port| SocketAddr::new(address.ip(), port));
        control.set_targets(Some(Targets { rtp: address, rtcp }));
        streams.push(stream);
        controls.push(control);
    }
    let pacer = Pacer::start().map_err(CallError::Pacer)?;
    pacer.begin(streams);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    sleep_until(end).await;
    // A busy machine is late, but nothing is left out.
    let late = end + Duration::from_secs(5);
    let all_sent = |control: &crate::rtp::StreamControl| control.report(None).frames >= max_frames;
    while !controls.iter().all(all_sent) && Instant::now() < late {
        sleep(FRAME).await;
    }
    Ok(controls.iter().map(|control| control.report(None)).collect())
}

//! Places calls with our own SRC from a test that is not async.

use std::net::SocketAddr;

use caller::{CallPlan, CallReport, Outcome};

/// A short call to `target`.
pub fn plan(target: SocketAddr, seconds: f64) -> CallPlan {
    CallPlan { seconds, ..CallPlan::to(target) }
}

/// Places the calls of a plan and waits for their end; all must have been answered.
pub fn place(plan: CallPlan) -> Vec<CallReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let placed = runtime.expect("a runtime starts").block_on(caller::place(plan, |_| {}));
    let reports = placed.expect("calls can be placed");
    for report in &reports {
        assert_eq!(report.outcome, Outcome::Answered, "{report:?}");
    }
    reports
}

/// As [`place`], while the test does something else.
pub fn place_beside(plan: CallPlan) -> std::thread::JoinHandle<Vec<CallReport>> {
    std::thread::spawn(move || place(plan))
}

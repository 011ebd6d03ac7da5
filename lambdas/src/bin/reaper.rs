//! The function `reaper`: the backstop behind the dead-man's messages, by a schedule.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use lambdas::functions;
use lambdas::reaper::Reaper;
use serde::de::IgnoredAny;
use tokio::sync::Mutex;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let aws = functions::start().await?;
    let (index, work, events) = (&aws.index()?, &aws.finalize()?, &aws.events()?);
    let tenant = &functions::tenant()?;
    // A function that stays warm remembers what it asked for.
    let reaper = &Mutex::new(Reaper::default());
    run(service_fn(|_: LambdaEvent<IgnoredAny>| async move {
        let mut reaper = reaper.lock().await;
        functions::reap(&mut reaper, index, work, events, tenant).await
    }))
    .await
}

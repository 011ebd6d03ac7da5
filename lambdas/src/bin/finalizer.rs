//! The function `finalizer`: segments to playable audio. Every minute its schedule lets it encode
//! what is known of long calls in progress, and delete segments that nobody needs any more.

use std::time::Instant;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use lambdas::finalizer::{self, Ahead};
use lambdas::functions::emf::{self, Unit};
use lambdas::functions::{self, Batch, Work};
use tokio::sync::Mutex;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let aws = functions::start().await?;
    let (index, work, objects) = (&aws.index()?, &aws.finalize()?, &aws.objects()?);
    let tenant = &functions::tenant()?;
    let keys = &functions::tenant_keys(objects, tenant).await?;
    let ahead = &Mutex::new(Ahead::default());
    run(service_fn(|event: LambdaEvent<Work>| async move {
        let until = functions::stop_at(&event.context);
        match event.payload {
            Work::Batch(messages) => {
                let began = Instant::now();
                let (batch, deliveries) = Batch::of(messages, work);
                for delivery in deliveries {
                    finalizer::handle(index, &batch, objects, keys, delivery, Some(until)).await;
                }
                emf::emit(
                    "finalizer",
                    &[("BuildTime", Unit::Seconds, began.elapsed().as_secs_f64())],
                );
                Ok::<_, Error>(batch.answer())
            }
            Work::Scheduled(_) => {
                let mut ahead = ahead.lock().await;
                functions::look_after(index, objects, keys, tenant, &mut ahead, until).await?;
                Ok(Default::default())
            }
        }
    }))
    .await
}

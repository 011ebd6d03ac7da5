//! The function `retention`: deletes what is due and not held, by a schedule.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use lambdas::functions::emf::{self, Unit};
use lambdas::{functions, retention, worker};
use serde::de::IgnoredAny;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let aws = functions::start().await?;
    let (index, objects) = (&aws.index()?, &aws.objects()?);
    let (tenant, policy) = (&functions::tenant()?, functions::retention_policy()?);
    run(service_fn(|event: LambdaEvent<IgnoredAny>| async move {
        let until = Some(functions::stop_at(&event.context));
        let now = worker::wall_time();
        let swept = retention::sweep(index, objects, tenant, policy, now, until).await?;
        let not_erased = ("RecordingsNotErased", Unit::Count, swept.not_erased as f64);
        let erased = ("RecordingsErased", Unit::Count, swept.erased as f64);
        emf::emit("retention", &[erased, not_erased]);
        Ok::<_, Error>(())
    }))
    .await
}

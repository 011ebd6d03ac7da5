//! The function `setup`: prepares a deployment, once. Invoked by whoever deploys.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use lambdas::functions::{self, setup};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let aws = functions::start().await?;
    let tenant = &functions::tenant()?;
    let (keys, policies) = (&functions::key_store(&aws)?, &aws.objects()?);
    let accounts = &aws.index()?;
    run(service_fn(|event: LambdaEvent<setup::Asked>| async move {
        setup::set_up(event.payload, tenant, keys, policies, accounts).await
    }))
    .await
}

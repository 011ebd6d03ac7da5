//! The function `indexer`: events from the queue to the index.

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use lambdas::functions::emf::{self, Unit};
use lambdas::functions::{self, Batch};
use lambdas::indexer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let aws = functions::start().await?;
    let (index, work, events) = (&aws.index()?, &aws.finalize()?, &aws.events()?);
    run(service_fn(|event: LambdaEvent<SqsEvent>| async move {
        let (batch, deliveries) = Batch::of(event.payload, events);
        let lag = functions::lag(&deliveries);
        let handled = indexer::handle(index, work, &batch, deliveries).await;
        emf::emit(
            "indexer",
            &[
                ("EventLag", Unit::Seconds, lag.as_secs_f64()),
                ("EventsApplied", Unit::Count, handled.applied as f64),
                ("EventsGivenBack", Unit::Count, handled.given_back as f64),
                ("EventsPutAside", Unit::Count, handled.dead_letters as f64),
            ],
        );
        Ok::<_, Error>(batch.answer())
    }))
    .await
}

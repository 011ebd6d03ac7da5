//! The function `api`: the HTTP API behind API Gateway.

use lambda_http::{Error, run};
use lambdas::api;
use lambdas::functions::{self, http};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let aws = functions::start().await?;
    let state = functions::api_state(aws).await?;
    let site = functions::site_url();
    run(http::behind_gateway(api::router(state), site.as_deref())?).await
}

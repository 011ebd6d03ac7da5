//! What an error of an SDK means to whoever called: try again, or do not.
//!
//! The SDK has already tried several times (see [`crate::clients`]) before an error comes here.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use storage_ports::StorageError;

/// Refusals (4xx) that time heals.
const PASSING: [&str; 16] = [
    "ConditionalRequestConflict",
    "ExpiredToken",
    "ExpiredTokenException",
    "KMS.KmsThrottled",
    "KmsThrottled",
    "LimitExceededException",
    "OperationAborted",
    "OverLimit",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestTimeout",
    "SlowDown",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
];

/// Sorts an error of any operation of any service.
pub fn storage_error<E>(what: &'static str, error: SdkError<E, HttpResponse>) -> StorageError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let passes = match &error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            status >= 500 || status == 429 || code(&error).is_some_and(|code| passing(&code))
        }
        // No answer, half an answer, or none in time.
        _ => true,
    };
    if passes { StorageError::unavailable(what, error) } else { StorageError::refused(what, error) }
}

/// The code that the service names its error with.
pub fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    let SdkError::ServiceError(answer) = error else { return None };
    answer.err().code().map(str::to_owned)
}

/// The HTTP status, where there was an answer.
pub fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn passing(code: &str) -> bool {
    PASSING.contains(&code)
}

#[test]
fn throttling_passes_and_a_wrong_name_does_not() {
    assert!(PASSING.is_sorted());
    assert!(passing("ThrottlingException") && passing("SlowDown"));
    assert!(!passing("NoSuchBucket") && !passing("AccessDenied"));
}

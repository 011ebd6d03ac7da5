//! The engines of AWS: S3 for objects, SQS for the queue, DynamoDB for the index.

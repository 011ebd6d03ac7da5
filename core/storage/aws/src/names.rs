//! Every name that this code shares with the templates in `infra/`: environment variables, and
//! the keys, indexes and attributes of the table. A test compares them with the templates.

/// Environment variables of functions and edges.
pub mod env {
    /// The tenant of this deployment.
    pub const TENANT: &str = "LINEKEEPER_TENANT";
    /// For the API: where people open the site, as `https://NAME`.
    pub const SITE_URL: &str = "LINEKEEPER_SITE_URL";
    /// For retention: days for which recordings are kept. Empty: for ever.
    pub const KEEP_DAYS: &str = "LINEKEEPER_KEEP_DAYS";
    /// For setup: the key that the tenant's key pair is encrypted with.
    pub const TENANT_KEY_ARN: &str = "LINEKEEPER_TENANT_KEY_ARN";
    /// The DynamoDB table.
    pub const TABLE: &str = "LINEKEEPER_TABLE";
    /// The bucket of segments, recordings and the policy snapshot.
    pub const BUCKET: &str = "LINEKEEPER_BUCKET";
    /// Recording events, from edges to the indexer.
    pub const EVENTS_QUEUE_URL: &str = "LINEKEEPER_EVENTS_QUEUE_URL";
    pub const EVENTS_DLQ_URL: &str = "LINEKEEPER_EVENTS_DLQ_URL";
    /// Recordings to build, from the indexer to the finaliser.
    pub const FINALIZE_QUEUE_URL: &str = "LINEKEEPER_FINALIZE_QUEUE_URL";
    pub const FINALIZE_DLQ_URL: &str = "LINEKEEPER_FINALIZE_DLQ_URL";
    /// Commands to one edge: that edge's own queue.
    pub const COMMANDS_QUEUE_URL: &str = "LINEKEEPER_COMMANDS_QUEUE_URL";
    /// For whoever sends commands: the URL of an edge's queue is this followed by its name.
    pub const COMMANDS_QUEUE_URL_PREFIX: &str = "LINEKEEPER_COMMANDS_QUEUE_URL_PREFIX";
    /// The key that objects are encrypted with. Absent: the bucket's own default.
    pub const KMS_KEY_ARN: &str = "LINEKEEPER_KMS_KEY_ARN";
    /// Over how many partitions a tenant's day is spread; for days that have not begun. Absent: 1.
    pub const INDEX_SHARDS: &str = "LINEKEEPER_INDEX_SHARDS";
    /// `1` where only emulators may be spoken to.
    pub const TEST_MODE: &str = "LINEKEEPER_AWS_TEST_MODE";
}

/// The one table.
pub mod table {
    pub const PK: &str = "pk";
    pub const SK: &str = "sk";
    /// Recordings by day, and numbers by their end. Projects [`STATE`].
    pub const LIST_INDEX: &str = "gsi1";
    pub const LIST_PK: &str = "gsi1pk";
    pub const LIST_SK: &str = "gsi1sk";
    /// What leads to a recording: words, numbers, ids, users, and the journal that it waits for.
    /// Projects keys only.
    pub const LOOKUP_INDEX: &str = "gsi2";
    pub const LOOKUP_PK: &str = "gsi2pk";
    pub const LOOKUP_SK: &str = "gsi2sk";
    /// Work: calls in progress, recordings that are over, purges, journals. Sparse. Projects
    /// [`STATE`].
    pub const WORK_INDEX: &str = "gsi3";
    pub const WORK_PK: &str = "gsi3pk";
    pub const WORK_SK: &str = "gsi3sk";
    /// What the folds made of a recording.
    pub const STATE: &str = "state";
    /// Unix seconds: DynamoDB deletes the item some time after. Only on what is of no use then:
    /// sign-ins and outcomes of commands; never on anything of a recording.
    pub const EXPIRES: &str = "expires";
}

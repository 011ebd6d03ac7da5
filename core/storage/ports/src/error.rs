//! Why an engine could not do it, split by who can act.

/// The cause as the engine knows it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is nothing under this name.
    #[error("{what} does not exist")]
    NotFound { what: String },
    /// Worth trying again: a timeout, throttling, a full disk.
    #[error("{what} is unavailable")]
    Unavailable {
        what: &'static str,
        #[source]
        cause: Cause,
    },
    /// Not worth trying again: bad credentials, a missing bucket, a corrupt file.
    #[error("{what} refused")]
    Refused {
        what: &'static str,
        #[source]
        cause: Cause,
    },
}

impl StorageError {
    pub fn unavailable(what: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Unavailable { what, cause: cause.into() }
    }

    pub fn refused(what: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Refused { what, cause: cause.into() }
    }

    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

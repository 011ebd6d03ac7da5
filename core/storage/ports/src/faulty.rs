//! Wraps an engine and makes it fail on purpose.

//! Indexer, finaliser, reaper and API.

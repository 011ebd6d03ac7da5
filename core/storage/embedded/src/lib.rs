//! The engines of the one-machine product: SQLite and a directory.

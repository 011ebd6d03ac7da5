//! Tests that every engine must pass.

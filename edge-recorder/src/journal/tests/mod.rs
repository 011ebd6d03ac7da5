//! Tests of the promises in the head of the journal.

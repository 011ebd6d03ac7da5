//! A Session Recording Client that places real calls.

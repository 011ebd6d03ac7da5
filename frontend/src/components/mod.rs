//! What draws. Nothing below here asks the API for calls: pages do, and hand over what they got.

pub mod copy;
pub mod dock;
pub mod facts;
pub mod filters;
pub mod help;
pub mod icon;
pub mod lane;
pub mod marks;
pub mod recording_table;
pub mod seek;
pub mod shell;
pub mod sign_in;
pub mod timeline;
pub mod transport;

//! The HTTP API from outside: what a client may rely on, over the embedded engines.

mod audio;
mod contract;
mod harness;
mod live;
mod matrix;
mod recordings;
mod scope;
mod session;
mod users;

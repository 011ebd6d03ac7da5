//! A whole recorder on loopback, with the embedded engines: what an SRC, an operator and the
//! object store see of it.

mod calls;
mod connections;
mod faults;
mod hostile;
mod media;
mod operation;
mod restart;
mod support;
mod trunks;

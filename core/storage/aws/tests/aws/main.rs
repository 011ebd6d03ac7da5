//! The engines of AWS keep every promise of their ports, spoken to through the SDK.

mod bounded_work;
mod calls;
mod contract;
mod cost;
mod emulator;
mod golden;
mod order;
mod proxy;
mod services;

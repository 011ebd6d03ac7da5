//! The engines of AWS keep every promise of their ports, spoken to through the SDK.

mod contract;
mod emulator;

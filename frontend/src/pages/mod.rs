//! One file per page. A page fetches, and hands what it got to the components that draw it.

pub mod call;
pub mod health;
pub mod live;
pub mod recordings;
pub mod sign_in;

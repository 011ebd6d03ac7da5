//! Values that identify a person: kept, shown to who may see them, never printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Wraps a name, number or address of a caller. `Debug` hides it and there is no `Display`, so
/// that it cannot reach a log by accident. Serialises as the value itself.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Personal<T>(T);

impl<T> Personal<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for storing it or showing it to somebody who may see it.
    pub fn reveal(&self) -> &T {
        &self.0
    }

    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Personal<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<&str> for Personal<String> {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(personal)")
    }
}

#[cfg(feature = "openapi")]
impl<T: utoipa::ToSchema> utoipa::PartialSchema for Personal<T> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        T::schema()
    }
}

#[cfg(feature = "openapi")]
impl<T: utoipa::ToSchema> utoipa::ToSchema for Personal<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        T::name()
    }
}

#[test]
fn a_name_does_not_print() {
    let name = Personal::new("Ana Novák".to_owned());
    assert_eq!(format!("{name:?}"), "(personal)");
    assert_eq!(serde_json::to_string(&name).unwrap(), "\"Ana Novák\"");
}

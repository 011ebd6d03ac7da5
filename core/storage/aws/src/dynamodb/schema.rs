//! The table as code: for emulators. In AWS the template `infra/data.yaml` makes it, with what an
//! emulator has no use for; a test compares the two.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use storage_ports::StorageError;

use super::table::WHAT;
use crate::error::storage_error;
use crate::names::table;

fn refused(cause: aws_sdk_dynamodb::error::BuildError) -> StorageError {
    StorageError::refused(WHAT, cause)
}

fn keys(pk: &str, sk: &str) -> Result<Vec<KeySchemaElement>, StorageError> {
    [(pk, KeyType::Hash), (sk, KeyType::Range)]
        .into_iter()
        .map(|(name, kind)| {
            KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(refused)
        })
        .collect()
}

fn index(
    name: &str,
    pk: &str,
    sk: &str,
    with_state: bool,
) -> Result<GlobalSecondaryIndex, StorageError> {
    let projection = if with_state {
        Projection::builder()
            .projection_type(ProjectionType::Include)
            .non_key_attributes(table::STATE)
    } else {
        Projection::builder().projection_type(ProjectionType::KeysOnly)
    };
    GlobalSecondaryIndex::builder()
        .index_name(name)
        .set_key_schema(Some(keys(pk, sk)?))
        .projection(projection.build())
        .build()
        .map_err(refused)
}

/// Makes the table, if it is not there.
pub async fn create_table(client: &Client, name: &str) -> Result<(), StorageError> {
    use table::*;
    let attributes: Result<Vec<_>, _> =
        [PK, SK, LIST_PK, LIST_SK, LOOKUP_PK, LOOKUP_SK, WORK_PK, WORK_SK]
            .into_iter()
            .map(|name| {
                AttributeDefinition::builder()
                    .attribute_name(name)
                    .attribute_type(ScalarAttributeType::S)
                    .build()
            })
            .collect();
    let answer = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(attributes.map_err(refused)?))
        .set_key_schema(Some(keys(PK, SK)?))
        .global_secondary_indexes(index(LIST_INDEX, LIST_PK, LIST_SK, true)?)
        .global_secondary_indexes(index(LOOKUP_INDEX, LOOKUP_PK, LOOKUP_SK, false)?)
        .global_secondary_indexes(index(WORK_INDEX, WORK_PK, WORK_SK, true)?)
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(error) if crate::error::code(&error).as_deref() == Some("ResourceInUseException") => {
            Ok(())
        }
        Err(error) => Err(storage_error(WHAT, error)),
    }
}

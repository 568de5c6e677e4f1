//! What a derived schema cannot say by itself.

use schemars::{Schema, SchemaGenerator, json_schema};

/// The default of a field that is true unless it is set.
pub fn yes() -> bool {
    true
}

/// Labels: the derive has no bounds for the values of a map.
pub fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
    })
}

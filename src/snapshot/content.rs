//! A hash over what a part of the snapshot says: the same in every process that serves the same, whatever the machine, the
//! toolchain and the order of events. A part is read through its `Serialize`, as the debug page reads it, so that no field
//! that is shown is left out; but to a serializer that is not human-readable a part also gives what it does not print.
//! That goes into SHA-256 and nowhere else. Only sums of such hashes, hashed once more, leave the process: a secret can be
//! guessed from them by nobody but who knows everything else that is served.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// The first eight bytes of the SHA-256 of `content`.
pub fn hash(content: &impl Serialize) -> u64 {
    let mut encoder = Encoder(Vec::with_capacity(1024));
    // Snapshot parts have no serializer that fails, and the encoder takes whatever it is given.
    #[expect(clippy::expect_used, reason = "the line above")]
    content.serialize(&mut encoder).expect("snapshot parts serialize");
    let digest = digest(&SHA256, &encoder.0);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_ref()[..8]);
    u64::from_be_bytes(first)
}

/// Writes values so that no two read the same: numbers in 16 bytes, text with its length, and a mark where a list, a map or
/// a struct begins and ends.
struct Encoder(Vec<u8>);

const NONE: u8 = b'0';
const SOME: u8 = b'1';
const NUMBER: u8 = b'n';
const TEXT: u8 = b't';
const BEGIN: u8 = b'(';
const END: u8 = b')';

impl Encoder {
    fn number(&mut self, number: i128) -> Result<(), fmt::Error> {
        self.0.push(NUMBER);
        self.0.extend(number.to_be_bytes());
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), fmt::Error> {
        self.0.push(TEXT);
        self.0.extend((bytes.len() as u64).to_be_bytes());
        self.0.extend(bytes);
        Ok(())
    }

    fn mark(&mut self, mark: u8) -> Result<(), fmt::Error> {
        self.0.push(mark);
        Ok(())
    }

    fn begin(&mut self) -> Result<&mut Self, fmt::Error> {
        self.mark(BEGIN)?;
        Ok(self)
    }

    fn begin_variant(&mut self, variant: &str) -> Result<&mut Self, fmt::Error> {
        self.bytes(variant.as_bytes())?;
        self.begin()
    }
}

macro_rules! numbers {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, number: $type) -> Result<(), fmt::Error> {
            self.number(number.into())
        })*
    };
}

impl Serializer for &mut Encoder {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers!(
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64
    );

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_f32(self, number: f32) -> Result<(), fmt::Error> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<(), fmt::Error> {
        self.number(number.to_bits().into())
    }

    fn serialize_char(self, char: char) -> Result<(), fmt::Error> {
        self.number(u32::from(char).into())
    }

    fn serialize_str(self, text: &str) -> Result<(), fmt::Error> {
        self.bytes(text.as_bytes())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), fmt::Error> {
        self.bytes(bytes)
    }

    fn serialize_none(self) -> Result<(), fmt::Error> {
        self.mark(NONE)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), fmt::Error> {
        self.mark(SOME)?;
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), fmt::Error> {
        self.mark(NONE)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), fmt::Error> {
        self.mark(NONE)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), fmt::Error> {
        self.bytes(variant.as_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), fmt::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), fmt::Error> {
        self.bytes(variant.as_bytes())?;
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, fmt::Error> {
        self.begin()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, fmt::Error> {
        self.begin()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, fmt::Error> {
        self.begin()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, fmt::Error> {
        self.begin_variant(variant)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, fmt::Error> {
        self.begin()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, fmt::Error> {
        self.begin()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, fmt::Error> {
        self.begin_variant(variant)
    }
}

macro_rules! lists {
    ($($list:ident $add:ident),*) => {
        $(impl $list for &mut Encoder {
            type Ok = ();
            type Error = fmt::Error;

            fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), fmt::Error> {
                self.mark(END)
            }
        })*
    };
}

lists!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

macro_rules! structs {
    ($($fields:ident),*) => {
        $(impl $fields for &mut Encoder {
            type Ok = ();
            type Error = fmt::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), fmt::Error> {
                self.bytes(name.as_bytes())?;
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), fmt::Error> {
                self.mark(END)
            }
        })*
    };
}

structs!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for &mut Encoder {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), fmt::Error> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), fmt::Error> {
        self.mark(END)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::object::ObjectKey;
    use crate::policy::edits::Edits;
    use crate::policy::mode::Mode;
    use crate::policy::{Policy, Rule, RuleKind};
    use crate::runtime::Slot;
    use crate::snapshot::Snapshot;

    fn setting(value: &'static str) -> Snapshot {
        let set = [(HeaderName::from_static("x-token"), HeaderValue::from_static(value))].into();
        let rule = Rule {
            name: "token".into(),
            mode: Mode::Enforce,
            matches: Box::default(),
            kind: RuleKind::RequestHeaders(Edits {
                set,
                add: Box::default(),
                remove: Box::default(),
            }),
            runtime: Slot::default(),
        };
        let policy = Policy {
            key: ObjectKey::new("acme", "headers"),
            mode: Mode::Enforce,
            rules: [rule].into(),
        };
        let mut snapshot = Snapshot::default();
        snapshot.policies.insert(policy.key.clone(), Arc::new(policy));
        snapshot
    }

    #[test]
    fn values_that_are_not_printed_are_hashed() {
        let [one, other] = ["hush", "hash"].map(setting);
        let printed = |snapshot| serde_json::to_string(snapshot).unwrap();
        assert_eq!(printed(&one), printed(&other));
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash(), setting("hush").hash());
    }

    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        // Computed apart from this code.
        assert_eq!(hash(&(7usize, "a", Some([1.5]), ())), 0xb086_4111_c171_38d6);
    }

    #[test]
    fn what_reads_alike_is_not_alike() {
        assert_ne!(hash(&("ab", "c")), hash(&("a", "bc")));
        assert_ne!(hash(&[["a", "b"].as_slice(), &[]]), hash(&[["a"].as_slice(), &["b"]]));
        assert_ne!(hash(&None::<u8>), hash(&Some(0u8)));
    }
}

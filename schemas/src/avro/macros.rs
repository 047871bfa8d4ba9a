//! The two macros that declare the contract's records and enums together with their schemas.

/// A struct of the contract: fields in order, doc comments becoming the schema's docs.
macro_rules! avro_record {
    ($(
        $(#[doc = $doc:literal])+
        pub struct $name:ident {
            $( $(#[doc = $field_doc:literal])+ pub $field:ident : $type:ty, )+
        }
    )+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $field_doc])+ pub $field: $type, )+
        }

        impl $crate::avro::Avro for $name {
            fn schema(named: &mut $crate::avro::Named) -> serde_json::Value {
                if !named.insert(stringify!($name)) {
                    return serde_json::json!(format!("{}.{}", $crate::avro::NAMESPACE, stringify!($name)));
                }
                serde_json::json!({
                    "type": "record",
                    "name": stringify!($name),
                    "namespace": $crate::avro::NAMESPACE,
                    "doc": concat!($($doc),+).trim(),
                    "fields": [$({
                        "name": stringify!($field),
                        "type": <$type as $crate::avro::Avro>::schema(named),
                        "doc": concat!($($field_doc),+).trim(),
                    }),+],
                })
            }
            fn encode(&self, out: &mut Vec<u8>) {
                $( $crate::avro::Avro::encode(&self.$field, out); )+
            }
            fn decode(input: &mut &[u8]) -> Result<Self, $crate::avro::AvroError> {
                Ok(Self { $( $field: $crate::avro::Avro::decode(input)?, )+ })
            }
            fn skip(input: &mut &[u8]) -> Result<(), $crate::avro::AvroError> {
                $( <$type as $crate::avro::Avro>::skip(input)?; )+
                Ok(())
            }
        }
    )+};
}
pub(crate) use avro_record;

/// An enum of the contract: each branch with the word that stands for it in files, tables and JSON.
macro_rules! avro_enum {
    ($(
        $(#[doc = $doc:literal])+
        pub enum $name:ident {
            $( $(#[doc = $branch_doc:literal])+ $branch:ident = $word:literal, )+
        }
    )+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $( $(#[doc = $branch_doc])+ #[serde(rename = $word)] $branch, )+
        }

        impl $name {
            /// Every branch, in the order of the schema.
            pub const ALL: &'static [Self] = &[$(Self::$branch),+];

            /// The word that stands for it in files, tables and JSON.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $( Self::$branch => $word, )+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl $crate::avro::Avro for $name {
            fn schema(named: &mut $crate::avro::Named) -> serde_json::Value {
                if !named.insert(stringify!($name)) {
                    return serde_json::json!(format!("{}.{}", $crate::avro::NAMESPACE, stringify!($name)));
                }
                serde_json::json!({
                    "type": "enum",
                    "name": stringify!($name),
                    "namespace": $crate::avro::NAMESPACE,
                    "doc": concat!($($doc),+).trim(),
                    "symbols": [$($word),+],
                })
            }
            fn encode(&self, out: &mut Vec<u8>) {
                let index = Self::ALL.iter().position(|branch| branch == self).unwrap_or(0);
                $crate::avro::put_long(i64::try_from(index).unwrap_or(0), out);
            }
            #[inline]
            fn decode(input: &mut &[u8]) -> Result<Self, $crate::avro::AvroError> {
                let index = $crate::avro::take_long(input)?;
                usize::try_from(index)
                    .ok()
                    .and_then(|index| Self::ALL.get(index).copied())
                    .ok_or($crate::avro::AvroError::Branch(stringify!($name), index))
            }
        }
    )+};
}
pub(crate) use avro_enum;

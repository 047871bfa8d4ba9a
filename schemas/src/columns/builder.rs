//! One column under construction, filled straight from Avro bytes.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder as _, BooleanBuilder, Decimal128Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, ListArray, MapArray, NullArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;

use super::shape::{MONEY, Shape, element, struct_fields, tag_entries, tag_fields};
use crate::avro::{Avro as _, AvroError, take_bytes, take_long};
use crate::ids::hex;
use crate::money::Money;

/// Where each row's items begin and end, and which rows have none at all.
#[derive(Debug, Default)]
pub(super) struct Extents {
    ends: Vec<i32>,
    present: Vec<bool>,
}

impl Extents {
    fn push(&mut self, items: usize, present: bool) {
        // A batch is bounded far below 2³¹ items, see `LARGEST_BATCH`.
        self.ends.push(i32::try_from(items).unwrap_or(i32::MAX));
        self.present.push(present);
    }

    fn last(&self) -> usize {
        self.ends.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0)
    }

    fn finish(self) -> (OffsetBuffer<i32>, NullBuffer) {
        let offsets: Vec<i32> = std::iter::once(0).chain(self.ends).collect();
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), NullBuffer::from(self.present))
    }
}

/// A column under construction.
#[derive(Debug)]
pub(super) enum Builder {
    Boolean(BooleanBuilder),
    Long(Int64Builder),
    Time(TimestampMicrosecondBuilder),
    Money(Decimal128Builder),
    Text(StringBuilder),
    Tags { extents: Extents, keys: StringBuilder, values: StringBuilder },
    List { extents: Extents, item: Shape, items: Box<Self> },
    Record { present: Vec<bool>, shape: Vec<super::shape::Member>, members: Vec<Self> },
    Unknown(usize),
}

impl Builder {
    pub(super) fn new(shape: &Shape) -> Self {
        match shape {
            Shape::Boolean => Self::Boolean(BooleanBuilder::new()),
            Shape::Long => Self::Long(Int64Builder::new()),
            Shape::Time => Self::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Shape::Money => Self::Money(Decimal128Builder::new().with_data_type(MONEY)),
            Shape::Text | Shape::Fixed(_) | Shape::Word(_) => Self::Text(StringBuilder::new()),
            Shape::Tags => Self::Tags {
                extents: Extents::default(),
                keys: StringBuilder::new(),
                values: StringBuilder::new(),
            },
            Shape::List(item) => Self::List {
                extents: Extents::default(),
                item: item.as_ref().clone(),
                items: Box::new(Self::new(item)),
            },
            Shape::Record(members) => Self::Record {
                present: Vec::new(),
                shape: members.clone(),
                members: members.iter().map(|member| Self::new(&member.shape)).collect(),
            },
            Shape::Maybe(inner) => Self::new(inner),
            Shape::Unknown => Self::Unknown(0),
        }
    }

    /// Rows so far.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Boolean(builder) => builder.len(),
            Self::Long(builder) => builder.len(),
            Self::Time(builder) => builder.len(),
            Self::Money(builder) => builder.len(),
            Self::Text(builder) => builder.len(),
            Self::Tags { extents, .. } | Self::List { extents, .. } => extents.ends.len(),
            Self::Record { present, .. } => present.len(),
            Self::Unknown(rows) => *rows,
        }
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Long(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Money(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Tags { extents, .. } | Self::List { extents, .. } => extents.push(extents.last(), false),
            Self::Record { present, members, .. } => {
                present.push(false);
                members.iter_mut().for_each(Self::push_null);
            }
            Self::Unknown(rows) => *rows += 1,
        }
    }

    /// Takes a value of that shape off the front of the bytes and appends it.
    pub(super) fn read(&mut self, shape: &Shape, input: &mut &[u8]) -> Result<(), AvroError> {
        if let Shape::Maybe(inner) = shape {
            if is_present(input)? {
                return self.read(inner, input);
            }
            self.push_null();
            return Ok(());
        }
        match (self, shape) {
            (Self::Boolean(builder), _) => builder.append_value(bool::decode(input)?),
            (Self::Long(builder), _) => builder.append_value(take_long(input)?),
            (Self::Time(builder), _) => builder.append_value(take_long(input)?),
            (Self::Money(builder), _) => builder.append_value(Money::decode(input)?.pico()),
            (Self::Text(builder), Shape::Fixed(size)) => builder.append_value(hex(take(input, *size)?)),
            (Self::Text(builder), Shape::Word(words)) => builder.append_value(take_word(words, input)?),
            (Self::Text(builder), _) => builder.append_value(take_text(input)?),
            (Self::Tags { extents, keys, values }, _) => {
                let end = blocks(input, extents.last(), |input| {
                    keys.append_value(take_text(input)?);
                    values.append_value(take_text(input)?);
                    Ok(())
                })?;
                extents.push(end, true);
            }
            (Self::List { extents, item, items }, _) => {
                let end = blocks(input, extents.last(), |input| items.read(item, input))?;
                extents.push(end, true);
            }
            (Self::Record { present, shape, members }, _) => {
                for (member, shape) in members.iter_mut().zip(shape) {
                    member.read(&shape.shape, input)?;
                }
                present.push(true);
            }
            (Self::Unknown(_), _) => return Err(AvroError::Range("type")),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(mut builder) => Arc::new(builder.finish()),
            Self::Long(mut builder) => Arc::new(builder.finish()),
            Self::Time(mut builder) => Arc::new(builder.finish()),
            Self::Money(mut builder) => Arc::new(builder.finish()),
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Tags { extents, mut keys, mut values } => {
                let columns: Vec<ArrayRef> = vec![Arc::new(keys.finish()), Arc::new(values.finish())];
                let entries = StructArray::try_new(tag_fields(), columns, None)?;
                let (offsets, present) = extents.finish();
                Arc::new(MapArray::try_new(tag_entries(), offsets, entries, Some(present), false)?)
            }
            Self::List { extents, item, items } => {
                let (offsets, present) = extents.finish();
                Arc::new(ListArray::try_new(element(&item), offsets, items.finish()?, Some(present))?)
            }
            Self::Record { present, shape, members } => {
                let columns = members.into_iter().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                let present = Some(NullBuffer::from(present));
                Arc::new(StructArray::try_new(struct_fields(&shape), columns, present)?)
            }
            Self::Unknown(rows) => Arc::new(NullArray::new(rows)),
        })
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], AvroError> {
    let (taken, rest) = input.split_at_checked(count).ok_or(AvroError::Short("fixed"))?;
    *input = rest;
    Ok(taken)
}

fn take_text<'a>(input: &mut &'a [u8]) -> Result<&'a str, AvroError> {
    std::str::from_utf8(take_bytes(input)?).map_err(|_| AvroError::Utf8)
}

fn take_word<'a>(words: &'a [String], input: &mut &[u8]) -> Result<&'a str, AvroError> {
    let index = take_long(input)?;
    let word = usize::try_from(index).ok().and_then(|index| words.get(index));
    word.map(String::as_str).ok_or(AvroError::Branch("an enum", index))
}

/// Takes the branch of an optional value.
pub(super) fn is_present(input: &mut &[u8]) -> Result<bool, AvroError> {
    match take_long(input)? {
        0 => Ok(false),
        1 => Ok(true),
        branch => Err(AvroError::Branch("an optional field", branch)),
    }
}

/// Takes the items of an array or map, block by block; says how many there are in all.
fn blocks(
    input: &mut &[u8],
    before: usize,
    mut item: impl FnMut(&mut &[u8]) -> Result<(), AvroError>,
) -> Result<usize, AvroError> {
    let mut count = before;
    loop {
        let block = take_long(input)?;
        if block == 0 {
            return Ok(count);
        }
        if block < 0 {
            take_long(input)?;
        }
        for _ in 0..block.unsigned_abs() {
            item(input)?;
            count += 1;
        }
    }
}

//! One column under construction, filled straight from Avro bytes.
//!
//! A table of many kinds is mostly empty cells. A column that a row says nothing of is not touched at all: the cells
//! that it lacks are made up for when it is next written to, or finished.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Int64Array, ListArray, MapArray, NullArray,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;

use super::shape::{MONEY, Member, Shape, element, struct_fields, tag_entries, tag_fields};
use crate::avro::{Avro as _, AvroError, take_bytes, take_long};
use crate::money::Money;

/// What was gathered; the space for as much again stays, as the next batch is likely alike.
pub(super) fn take_all<T>(gathered: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(gathered.len());
    std::mem::replace(gathered, room)
}

/// Where items end, row by row.
#[derive(Debug)]
struct Ends(Vec<i32>);

impl Ends {
    fn new() -> Self {
        Self(vec![0])
    }

    fn last(&self) -> usize {
        self.0.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0)
    }

    fn push(&mut self, end: usize) {
        // A batch is bounded far below 2³¹, see `LARGEST_BATCH`.
        self.0.push(i32::try_from(end).unwrap_or(i32::MAX));
    }

    /// Rows without items, up to so many rows in all.
    fn pad(&mut self, rows: usize) {
        let last = self.0.last().copied().unwrap_or(0);
        self.0.resize(rows + 1, last);
    }

    fn take(&mut self) -> OffsetBuffer<i32> {
        let ends = take_all(&mut self.0);
        self.0.push(0);
        OffsetBuffer::new(ScalarBuffer::from(ends))
    }
}

/// Texts, or other runs of bytes, one behind the other.
#[derive(Debug)]
pub(super) struct Runs {
    bytes: Vec<u8>,
    ends: Ends,
}

impl Runs {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), ends: Ends::new() }
    }

    pub(super) fn push(&mut self, run: &[u8]) {
        self.bytes.extend_from_slice(run);
        self.ends.push(self.bytes.len());
    }

    /// Bytes as hexadecimal digits.
    fn push_digits(&mut self, run: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let start = self.bytes.len();
        self.bytes.resize(start + run.len() * 2, 0);
        for (pair, byte) in self.bytes[start..].chunks_exact_mut(2).zip(run) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        self.ends.push(self.bytes.len());
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        (self.ends.take(), Buffer::from_vec(take_all(&mut self.bytes)))
    }

    /// What was gathered as texts, which are seen to be UTF-8 here, all at once.
    fn take_texts(&mut self, present: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let (ends, bytes) = self.take();
        Ok(Arc::new(StringArray::try_new(ends, bytes, present)?))
    }

    pub(super) fn take_binary(&mut self) -> Result<ArrayRef, ArrowError> {
        let (ends, bytes) = self.take();
        Ok(Arc::new(BinaryArray::try_new(ends, bytes, None)?))
    }
}

/// The values of a column; where a row has none, a filler stands.
#[derive(Debug)]
enum Cells {
    Truths(BooleanBufferBuilder),
    Longs(Vec<i64>),
    Times(Vec<i64>),
    Amounts(Vec<i128>),
    Texts(Runs),
    Tags { ends: Ends, keys: Runs, values: Runs },
    List { ends: Ends, item: Shape, items: Box<Column> },
    Record { shape: Vec<Member>, members: Vec<Column> },
    Unknown,
}

/// A column under construction.
#[derive(Debug)]
pub(super) struct Column {
    rows: usize,
    present: NullBufferBuilder,
    cells: Cells,
}

impl Cells {
    fn new(shape: &Shape) -> Self {
        match shape {
            Shape::Boolean => Self::Truths(BooleanBufferBuilder::new(0)),
            Shape::Long => Self::Longs(Vec::new()),
            Shape::Time => Self::Times(Vec::new()),
            Shape::Money => Self::Amounts(Vec::new()),
            Shape::Text | Shape::Fixed(_) | Shape::Word(_) => Self::Texts(Runs::new()),
            Shape::Tags => Self::Tags { ends: Ends::new(), keys: Runs::new(), values: Runs::new() },
            Shape::List(item) => {
                let items = Box::new(Column::new(item));
                Self::List { ends: Ends::new(), item: item.as_ref().clone(), items }
            }
            Shape::Record(members) => Self::Record {
                shape: members.clone(),
                members: members.iter().map(|member| Column::new(&member.shape)).collect(),
            },
            Shape::Maybe(inner) => Self::new(inner),
            Shape::Unknown => Self::Unknown,
        }
    }

    /// Fillers, up to so many rows in all.
    fn pad(&mut self, rows: usize) {
        match self {
            Self::Truths(bits) => bits.append_n(rows.saturating_sub(bits.len()), false),
            Self::Longs(values) | Self::Times(values) => values.resize(rows, 0),
            Self::Amounts(values) => values.resize(rows, 0),
            Self::Texts(Runs { ends, .. }) | Self::Tags { ends, .. } | Self::List { ends, .. } => {
                ends.pad(rows)
            }
            // Members make up for what they lack by themselves.
            Self::Record { .. } | Self::Unknown => {}
        }
    }

    /// Takes a value that is there off the front of the bytes and puts it into a row, the next one.
    #[inline]
    fn read(&mut self, row: usize, shape: &Shape, input: &mut &[u8]) -> Result<(), AvroError> {
        match (self, shape) {
            (Self::Texts(texts), Shape::Text) => texts.push(take_bytes(input)?),
            (Self::Texts(texts), Shape::Fixed(size)) => texts.push_digits(take(input, *size)?),
            (Self::Texts(texts), Shape::Word(words)) => texts.push(take_word(words, input)?),
            (Self::Longs(values), Shape::Long) | (Self::Times(values), Shape::Time) => {
                values.push(take_long(input)?);
            }
            (Self::Amounts(values), Shape::Money) => values.push(Money::decode(input)?.pico()),
            (Self::Truths(bits), Shape::Boolean) => bits.append(bool::decode(input)?),
            (Self::Tags { ends, keys, values }, Shape::Tags) => {
                let mut count = ends.last();
                blocks(input, |input| {
                    count += 1;
                    keys.push(take_bytes(input)?);
                    values.push(take_bytes(input)?);
                    Ok(())
                })?;
                ends.push(count);
            }
            (Self::List { ends, items, .. }, Shape::List(item)) => {
                let mut count = ends.last();
                blocks(input, |input| {
                    count += 1;
                    items.read(count - 1, item, input)
                })?;
                ends.push(count);
            }
            (Self::Record { members, .. }, Shape::Record(shapes)) => {
                for (member, shape) in members.iter_mut().zip(shapes) {
                    member.read(row, &shape.shape, input)?;
                }
            }
            _ => return Err(AvroError::Range("type")),
        }
        Ok(())
    }
}

impl Column {
    pub(super) fn new(shape: &Shape) -> Self {
        Self { rows: 0, present: NullBufferBuilder::new(0), cells: Cells::new(shape) }
    }

    /// True once the row was written to.
    pub(super) const fn has(&self, row: usize) -> bool {
        self.rows > row
    }

    /// Leaves cells empty, up to so many rows in all.
    #[inline]
    fn pad(&mut self, rows: usize) {
        if self.rows < rows {
            self.present.append_n_nulls(rows - self.rows);
            self.cells.pad(rows);
            self.rows = rows;
        }
    }

    /// Takes a value of that shape off the front of the bytes and puts it into a row behind all that were written to; a
    /// value that may be absent and is leaves the cell empty.
    #[inline]
    pub(super) fn read(&mut self, row: usize, shape: &Shape, input: &mut &[u8]) -> Result<(), AvroError> {
        let shape = match shape {
            Shape::Maybe(inner) => {
                if !is_present(input)? {
                    return Ok(());
                }
                inner
            }
            shape => shape,
        };
        self.pad(row);
        self.cells.read(row, shape, input)?;
        self.present.append_non_null();
        self.rows = row + 1;
        Ok(())
    }

    /// Puts a text into a row behind all that were written to.
    pub(super) fn write(&mut self, row: usize, text: &str) {
        self.pad(row);
        if let Cells::Texts(texts) = &mut self.cells {
            texts.push(text.as_bytes());
            self.present.append_non_null();
            self.rows = row + 1;
        }
    }

    /// The column of so many rows; begins anew.
    pub(super) fn take(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.pad(rows);
        self.rows = 0;
        let present = self.present.finish();
        Ok(match &mut self.cells {
            Cells::Truths(bits) => Arc::new(BooleanArray::new(bits.finish(), present)),
            Cells::Longs(values) => Arc::new(Int64Array::try_new(take_all(values).into(), present)?),
            Cells::Times(values) => {
                let times = TimestampMicrosecondArray::try_new(take_all(values).into(), present)?;
                Arc::new(times.with_timezone("UTC"))
            }
            Cells::Amounts(values) => {
                let amounts = Decimal128Array::try_new(take_all(values).into(), present)?;
                Arc::new(amounts.with_data_type(MONEY))
            }
            Cells::Texts(texts) => texts.take_texts(present)?,
            Cells::Tags { ends, keys, values } => {
                let columns = vec![keys.take_texts(None)?, values.take_texts(None)?];
                let entries = StructArray::try_new(tag_fields(), columns, None)?;
                Arc::new(MapArray::try_new(tag_entries(), ends.take(), entries, present, false)?)
            }
            Cells::List { ends, item, items } => {
                let items = items.take(ends.last())?;
                Arc::new(ListArray::try_new(element(item), ends.take(), items, present)?)
            }
            Cells::Record { shape, members } => {
                let members = members.iter_mut().map(|member| member.take(rows));
                let members = members.collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new(struct_fields(shape), members, present)?)
            }
            Cells::Unknown => Arc::new(NullArray::new(rows)),
        })
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], AvroError> {
    let (taken, rest) = input.split_at_checked(count).ok_or(AvroError::Short("fixed"))?;
    *input = rest;
    Ok(taken)
}

fn take_word<'a>(words: &'a [String], input: &mut &[u8]) -> Result<&'a [u8], AvroError> {
    let index = take_long(input)?;
    let word = usize::try_from(index).ok().and_then(|index| words.get(index));
    word.map(String::as_bytes).ok_or(AvroError::Branch("an enum", index))
}

/// Takes the branch of an optional value.
pub(super) fn is_present(input: &mut &[u8]) -> Result<bool, AvroError> {
    match take_long(input)? {
        0 => Ok(false),
        1 => Ok(true),
        branch => Err(AvroError::Branch("an optional field", branch)),
    }
}

/// Takes the items of an array or map, block by block.
fn blocks(
    input: &mut &[u8],
    mut item: impl FnMut(&mut &[u8]) -> Result<(), AvroError>,
) -> Result<(), AvroError> {
    loop {
        let block = take_long(input)?;
        if block == 0 {
            return Ok(());
        }
        if block < 0 {
            take_long(input)?;
        }
        for _ in 0..block.unsigned_abs() {
            item(input)?;
        }
    }
}

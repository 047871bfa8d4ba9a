//! A borrowed reading of the three facts that make up nearly all of `spend`: nothing is copied, nothing allocated.
//!
//! It accepts exactly the bytes that [`bursar_schemas::wire::decode`] accepts; a property test holds the two
//! against each other. Everything else is read by the contract's own decoder.

use bursar_schemas::avro::{Avro, AvroError, Micros, take_bytes, take_long};
use bursar_schemas::facts::{Basis, Confidence, Currency, Fact, LeaseId, Role, VoidReason};
use bursar_schemas::ids::{ProducerId, Pseudonym, RequestId};
use bursar_schemas::meters::Meter;
use bursar_schemas::money::Money;
use bursar_schemas::wire::{self, FRAME, LONGEST, Unreadable};

const RESERVED: u32 = 30;
const SETTLED: u32 = 31;
const VOIDED: u32 = 32;

/// What the ledger needs of a fact's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadView {
    /// The process incarnation that wrote it.
    pub producer: ProducerId,
    /// Its role.
    pub role: Role,
    /// Its number within (producer, lane).
    pub number: u64,
    /// Event time.
    pub at: Micros,
}

/// What an attempt's fact does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Money is set aside.
    Reserve {
        /// The upper bound.
        amount: Money,
    },
    /// The attempt is charged.
    Settle {
        /// What had been reserved.
        reserved: Money,
        /// What it cost.
        amount: Money,
        /// What of that exceeded the reservation.
        overrun: Money,
        /// True when no price was known.
        unpriced: bool,
        /// The dead incarnation that had reserved it.
        reserved_by: Option<ProducerId>,
    },
    /// The reservation is given back whole.
    Void {
        /// The dead incarnation that had reserved it.
        reserved_by: Option<ProducerId>,
    },
}

/// `Reserved`, `Settled` or `Voided`, borrowed from the record bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptView<'a> {
    /// What it begins with.
    pub head: HeadView,
    /// The request.
    pub request: RequestId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The Avro array of the path's accounts, as it stands in the record.
    pub accounts: &'a [u8],
    /// The lease that covers it.
    pub lease: Option<LeaseId>,
    /// What it does.
    pub step: Step,
}

/// A record of `spend`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpendView<'a> {
    /// An attempt's fact.
    Attempt(AttemptView<'a>),
    /// Any other fact of the contract.
    Other(Fact),
}

/// Reads the record bytes of a fact on `spend`.
///
/// # Errors
/// Why they are not a fact, as the contract's decoder says.
pub fn read(value: &[u8]) -> Result<SpendView<'_>, Unreadable> {
    if value.len() > LONGEST {
        return Err(Unreadable::Long);
    }
    let id = wire::schema_id(value)?;
    if !matches!(id, RESERVED | SETTLED | VOIDED) {
        return wire::decode(value).map(SpendView::Other);
    }
    let mut datum = &value[FRAME..];
    match attempt(id, &mut datum) {
        Ok(view) if datum.is_empty() => Ok(SpendView::Attempt(view)),
        // Not an encoding: the contract's decoder names the reason.
        _ => wire::decode(value).map(SpendView::Other),
    }
}

/// The view of a fact's head.
#[must_use]
pub fn head_of(fact: &Fact) -> HeadView {
    let head = fact.head();
    HeadView { producer: head.producer, role: head.role, number: head.number, at: head.at }
}

fn attempt<'a>(id: u32, input: &mut &'a [u8]) -> Result<AttemptView<'a>, AvroError> {
    let head = head(input)?;
    let request = about(input)?;
    let attempt = u32::decode(input)?;
    if id != VOIDED {
        skip_text(input)?;
        skip_text(input)?;
    }
    let accounts = accounts(input)?;
    let lease = Option::<LeaseId>::decode(input)?;
    let amount = Money::decode(input)?;
    let step = match id {
        RESERVED => Step::Reserve { amount },
        SETTLED => settle(amount, input)?,
        _ => {
            VoidReason::decode(input)?;
            Step::Void { reserved_by: Option::decode(input)? }
        }
    };
    Ok(AttemptView { head, request, attempt, accounts, lease, step })
}

fn settle(reserved: Money, input: &mut &[u8]) -> Result<Step, AvroError> {
    let amount = Money::decode(input)?;
    Confidence::decode(input)?;
    let basis = Basis::decode(input)?;
    blocks(input, |input| {
        Meter::decode(input)?;
        u64::decode(input)?;
        Money::decode(input)?;
        Money::decode(input).map(|_| ())
    })?;
    skip_optional(input, skip_text)?;
    let overrun = Money::decode(input)?;
    let reserved_by = Option::decode(input)?;
    Ok(Step::Settle { reserved, amount, overrun, unpriced: basis == Basis::Unpriced, reserved_by })
}

fn head(input: &mut &[u8]) -> Result<HeadView, AvroError> {
    let producer = ProducerId::decode(input)?;
    let role = Role::decode(input)?;
    let number = u64::decode(input)?;
    let at = Micros::decode(input)?;
    u64::decode(input)?;
    skip_text(input)?;
    Currency::decode(input)?;
    Ok(HeadView { producer, role, number, at })
}

fn about(input: &mut &[u8]) -> Result<RequestId, AvroError> {
    let request = RequestId::decode(input)?;
    Micros::decode(input)?;
    skip_text(input)?;
    skip_optional(input, skip_text)?;
    skip_optional(input, skip_text)?;
    skip_text(input)?;
    skip_optional(input, |input| Pseudonym::decode(input).map(|_| ()))?;
    skip_optional(input, skip_text)?;
    blocks(input, |input| {
        skip_text(input)?;
        skip_text(input)
    })?;
    Ok(request)
}

fn accounts<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], AvroError> {
    let whole = *input;
    blocks(input, |input| {
        skip_text(input)?;
        i64::decode(input).map(|_| ())
    })?;
    Ok(&whole[..whole.len() - input.len()])
}

fn skip_text(input: &mut &[u8]) -> Result<(), AvroError> {
    let bytes = take_bytes(input)?;
    // Nearly all texts are short names: that they are ASCII shows faster than that they are UTF-8.
    if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() { Ok(()) } else { Err(AvroError::Utf8) }
}

fn skip_optional(
    input: &mut &[u8],
    skip: impl FnOnce(&mut &[u8]) -> Result<(), AvroError>,
) -> Result<(), AvroError> {
    match take_long(input)? {
        0 => Ok(()),
        1 => skip(input),
        branch => Err(AvroError::Branch("an optional field", branch)),
    }
}

fn blocks(
    input: &mut &[u8],
    mut item: impl FnMut(&mut &[u8]) -> Result<(), AvroError>,
) -> Result<(), AvroError> {
    loop {
        let count = take_long(input)?;
        if count == 0 {
            return Ok(());
        }
        if count < 0 {
            take_long(input)?;
        }
        let count = usize::try_from(count.unsigned_abs()).map_err(|_| AvroError::Range("block"))?;
        if count > input.len() {
            return Err(AvroError::Short("block"));
        }
        for _ in 0..count {
            item(input)?;
        }
    }
}

//! `sum` that is exact or an error: the engine's own wraps around silently at the end of its type.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Int64Type, i256};
use datafusion::common::{ScalarValue, exec_datafusion_err, exec_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
};

use crate::error::OVERFLOW;

/// Widest integer type: 10⁷⁶, while 2⁶⁴ amounts of 10³⁸ are below 10⁵⁸.
const WIDE_DIGITS: u8 = 76;

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    inner: Sum,
}

/// The function.
pub(super) fn checked_sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(CheckedSum { inner: Sum::new() }))
}

/// Types that are summed here; all others are summed by the engine.
fn is_ours(result: &DataType, is_distinct: bool) -> bool {
    !is_distinct && matches!(result, DataType::Int64 | DataType::Decimal128(..))
}

fn scale(result: &DataType) -> i8 {
    if let DataType::Decimal128(_, scale) = result { *scale } else { 0 }
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        if is_ours(&result, args.is_distinct) {
            return Ok(Box::new(Wide { total: None, rows: 0, result }));
        }
        self.inner.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_ours(args.return_field.data_type(), args.is_distinct) {
            return self.accumulator(args);
        }
        self.inner.create_sliding_accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let result = args.return_field.data_type();
        if is_ours(result, args.is_distinct) {
            let wide = DataType::Decimal256(WIDE_DIGITS, scale(result));
            return Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sum"), wide, true))]);
        }
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !is_ours(args.return_field.data_type(), args.is_distinct)
            && self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// A running sum in 256 bits.
#[derive(Debug)]
struct Wide {
    total: Option<i256>,
    /// Values within a sliding frame, so that an empty frame sums to nothing rather than to zero.
    rows: u64,
    result: DataType,
}

impl Wide {
    fn each(values: &ArrayRef, mut act: impl FnMut(i256) -> Result<()>) -> Result<()> {
        match values.data_type() {
            DataType::Int64 => values
                .as_primitive::<Int64Type>()
                .iter()
                .flatten()
                .try_for_each(|value| act(i256::from_i128(i128::from(value)))),
            DataType::Decimal128(..) => (values.as_primitive::<Decimal128Type>().iter().flatten())
                .try_for_each(|value| act(i256::from_i128(value))),
            DataType::Decimal256(..) => {
                values.as_primitive::<Decimal256Type>().iter().flatten().try_for_each(act)
            }
            other => exec_err!("sum was given {other}"),
        }
    }

    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        let mut total = self.total.unwrap_or(i256::ZERO);
        let mut rows = 0;
        Self::each(values, |value| {
            rows += 1;
            total = total.checked_add(value).ok_or_else(|| exec_datafusion_err!("{OVERFLOW} the sum"))?;
            Ok(())
        })?;
        if rows > 0 {
            self.rows += rows;
            self.total = Some(total);
        }
        Ok(())
    }
}

impl Accumulator for Wide {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values.first().map_or(Ok(()), |values| self.add(values))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states.first().map_or(Ok(()), |values| self.add(values))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        let mut total = self.total.unwrap_or(i256::ZERO);
        let mut rows = 0;
        Self::each(values, |value| {
            rows += 1;
            total = total.checked_sub(value).ok_or_else(|| exec_datafusion_err!("{OVERFLOW} the sum"))?;
            Ok(())
        })?;
        self.rows = self.rows.saturating_sub(rows);
        self.total = (self.rows > 0).then_some(total);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let narrow = self.total.map(|total| {
            total.to_i128().ok_or_else(|| exec_datafusion_err!("{OVERFLOW} a sum has more than 38 digits"))
        });
        let narrow = narrow.transpose()?;
        match &self.result {
            DataType::Decimal128(precision, scale) => {
                let most = 10_i128.pow(u32::from(*precision)) - 1;
                if narrow.is_some_and(|sum| sum.unsigned_abs() > most.unsigned_abs()) {
                    return exec_err!("{OVERFLOW} a sum has more than {precision} digits");
                }
                Ok(ScalarValue::Decimal128(narrow, *precision, *scale))
            }
            _ => {
                let sum = narrow.map(i64::try_from).transpose();
                let sum = sum.map_err(|_| exec_datafusion_err!("{OVERFLOW} a sum is beyond 64 bits"))?;
                Ok(ScalarValue::Int64(sum))
            }
        }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Decimal256(self.total, WIDE_DIGITS, scale(&self.result))])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

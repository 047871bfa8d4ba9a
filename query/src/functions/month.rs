//! `month_of(organisation, time)`: the calendar month of an instant in the organisation's own time zone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use bursar_schemas::avro::Micros;
use bursar_schemas::window::{self, Span, Window, WindowError};
use datafusion::common::cast::{as_string_array, as_timestamp_microsecond_array};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Zone name of each organisation; UTC for one that is not named.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MonthOf {
    signature: Signature,
    zones: BTreeMap<String, String>,
}

/// The function over these organisations' zones.
pub(crate) fn month_of(zones: BTreeMap<String, String>) -> ScalarUDF {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let signature = Signature::exact(vec![DataType::Utf8, time], Volatility::Immutable);
    ScalarUDF::new_from_impl(MonthOf { signature, zones })
}

impl ScalarUDFImpl for MonthOf {
    fn name(&self) -> &'static str {
        "month_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [organisations, times] = arrays.as_slice() else {
            return Err(exec_datafusion_err!("month_of takes an organisation and a time"));
        };
        let months = self
            .months(as_string_array(organisations)?, as_timestamp_microsecond_array(times)?)
            .map_err(|error| exec_datafusion_err!("{error}"))?;
        Ok(ColumnarValue::Array(months))
    }
}

impl MonthOf {
    fn months(
        &self,
        organisations: &StringArray,
        times: &TimestampMicrosecondArray,
    ) -> Result<ArrayRef, WindowError> {
        // Rows are nearly in order of time, so the last month of an organisation nearly always fits again.
        let mut last: BTreeMap<&str, (Span, String)> = BTreeMap::new();
        let mut months = StringBuilder::new();
        for (organisation, at) in organisations.iter().zip(times) {
            let (Some(organisation), Some(at)) = (organisation, at.map(Micros)) else {
                months.append_null();
                continue;
            };
            match last.get(organisation) {
                Some((span, name)) if span.holds(at) => months.append_value(name),
                _ => {
                    let zone = window::zone(self.zones.get(organisation).map_or("UTC", String::as_str))?;
                    let span = Window::Month.span(at, &zone)?;
                    let name = name_of(at, &zone)?;
                    months.append_value(&name);
                    last.insert(organisation, (span, name));
                }
            }
        }
        Ok(Arc::new(months.finish()))
    }
}

/// The month as `2026-11`.
fn name_of(at: Micros, zone: &TimeZone) -> Result<String, WindowError> {
    let time = Timestamp::from_microsecond(at.0).map_err(|_| WindowError::Time(at.0))?;
    let date = time.to_zoned(zone.clone()).date();
    Ok(format!("{:04}-{:02}", date.year(), date.month()))
}

//! The functions a statement may call: the engine's own, less what blows one value up without bound, with a
//! bound around what joins values, with exact sums, and with `month_of`.

mod bounded;
mod month;
mod sum;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub(crate) use month::month_of;

/// Functions that can make any amount of memory out of a number or a short text.
const LEFT_OUT: &[&str] = &[
    "repeat",
    "lpad",
    "rpad",
    "replace",
    "regexp_replace",
    "overlay",
    "array_repeat",
    "array_resize",
    "range",
    "generate_series",
    "array_replace",
    "array_replace_n",
    "array_replace_all",
];

/// Functions whose value is as large as their arguments together.
const BOUNDED: &[&str] = &[
    "concat",
    "concat_ws",
    "array_concat",
    "array_append",
    "array_prepend",
    "make_array",
    "struct",
    "named_struct",
    "map",
    "array_to_string",
    "string_to_array",
    "array_union",
    "arrays_zip",
    "flatten",
];

/// Scalar functions.
pub(crate) fn scalar() -> Vec<Arc<ScalarUDF>> {
    SessionStateDefaults::default_scalar_functions()
        .into_iter()
        .filter(|function| !LEFT_OUT.contains(&function.name()))
        .map(
            |function| {
                if BOUNDED.contains(&function.name()) { bounded::bounded(&function) } else { function }
            },
        )
        .collect()
}

/// Aggregate functions.
pub(crate) fn aggregate() -> Vec<Arc<AggregateUDF>> {
    let mut functions: BTreeMap<String, Arc<AggregateUDF>> =
        SessionStateDefaults::default_aggregate_functions()
            .into_iter()
            .map(|function| (function.name().to_owned(), function))
            .collect();
    functions.insert("sum".to_owned(), sum::checked_sum());
    functions.into_values().collect()
}

/// How operators and literals become functions: ours first.
pub(crate) fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(bounded::Planner::new())];
    planners.extend(SessionStateDefaults::default_expr_planners());
    planners
}

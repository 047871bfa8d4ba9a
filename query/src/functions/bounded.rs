//! A bound around functions that join values: their result is as large as their arguments together, and a
//! statement that doubles a value forty times must end in an error rather than in the machine's memory.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef};
use arrow::compute::kernels::concat_elements::concat_elements_utf8;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::cast::as_string_array;
use datafusion::common::{DFSchema, exec_datafusion_err, plan_err, resources_datafusion_err};
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawDictionaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// The most bytes that the arguments of one call may have over one batch of rows.
const MOST_BYTES: usize = 8 * 1024 * 1024;

fn bytes_of(args: &ScalarFunctionArgs) -> usize {
    let each = args.args.iter().map(|arg| match arg {
        ColumnarValue::Array(array) => array.get_array_memory_size().min(sliced(array)),
        ColumnarValue::Scalar(value) => value.size().saturating_mul(args.number_rows.max(1)),
    });
    each.fold(0, usize::saturating_add)
}

/// Size of the part of an array that is in use; a slice of a large array is small.
fn sliced(array: &ArrayRef) -> usize {
    array.to_data().get_slice_memory_size().unwrap_or(usize::MAX)
}

fn check(name: &str, args: &ScalarFunctionArgs) -> Result<()> {
    if bytes_of(args) > MOST_BYTES {
        return Err(resources_datafusion_err!(
            "{name} was given more than {MOST_BYTES} bytes to join at once"
        ));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

/// The function with a bound around it.
pub(super) fn bounded(inner: &Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Bounded { inner: Arc::clone(inner) }))
}

// `simplify` is left at its default on purpose: the inner function would simplify itself to the bare one.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check(self.name(), &args)?;
        self.inner.invoke_with_args(args)
    }
}

/// `a || b` on text: nothing when either is nothing.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Join {
    signature: Signature,
}

impl ScalarUDFImpl for Join {
    fn name(&self) -> &'static str {
        "text_join"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check("||", &args)?;
        let one_row = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [left, right] = arrays.as_slice() else { return Err(exec_datafusion_err!("|| joins two texts")) };
        let joined: ArrayRef =
            Arc::new(concat_elements_utf8(as_string_array(left)?, as_string_array(right)?)?);
        if one_row {
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&joined, 0)?));
        }
        Ok(ColumnarValue::Array(joined))
    }
}

/// Makes operators and literals call the bounded functions.
#[derive(Debug)]
pub(super) struct Planner {
    join: Arc<ScalarUDF>,
    array: Option<Arc<ScalarUDF>>,
}

impl Planner {
    pub(super) fn new() -> Self {
        let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
        let array = SessionStateDefaults::default_scalar_functions()
            .into_iter()
            .find(|function| function.name() == "make_array")
            .map(|function| bounded(&function));
        Self { join: Arc::new(ScalarUDF::new_from_impl(Join { signature })), array }
    }
}

impl ExprPlanner for Planner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if expr.op != BinaryOperator::StringConcat {
            return Ok(PlannerResult::Original(expr));
        }
        let nested = |side: &Expr| side.get_type(schema).map(|kind| kind.is_nested());
        if nested(&expr.left)? || nested(&expr.right)? {
            return plan_err!("|| joins texts; use array_concat or array_append for arrays");
        }
        let text = |side: Expr| side.cast_to(&DataType::Utf8, schema);
        let sides = vec![text(expr.left)?, text(expr.right)?];
        let call = ScalarFunction::new_udf(Arc::clone(&self.join), sides);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }

    fn plan_array_literal(&self, exprs: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        let Some(array) = &self.array else { return Ok(PlannerResult::Original(exprs)) };
        let call = ScalarFunction::new_udf(Arc::clone(array), exprs);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }

    fn plan_dictionary_literal(
        &self,
        _: RawDictionaryExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawDictionaryExpr>> {
        plan_err!("literals of structs are not available; use named_struct")
    }

    fn plan_struct_literal(&self, _: Vec<Expr>, _: bool) -> Result<PlannerResult<Vec<Expr>>> {
        plan_err!("literals of structs are not available; use named_struct")
    }

    fn plan_make_map(&self, _: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        plan_err!("literals of maps are not available")
    }

    fn plan_overlay(&self, _: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        plan_err!("overlay is not available")
    }
}

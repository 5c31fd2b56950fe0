//! The functions that SQL texts may call. There are no tables.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, Result, TableReference, plan_err};
use datafusion_expr::planner::{
    ContextProvider, ExprPlanner, PlannerResult, RawFieldAccessExpr, TypePlanner,
};
use datafusion_expr::{
    AggregateUDF, Expr, GetFieldAccess, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF,
};

use super::types::Types;

/// Aggregates whose partial states are kept; their layouts are held by golden files.
const AGGREGATES: [&str; 9] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "stddev",
    "stddev_pop",
    "var",
    "var_pop",
];

/// What says where and by what it runs, or speaks of Arrow's own types: not of a record.
const REFUSED: [&str; 10] = [
    "arrow_field",
    "arrow_metadata",
    "cast_to_type",
    "file_row_index",
    "input_file_name",
    "try_cast_to_type",
    "union_extract",
    "union_tag",
    "version",
    "with_metadata",
];

/// Functions by name and alias.
pub(super) struct Functions {
    scalars: HashMap<String, Arc<ScalarUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
}

static ALL: LazyLock<Functions> = LazyLock::new(Functions::new);

impl Functions {
    /// The one catalogue.
    pub(super) fn all() -> &'static Self {
        &ALL
    }

    fn new() -> Self {
        let mut scalars = HashMap::new();
        for function in scalar_functions() {
            if REFUSED.contains(&function.name()) {
                continue;
            }
            for alias in function.aliases() {
                scalars.insert(alias.clone(), Arc::clone(&function));
            }
            scalars.insert(function.name().to_owned(), function);
        }
        let mut aggregates = HashMap::new();
        for function in datafusion_functions_aggregate::all_default_aggregate_functions() {
            let known = AGGREGATES.contains(&function.name())
                || function
                    .aliases()
                    .iter()
                    .any(|alias| AGGREGATES.contains(&alias.as_str()));
            if !known {
                continue;
            }
            for alias in function.aliases() {
                aggregates.insert(alias.clone(), Arc::clone(&function));
            }
            aggregates.insert(function.name().to_owned(), function);
        }
        Self {
            scalars,
            aggregates,
            planners: vec![
                Arc::new(FieldAccess),
                Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
                Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
                Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
                Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
            ],
            options: ConfigOptions::default(),
        }
    }

    /// Every name that can be called.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.scalars
            .keys()
            .chain(self.aggregates.keys())
            .map(String::as_str)
    }
}

/// By package, not by what `DataFusion` registers: that depends on features which other crates of a build turn on.
fn scalar_functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    datafusion_functions::core::functions()
        .into_iter()
        .chain(datafusion_functions::datetime::functions())
        .chain(datafusion_functions::encoding::functions())
        .chain(datafusion_functions::math::functions())
        .chain(datafusion_functions::regex::functions())
        .chain(datafusion_functions::string::functions())
        .chain(datafusion_functions::unicode::functions())
}

/// `map['key']` and `struct['member']`.
#[derive(Debug)]
struct FieldAccess;

impl ExprPlanner for FieldAccess {
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { expr, field_access } = access;
        if let GetFieldAccess::NamedStructField { name } = field_access {
            let of = vec![expr, Expr::Literal(name, None)];
            let get = datafusion_functions::core::get_field().call(of);
            Ok(PlannerResult::Planned(get))
        } else {
            plan_err!("items of a list cannot be taken by number")
        }
    }
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("there is no table `{name}`: a text reads only the step above")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalars.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

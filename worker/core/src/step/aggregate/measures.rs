//! The measures: `DataFusion`'s accumulators for partial states, and exact distinct counts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, SortField};
use datafusion_common::Result;
use datafusion_expr::{EmitTo, ExprSchemable, GroupsAccumulator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use hashbrown::HashSet;

use super::groups::Groups;
use super::store::State;
use super::sum::CheckedSum;
use crate::check::{AggregatePlanned, Measure, MeasureKind};
use crate::position::Micros;
use crate::sql;

/// All measures of one aggregate.
#[derive(Debug)]
pub(super) struct Measures {
    kinds: Vec<Kind>,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    reads_now: bool,
}

/// One measure; `first` is the index of its first argument among all arguments.
#[derive(Debug)]
enum Kind {
    Function {
        function: AggregateFunctionExpr,
        states: Vec<FieldRef>,
        first: usize,
        arguments: usize,
    },
    Distinct {
        value: DataType,
        first: usize,
    },
}

/// What one epoch gathered.
pub(super) struct Partial {
    measures: Vec<PartialMeasure>,
}

enum PartialMeasure {
    Function(Box<dyn GroupsAccumulator>),
    Distinct {
        counts: Vec<i64>,
        seen: HashSet<Box<[u8]>>,
        converter: RowConverter,
        bytes: usize,
    },
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partial({} measures)", self.measures.len())
    }
}

/// A batch's argument values with the group and window of each row.
pub(super) struct Gathered<'a> {
    pub(super) values: &'a [ArrayRef],
    pub(super) groups: &'a [usize],
    pub(super) starts: &'a Int64Array,
}

/// Where state rows go when they are merged: the gathered ones, in the order of their groups, and the stored ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Into<'a> {
    /// Number of groups that come out.
    pub(super) groups: usize,
    /// Of each gathered row.
    pub(super) gathered: &'a [usize],
    /// Of each stored row.
    pub(super) old: &'a [usize],
}

impl Measures {
    pub(super) fn new(plan: &AggregatePlanned) -> Result<Self> {
        let mut measures = Self {
            kinds: Vec::new(),
            arguments: Vec::new(),
            reads_now: false,
        };
        measures.reads_now = argument_exprs(plan).any(sql::reads_now);
        measures.compile(plan, Micros(0))?;
        let mut first = 0;
        for measure in &plan.measures {
            let kind = match &measure.kind {
                MeasureKind::Function {
                    function,
                    arguments,
                } => {
                    let values = measures.arguments[first..first + arguments.len()].to_vec();
                    let function = AggregateExprBuilder::new(Arc::clone(function), values)
                        .alias(measure.field.name())
                        .schema(plan.input.clone())
                        .build()?;
                    let states = state_fields(&function)?;
                    Kind::Function {
                        function,
                        states,
                        first,
                        arguments: arguments.len(),
                    }
                }
                MeasureKind::Distinct(value) => {
                    let schema = datafusion_common::DFSchema::try_from(plan.input.clone())?;
                    Kind::Distinct {
                        value: value.get_type(&schema)?,
                        first,
                    }
                }
            };
            first += match &kind {
                Kind::Function { arguments, .. } => *arguments,
                Kind::Distinct { .. } => 1,
            };
            measures.kinds.push(kind);
        }
        Ok(measures)
    }

    pub(super) fn open(&mut self, plan: &AggregatePlanned, now: Micros) -> Result<()> {
        if self.reads_now {
            self.compile(plan, now)
        } else {
            Ok(())
        }
    }

    fn compile(&mut self, plan: &AggregatePlanned, now: Micros) -> Result<()> {
        let compiled = argument_exprs(plan).map(|expr| sql::compile(expr, &plan.input, now));
        self.arguments = compiled.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Arguments of all measures, in order.
    pub(super) fn arguments(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.arguments
    }

    /// Columns of a state row: a distinct count is one integer.
    pub(super) fn state_fields(&self) -> Vec<FieldRef> {
        let mut fields = Vec::new();
        for (i, kind) in self.kinds.iter().enumerate() {
            match kind {
                Kind::Function { states, .. } => {
                    let named = states.iter().enumerate().map(|(j, state)| {
                        Arc::new(Field::new(
                            format!("m{i}.{j}"),
                            state.data_type().clone(),
                            true,
                        ))
                    });
                    fields.extend(named);
                }
                Kind::Distinct { .. } => {
                    fields.push(Arc::new(Field::new(format!("m{i}"), DataType::Int64, true)));
                }
            }
        }
        fields
    }

    /// Type of the values of each distinct measure, by its index among the measures.
    pub(super) fn distinct(&self) -> Vec<(u8, DataType)> {
        let distinct = |(i, kind): (usize, &Kind)| match kind {
            Kind::Distinct { value, .. } => u8::try_from(i).ok().map(|i| (i, value.clone())),
            Kind::Function { .. } => None,
        };
        self.kinds.iter().enumerate().filter_map(distinct).collect()
    }

    /// Accumulators that gathered nothing.
    pub(super) fn partial(&self) -> Result<Partial> {
        let one = |kind: &Kind| {
            Ok(match kind {
                Kind::Function { function, .. } => PartialMeasure::Function(accumulator(function)?),
                Kind::Distinct { value, .. } => PartialMeasure::Distinct {
                    counts: Vec::new(),
                    seen: HashSet::new(),
                    converter: RowConverter::new(vec![SortField::new(value.clone())])?,
                    bytes: 0,
                },
            })
        };
        Ok(Partial {
            measures: self.kinds.iter().map(one).collect::<Result<_>>()?,
        })
    }

    /// Takes a batch in.
    pub(super) fn update(
        &self,
        partial: &mut Partial,
        gathered: &Gathered<'_>,
        groups: &Groups,
        state: Option<&State>,
    ) -> Result<()> {
        for (i, (kind, measure)) in self.kinds.iter().zip(&mut partial.measures).enumerate() {
            match (kind, measure) {
                (
                    Kind::Function {
                        first, arguments, ..
                    },
                    PartialMeasure::Function(accumulator),
                ) => {
                    let values = &gathered.values[*first..first + arguments];
                    accumulator.update_batch(values, gathered.groups, None, groups.len())?;
                }
                (Kind::Distinct { first, .. }, measure @ PartialMeasure::Distinct { .. }) => {
                    let tag = u8::try_from(i).unwrap_or(u8::MAX);
                    distinct(measure, tag, *first, gathered, (groups, state))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Merges stored and gathered state rows into new state columns.
    pub(super) fn merge(
        &self,
        partial: &mut Partial,
        old: &[ArrayRef],
        into: Into<'_>,
    ) -> Result<Vec<ArrayRef>> {
        let groups = into.groups;
        let (mut merged, mut at) = (Vec::new(), 0);
        for (kind, measure) in self.kinds.iter().zip(&mut partial.measures) {
            match (kind, measure) {
                (
                    Kind::Function {
                        function, states, ..
                    },
                    PartialMeasure::Function(gathered),
                ) => {
                    let mut sum = accumulator(function)?;
                    sum.merge_batch(&gathered.state(EmitTo::All)?, into.gathered, groups)?;
                    if !into.old.is_empty() {
                        sum.merge_batch(&old[at..at + states.len()], into.old, groups)?;
                    }
                    merged.extend(sum.state(EmitTo::All)?);
                    at += states.len();
                }
                (Kind::Distinct { .. }, PartialMeasure::Distinct { counts, .. }) => {
                    let mut merged_counts = vec![0; groups];
                    counts.resize(into.gathered.len(), 0);
                    let new = into.gathered.iter().zip(counts.iter());
                    new.for_each(|(&group, &count)| merged_counts[group] += count);
                    if !into.old.is_empty() {
                        let known = arrow::array::AsArray::as_primitive::<
                            arrow::datatypes::Int64Type,
                        >(&old[at]);
                        let old = into.old.iter().zip(known.values());
                        old.for_each(|(&group, &count)| merged_counts[group] += count);
                    }
                    merged.push(Arc::new(Int64Array::from(merged_counts)) as ArrayRef);
                    at += 1;
                }
                _ => {}
            }
        }
        Ok(merged)
    }

    /// State columns to the measures' values.
    pub(super) fn evaluate(&self, states: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>> {
        let all: Vec<usize> = (0..rows).collect();
        let (mut values, mut at) = (Vec::new(), 0);
        for kind in &self.kinds {
            match kind {
                Kind::Function {
                    function,
                    states: fields,
                    ..
                } => {
                    let mut merged = accumulator(function)?;
                    merged.merge_batch(&states[at..at + fields.len()], &all, rows)?;
                    values.push(merged.evaluate(EmitTo::All)?);
                    at += fields.len();
                }
                Kind::Distinct { .. } => {
                    values.push(Arc::clone(&states[at]));
                    at += 1;
                }
            }
        }
        Ok(values)
    }
}

/// Names the meaning of the state rows, whatever else the input holds beside the arguments.
pub(super) fn meaning(plan: &AggregatePlanned) -> String {
    let one = |measure: &Measure| match &measure.kind {
        MeasureKind::Function {
            function,
            arguments,
        } => {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            format!("{}({})", function.name(), arguments.join(", "))
        }
        MeasureKind::Distinct(value) => format!("count(DISTINCT {value})"),
    };
    plan.measures.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// An accumulator that gathered nothing.
fn accumulator(function: &AggregateFunctionExpr) -> Result<Box<dyn GroupsAccumulator>> {
    match checked_sum(function) {
        Some(sum) => Ok(Box::new(sum)),
        None => function.create_groups_accumulator(),
    }
}

fn state_fields(function: &AggregateFunctionExpr) -> Result<Vec<FieldRef>> {
    match checked_sum(function) {
        Some(sum) => Ok(vec![sum.state_field()]),
        None => function.state_fields(),
    }
}

fn checked_sum(function: &AggregateFunctionExpr) -> Option<CheckedSum> {
    let is_sum = function.fun().name() == "sum";
    is_sum.then(|| CheckedSum::of(function.field().data_type()))?
}

fn argument_exprs(plan: &AggregatePlanned) -> impl Iterator<Item = &datafusion_expr::Expr> {
    plan.measures.iter().flat_map(arguments)
}

fn arguments(measure: &Measure) -> &[datafusion_expr::Expr] {
    match &measure.kind {
        MeasureKind::Function { arguments, .. } => arguments,
        MeasureKind::Distinct(value) => std::slice::from_ref(value),
    }
}

/// For each argument the measure that it is of.
pub(super) fn owners(plan: &AggregatePlanned) -> impl Iterator<Item = &Measure> {
    let owned = |measure| arguments(measure).iter().map(move |_| measure);
    plan.measures.iter().flat_map(owned)
}

/// Counts values of a group that neither the stored state nor this epoch has seen. Null is no value.
fn distinct(
    measure: &mut PartialMeasure,
    tag: u8,
    argument: usize,
    gathered: &Gathered<'_>,
    (groups, state): (&Groups, Option<&State>),
) -> Result<()> {
    let PartialMeasure::Distinct {
        counts,
        seen,
        converter,
        bytes,
    } = measure
    else {
        return Ok(());
    };
    counts.resize(groups.len(), 0);
    let values = &gathered.values[argument];
    let rows = converter.convert_columns(std::slice::from_ref(values))?;
    let mut key = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        if values.is_null(i) {
            continue;
        }
        let group = gathered.groups[i];
        key.clear();
        distinct_key(&mut key, tag, &groups.keys()[group], row.data());
        let stored = |state: &State| state.has_distinct(gathered.starts.value(i), key.as_slice());
        if seen.contains(key.as_slice()) || state.is_some_and(stored) {
            continue;
        }
        *bytes += key.len() + 32;
        seen.insert(key.as_slice().into());
        counts[group] += 1;
    }
    Ok(())
}

/// Key of a distinct value: measure, length of the group's key, the group's key, the value's row.
pub(super) fn distinct_key(key: &mut Vec<u8>, measure: u8, group: &[u8], value: &[u8]) {
    key.push(measure);
    key.extend(u32::try_from(group.len()).unwrap_or(u32::MAX).to_be_bytes());
    key.extend(group);
    key.extend(value);
}

/// Takes a distinct value's key apart: measure, group, value.
pub(super) fn split_distinct_key(key: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&measure, rest) = key.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (group, value) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((measure, group, value))
}

impl Partial {
    /// New distinct values of this epoch; they are handed over once.
    pub(super) fn take_distinct(&mut self) -> Vec<Box<[u8]>> {
        let take = |measure: &mut PartialMeasure| match measure {
            PartialMeasure::Distinct { seen, .. } => std::mem::take(seen),
            PartialMeasure::Function(_) => HashSet::new(),
        };
        self.measures.iter_mut().flat_map(take).collect()
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        let one = |measure: &PartialMeasure| match measure {
            PartialMeasure::Function(accumulator) => accumulator.size(),
            PartialMeasure::Distinct { counts, bytes, .. } => counts.len() * 8 + bytes,
        };
        self.measures.iter().map(one).sum()
    }
}

//! `sum` of whole and fixed-point numbers. A sum that its type cannot hold is an error: `DataFusion`'s own would wrap around.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type};
use arrow::error::ArrowError;
use datafusion_common::{DataFusionError, Result, internal_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};

/// Digits of a sum on its way.
const WIDEST: u8 = 38;

/// Sums per group, wider than any of their inputs.
#[derive(Debug)]
pub(super) struct CheckedSum {
    sums: Vec<i128>,
    /// Groups that hold a value; the sum of none is null.
    seen: Vec<bool>,
    result: DataType,
}

impl CheckedSum {
    /// Sums of that type, if it is one that this file speaks of.
    pub(super) fn of(result: &DataType) -> Option<Self> {
        matches!(result, DataType::Int64 | DataType::Decimal128(..)).then(|| Self {
            sums: Vec::new(),
            seen: Vec::new(),
            result: result.clone(),
        })
    }

    /// The column that a group's state is kept in.
    pub(super) fn state_field(&self) -> FieldRef {
        Arc::new(Field::new("sum", self.state_type(), true))
    }

    fn state_type(&self) -> DataType {
        let scale = match self.result {
            DataType::Decimal128(_, scale) => scale,
            _ => 0,
        };
        DataType::Decimal128(WIDEST, scale)
    }

    fn add(&mut self, groups: &[usize], values: impl Iterator<Item = Option<i128>>) -> Result<()> {
        for (&group, value) in groups.iter().zip(values) {
            if let Some(value) = value {
                let sum = self.sums[group].checked_add(value);
                self.sums[group] = sum.ok_or_else(overflow)?;
                self.seen[group] = true;
            }
        }
        Ok(())
    }

    fn take(&mut self, emit: EmitTo) -> Vec<Option<i128>> {
        let sums = emit.take_needed(&mut self.sums);
        let seen = emit.take_needed(&mut self.seen);
        sums.into_iter()
            .zip(seen)
            .map(|(sum, seen)| seen.then_some(sum))
            .collect()
    }
}

fn overflow() -> DataFusionError {
    let message = "a sum is larger than its type can hold".to_owned();
    DataFusionError::from(ArrowError::ArithmeticOverflow(message))
}

impl GroupsAccumulator for CheckedSum {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.sums.resize(total, 0);
        self.seen.resize(total, false);
        let [values] = values else {
            return internal_err!("sum takes one argument");
        };
        if filter.is_some() {
            return internal_err!("sum takes no filter");
        }
        match values.data_type() {
            DataType::Int64 if values.null_count() == 0 => {
                let values = values.as_primitive::<Int64Type>().values().iter();
                self.add(groups, values.map(|&v| Some(i128::from(v))))
            }
            DataType::Int64 => {
                let values = values.as_primitive::<Int64Type>().iter();
                self.add(groups, values.map(|v| v.map(i128::from)))
            }
            DataType::Decimal128(..) => {
                self.add(groups, values.as_primitive::<Decimal128Type>().iter())
            }
            other => internal_err!("sum of {other}"),
        }
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let sums = self.take(emit);
        let DataType::Decimal128(precision, scale) = self.result else {
            let narrow = |sum: i128| i64::try_from(sum).map_err(|_| overflow());
            let sums = sums.into_iter().map(|sum| sum.map(narrow).transpose());
            return Ok(Arc::new(sums.collect::<Result<Int64Array>>()?));
        };
        let sums = Decimal128Array::from(sums).with_precision_and_scale(precision, scale)?;
        sums.validate_decimal_precision(precision)
            .map_err(|_| overflow())?;
        Ok(Arc::new(sums))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = Decimal128Array::from(self.take(emit)).with_data_type(self.state_type());
        Ok(vec![Arc::new(sums)])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(values, groups, None, total)
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        internal_err!("states come from groups alone")
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.seen.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summed(result: &DataType, values: ArrayRef) -> Result<ArrayRef> {
        let mut first = CheckedSum::of(result).unwrap();
        first.update_batch(&[values], &[0, 0, 1], None, 2)?;
        let state = first.state(EmitTo::All)?;
        let mut second = CheckedSum::of(result).unwrap();
        second.merge_batch(&state, &[0, 1], 2)?;
        second.evaluate(EmitTo::All)
    }

    #[test]
    fn sums_pass_through_their_state() {
        let values = Int64Array::from(vec![Some(i64::MAX), Some(-1), None]);
        let expected = Int64Array::from(vec![Some(i64::MAX - 1), None]);
        let sums = summed(&DataType::Int64, Arc::new(values)).unwrap();
        assert_eq!(sums.as_ref(), &expected as &dyn Array);
    }

    #[test]
    fn rule_38_a_sum_too_large_is_an_error_and_no_other_number() {
        let values = Int64Array::from(vec![i64::MAX, 1, 0]);
        assert!(summed(&DataType::Int64, Arc::new(values)).is_err());
        let nines = 10_i128.pow(38) - 1;
        let values = Decimal128Array::from(vec![nines, 1, 0]);
        let values = values.with_precision_and_scale(38, 2).unwrap();
        assert!(summed(&DataType::Decimal128(38, 2), Arc::new(values)).is_err());
    }

    #[test]
    fn a_sum_may_leave_the_range_and_come_back() {
        let values = Int64Array::from(vec![i64::MAX, i64::MAX, 0]);
        let mut sum = CheckedSum::of(&DataType::Int64).unwrap();
        sum.update_batch(&[Arc::new(values) as ArrayRef], &[0, 0, 0], None, 1)
            .unwrap();
        let back: ArrayRef = Arc::new(Int64Array::from(vec![-i64::MAX]));
        sum.update_batch(&[back], &[0], None, 1).unwrap();
        let sums = sum.evaluate(EmitTo::All).unwrap();
        assert_eq!(sums.as_primitive::<Int64Type>().values(), &[i64::MAX]);
    }
}

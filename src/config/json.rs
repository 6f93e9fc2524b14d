//! TOML as JSON.

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::value::Mismatch;

/// A table as an object. JSON has no dates, nor numbers that are none.
pub(super) fn object(table: &DeTable<'_>) -> Result<Map<String, Value>, Mismatch> {
    table.iter().map(|(name, item)| Ok((name.get_ref().to_string(), value(item.get_ref())?))).collect()
}

fn value(item: &DeValue<'_>) -> Result<Value, Mismatch> {
    Ok(match item {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(is) => Value::Bool(*is),
        DeValue::Integer(integer) => {
            let parsed = i64::from_str_radix(integer.as_str(), integer.radix());
            let number = parsed.map_err(|_| no_json(integer.as_str(), "numbers have at most 64 bits"))?;
            Value::Number(number.into())
        }
        DeValue::Float(float) => {
            let parsed = float.as_str().parse().ok().and_then(Number::from_f64);
            Value::Number(parsed.ok_or_else(|| no_json(float.as_str(), "write a finite number"))?)
        }
        DeValue::Datetime(date) => return Err(no_json(&date.to_string(), "put the date in quotes")),
        DeValue::Array(items) => {
            let items: Result<_, _> = items.iter().map(|item| value(item.get_ref())).collect();
            Value::Array(items?)
        }
        DeValue::Table(table) => Value::Object(object(table)?),
    })
}

fn no_json(text: &str, hint: &str) -> Mismatch {
    Mismatch::new(format!("not a value of JSON: `{text}`"), hint)
}

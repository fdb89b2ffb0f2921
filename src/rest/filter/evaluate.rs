use super::{Comparison, Expression, Function, Subject};
use std::borrow::Cow;
use std::cmp::Ordering;

/// What an expression comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value<'a> {
    Null,
    Text(Cow<'a, str>),
    Integer(i64),
    Bool(bool),
}

/// True, false, or neither.
pub(super) fn truth(expression: &Expression, subject: &Subject<'_>) -> Option<bool> {
    match expression {
        Expression::Not(one) => truth(one, subject).map(|truth| !truth),
        Expression::All(list) => joined(list, subject, false),
        Expression::Any(list) => joined(list, subject, true),
        _ => match value(expression, subject) {
            Value::Bool(truth) => Some(truth),
            _ => None,
        },
    }
}

/// One that decides does so whatever the others are; otherwise one that is neither makes the whole neither.
fn joined(list: &[Expression], subject: &Subject<'_>, deciding: bool) -> Option<bool> {
    let mut outcome = Some(!deciding);
    for one in list {
        match truth(one, subject) {
            Some(truth) if truth == deciding => return Some(deciding),
            None => outcome = None,
            _ => {}
        }
    }
    outcome
}

fn value<'a>(expression: &'a Expression, subject: &Subject<'a>) -> Value<'a> {
    match expression {
        Expression::Text(text) => Value::Text(Cow::Borrowed(text)),
        Expression::Integer(value) => Value::Integer(*value),
        Expression::Bool(value) => Value::Bool(*value),
        Expression::ConnectionId => Value::Text(Cow::Borrowed(subject.connection_id)),
        Expression::UserId => subject.user_id.map_or(Value::Null, |user| Value::Text(Cow::Borrowed(user))),
        // a list is no value: those who take one look at the subject
        Expression::Null | Expression::Groups => Value::Null,
        Expression::Not(_) | Expression::All(_) | Expression::Any(_) => {
            truth(expression, subject).map_or(Value::Null, Value::Bool)
        }
        Expression::Compare(comparison, left, right) => {
            Value::Bool(compare(*comparison, &value(left, subject), &value(right, subject)))
        }
        Expression::OneOf(one, list) => {
            let one = value(one, subject);
            Value::Bool(list.iter().any(|other| value(other, subject) == one))
        }
        Expression::InGroups(one) => {
            let one = value(one, subject);
            Value::Bool(matches!(&one, Value::Text(one) if subject.groups.iter().any(|group| group == one)))
        }
        Expression::Call(function, arguments) => call(*function, arguments, subject),
    }
}

fn compare(comparison: Comparison, left: &Value<'_>, right: &Value<'_>) -> bool {
    let order = match (left, right) {
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Integer(left), Value::Integer(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match comparison {
        Comparison::Eq => left == right,
        Comparison::Ne => left != right,
        Comparison::Gt => order == Some(Ordering::Greater),
        Comparison::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Comparison::Lt => order == Some(Ordering::Less),
        Comparison::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
    }
}

fn call<'a>(function: Function, arguments: &'a [Expression], subject: &Subject<'a>) -> Value<'a> {
    if function == Function::Length && arguments == [Expression::Groups] {
        return Value::Integer(subject.groups.len() as i64);
    }
    let values: Vec<Value<'a>> = arguments.iter().map(|argument| value(argument, subject)).collect();
    let text = |text: String| Value::Text(Cow::Owned(text));
    match (function, &*values) {
        (Function::StartsWith, [Value::Text(one), Value::Text(other)]) => Value::Bool(one.starts_with(&**other)),
        (Function::EndsWith, [Value::Text(one), Value::Text(other)]) => Value::Bool(one.ends_with(&**other)),
        (Function::Contains, [Value::Text(one), Value::Text(other)]) => Value::Bool(one.contains(&**other)),
        (Function::IndexOf, [Value::Text(one), Value::Text(other)]) => {
            Value::Integer(one.find(&**other).map_or(-1, |at| units(&one[..at])))
        }
        (Function::Length, [Value::Text(one)]) => Value::Integer(units(one)),
        (Function::ToLower, [Value::Text(one)]) => text(one.to_lowercase()),
        (Function::ToUpper, [Value::Text(one)]) => text(one.to_uppercase()),
        (Function::Trim, [Value::Text(one)]) => text(one.trim().to_owned()),
        (Function::Concat, [Value::Text(one), Value::Text(other)]) => text(format!("{one}{other}")),
        (Function::Substring, [Value::Text(one), Value::Integer(start)]) => text(substring(one, *start, i64::MAX)),
        (Function::Substring, [Value::Text(one), Value::Integer(start), Value::Integer(length)]) => {
            text(substring(one, *start, *length))
        }
        // something is null
        _ => Value::Null,
    }
}

/// The length as the service counts it: a character outside of the basic plane has two.
fn units(text: &str) -> i64 {
    text.encode_utf16().count() as i64
}

/// What is outside of the text is nothing.
fn substring(text: &str, start: i64, length: i64) -> String {
    let skipped = usize::try_from(start).unwrap_or(0);
    let taken = usize::try_from(length).unwrap_or(0);
    let part: Vec<u16> = text.encode_utf16().skip(skipped).take(taken).collect();
    String::from_utf16_lossy(&part)
}

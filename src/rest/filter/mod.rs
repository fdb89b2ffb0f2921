//! Filters of connections: the part of OData's expressions that the service knows.

mod evaluate;
mod parse;
mod tokens;

use evaluate::truth;
use parse::Parser;

/// An expression that is true for some connections: `userId eq 'ann' and 'vip' in groups`.
///
/// `not` binds closest, then comparisons and `in`, then `and`, then `or`. Whatever is made of a null is null, except that `eq` and `ne`
/// compare it; what is neither true nor false matches nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filter(Expression);

/// A connection, as filters see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) connection_id: &'a str,
    pub(crate) user_id: Option<&'a str>,
    pub(crate) groups: &'a [String],
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid syntax for '{filter}': {detail}. (Parameter 'filter')")]
pub(crate) struct FilterError {
    filter: String,
    detail: String,
}

impl Filter {
    /// Reads a filter, whose depth and size are bounded.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let error = |detail: String| FilterError { filter: text.to_owned(), detail };
        if text.len() > LONGEST {
            let shown = text.chars().take(40).collect::<String>() + "…";
            return Err(FilterError { filter: shown, detail: format!("it is longer than {LONGEST} bytes") });
        }
        let tokens = tokens::cut(text).map_err(error)?;
        Parser::new(&tokens).filter().map(Self).map_err(error)
    }

    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        truth(&self.0, subject) == Some(true)
    }

    /// Whether the groups have to be known.
    pub(crate) fn needs_groups(&self) -> bool {
        self.0.needs_groups()
    }
}

/// A node, known to be of the kinds that its operator takes.
#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Text(String),
    Integer(i64),
    Bool(bool),
    Null,
    UserId,
    ConnectionId,
    Groups,
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Compare(Comparison, Box<Expression>, Box<Expression>),
    OneOf(Box<Expression>, Vec<Expression>),
    InGroups(Box<Expression>),
    Call(Function, Vec<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    StartsWith,
    EndsWith,
    Contains,
    IndexOf,
    Length,
    ToLower,
    ToUpper,
    Trim,
    Substring,
    Concat,
}

/// What an expression gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Bool,
    Groups,
    /// Only the literal.
    Null,
}

impl Expression {
    fn kind(&self) -> Kind {
        match self {
            Self::Text(_) | Self::UserId | Self::ConnectionId => Kind::Text,
            Self::Integer(_) => Kind::Integer,
            Self::Null => Kind::Null,
            Self::Groups => Kind::Groups,
            Self::Bool(_) | Self::Not(_) | Self::All(_) | Self::Any(_) => Kind::Bool,
            Self::Compare(..) | Self::OneOf(..) | Self::InGroups(_) => Kind::Bool,
            Self::Call(function, _) => function.result(),
        }
    }

    fn needs_groups(&self) -> bool {
        match self {
            Self::Groups | Self::InGroups(_) => true,
            Self::Not(one) => one.needs_groups(),
            Self::All(list) | Self::Any(list) | Self::Call(_, list) => list.iter().any(Self::needs_groups),
            Self::Compare(_, left, right) => left.needs_groups() || right.needs_groups(),
            Self::OneOf(one, list) => one.needs_groups() || list.iter().any(Self::needs_groups),
            _ => false,
        }
    }
}

impl Function {
    fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "startswith" => Self::StartsWith,
            "endswith" => Self::EndsWith,
            "contains" => Self::Contains,
            "indexof" => Self::IndexOf,
            "length" => Self::Length,
            "tolower" => Self::ToLower,
            "toupper" => Self::ToUpper,
            "trim" => Self::Trim,
            "substring" => Self::Substring,
            "concat" => Self::Concat,
            _ => return None,
        })
    }

    fn result(self) -> Kind {
        match self {
            Self::StartsWith | Self::EndsWith | Self::Contains => Kind::Bool,
            Self::IndexOf | Self::Length => Kind::Integer,
            _ => Kind::Text,
        }
    }

    /// Whether it takes arguments of these kinds. Null is taken for any.
    fn takes(self, kinds: &[Kind]) -> bool {
        let is = |at: usize, kind: Kind| kinds[at] == kind || kinds[at] == Kind::Null;
        match (self, kinds.len()) {
            (Self::Length, 1) => is(0, Kind::Text) || kinds[0] == Kind::Groups,
            (Self::ToLower | Self::ToUpper | Self::Trim, 1) => is(0, Kind::Text),
            (Self::StartsWith | Self::EndsWith | Self::Contains | Self::IndexOf | Self::Concat, 2) => {
                is(0, Kind::Text) && is(1, Kind::Text)
            }
            (Self::Substring, 2) => is(0, Kind::Text) && is(1, Kind::Integer),
            (Self::Substring, 3) => is(0, Kind::Text) && is(1, Kind::Integer) && is(2, Kind::Integer),
            _ => false,
        }
    }
}

/// A request's whole address has no more.
const LONGEST: usize = 12 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, user: Option<&str>, groups: &[&str]) -> bool {
        let filter = Filter::parse(filter).unwrap_or_else(|error| panic!("{error}"));
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        assert!(filter.needs_groups() || groups.is_empty(), "{filter:?}");
        filter.matches(&Subject { connection_id: "c1", user_id: user, groups: &groups })
    }

    #[test]
    fn expressions_mean_what_they_say() {
        for (filter, want) in [
            ("userId eq 'ann'", true),
            ("userId ne 'ann'", false),
            ("userId eq null", false),
            ("userId ne null", true),
            ("null eq userId", false),
            ("userId gt 'am' and userId le 'ann'", true),
            ("connectionId ge 'c2'", false),
            ("userId in ('bob','ann')", true),
            ("userId in ( 'bob' )", false),
            ("not (userId eq 'bob')", true),
            ("not startswith(userId,'b')", true),
            ("not true eq false", true),
            ("true", true),
            // `and` binds closer than `or`
            ("true or false and false", true),
            ("(true or false) and false", false),
            ("false and false or true", true),
            ("startswith(userId,'a') and endswith(userId,'n')", true),
            ("contains(userId,'nn')", true),
            ("contains(userId,'N')", false),
            ("contains(toupper(userId),'N')", true),
            ("indexof(userId,'n') eq 1", true),
            ("indexof(userId,'x') eq -1", true),
            ("length(userId) gt 2", true),
            ("tolower('ÄX') eq 'äx'", true),
            ("trim(' a ') eq 'a'", true),
            ("substring(userId,1) eq 'nn'", true),
            ("substring(userId,1,1) eq 'n'", true),
            ("substring(userId,9) eq ''", true),
            ("concat(concat(userId,'-'),connectionId) eq 'ann-c1'", true),
            ("'it''s' eq concat('it','''s')", true),
            ("length('') in (1,0)", true),
            ("length('a') lt 9223372036854775807", true),
        ] {
            assert_eq!(matches(filter, Some("ann"), &[]), want, "{filter}");
        }
    }

    #[test]
    fn nobody_and_groups() {
        for (filter, want) in [
            ("userId eq null", true),
            ("userId eq 'ann'", false),
            ("not (userId eq 'ann')", true),
            ("userId ne 'ann'", true),
            ("userId gt 'a'", false),
            ("startswith(userId,'a')", false),
            ("not startswith(userId,'a')", false),
            ("startswith(userId,'a') or true", true),
            ("startswith(userId,'a') and true", false),
            ("userId in ('a')", false),
            ("userId in ('a',null)", true),
            ("length(userId) eq null", true),
        ] {
            assert_eq!(matches(filter, None, &[]), want, "{filter}");
        }
        for (filter, want) in [
            ("'vip' in groups", true),
            ("not ('vip' in groups)", false),
            ("'VIP' in groups", false),
            ("length(groups) eq 2", true),
            ("userId in groups", true),
            ("concat('v','ip') in groups and userId eq 'ann'", true),
        ] {
            assert_eq!(matches(filter, Some("ann"), &["vip", "ann"]), want, "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_says_why() {
        for filter in [
            "",
            "userId",
            "userId eq",
            "userId eq 'a",
            "userId eq 1",
            "userId eq 'a' and",
            "userId eq 'a' 'b'",
            "eq 'a'",
            "(userId eq 'a'",
            "userId eq 'a')",
            "userid eq 'a'",
            "userId EQ 'a'",
            "not userId eq 'a'",
            "userId = 'a'",
            "groups eq 'a'",
            "'a' in userId",
            "'a' in ()",
            "'a' in ('b',1)",
            "1 in groups",
            "length(1) eq 1",
            "length(userId,userId) eq 1",
            "nosuch(userId)",
            "true gt false",
            "length(userId) eq 9223372036854775808",
            "- 1 eq 1",
            "'a' eq 'b' eq true",
        ] {
            let error = Filter::parse(filter).expect_err(filter).to_string();
            assert!(error.starts_with(&format!("Invalid syntax for '{filter}': ")), "{error}");
            assert!(error.ends_with(". (Parameter 'filter')"), "{error}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
        assert!(Filter::parse(&nested(20)).is_ok() && Filter::parse(&nested(5000)).is_err());
        assert!(Filter::parse(&format!("{}true", "not ".repeat(2000))).is_err());
        let clauses = |n: usize| vec!["userId eq 'a'"; n].join(" or ");
        assert!(Filter::parse(&clauses(100)).is_ok() && Filter::parse(&clauses(750)).is_err());
        assert!(Filter::parse(&"x".repeat(LONGEST + 1)).unwrap_err().to_string().len() < 200);
    }
    /// Whatever is written, it is a filter or it is not.
    #[test]
    fn nothing_that_is_written_breaks_the_reader() {
        let words = [
            "userId",
            "groups",
            "'a'",
            "''",
            "'",
            "eq",
            "in",
            "and",
            "or",
            "not",
            "(",
            ")",
            ",",
            "length",
            "substring",
            "1",
            "-9223372036854775808",
            "null",
            "true",
            " ",
            "é",
            "\u{0}",
            "concat",
            "indexof",
        ];
        let subject = Subject { connection_id: "c", user_id: Some("é😀"), groups: &["a".to_owned()] };
        let mut state = 20_261_128u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let mut good = 0;
        for _ in 0..200_000 {
            let length = 1 + next(9);
            let text: String = (0..length).flat_map(|_| [words[next(words.len())], " "]).collect();
            if let Ok(filter) = Filter::parse(&text) {
                good += 1;
                let _ = filter.matches(&subject);
            }
        }
        assert!(good > 100, "{good}");
    }
}

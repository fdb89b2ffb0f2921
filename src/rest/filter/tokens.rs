/// A word of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'t> {
    Text(String),
    Integer(i64),
    Word(&'t str),
    Open,
    Close,
    Comma,
}

/// Cuts a filter into its words.
pub(super) fn cut(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let (token, after) = match first {
            '(' => (Token::Open, &rest[1..]),
            ')' => (Token::Close, &rest[1..]),
            ',' => (Token::Comma, &rest[1..]),
            '\'' => literal(&rest[1..])?,
            '-' | '0'..='9' => integer(rest)?,
            'A'..='Z' | 'a'..='z' | '_' => {
                let (word, after) = split(rest, |c| !c.is_ascii_alphanumeric() && c != '_');
                (Token::Word(word), after)
            }
            other => {
                let at = text.len() - rest.len();
                return Err(format!("the character '{other}' at position {at} is not expected"));
            }
        };
        tokens.push(token);
        rest = after;
    }
}

/// A text behind its first quote; a quote in it is written twice.
fn literal(mut rest: &str) -> Result<(Token<'_>, &str), String> {
    let mut text = String::new();
    loop {
        let (part, after) = rest.split_once('\'').ok_or("a text has no closing quote")?;
        text.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                text.push('\'');
                rest = after;
            }
            None => return Ok((Token::Text(text), after)),
        }
    }
}

fn integer(rest: &str) -> Result<(Token<'_>, &str), String> {
    let sign = usize::from(rest.starts_with('-'));
    let (digits, after) = split(&rest[sign..], |c| !c.is_ascii_alphanumeric());
    let number = &rest[..sign + digits.len()];
    let value = number.parse().map_err(|_| format!("'{number}' is not an integer of 64 bits"))?;
    Ok((Token::Integer(value), after))
}

fn split(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

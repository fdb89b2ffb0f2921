use super::tokens::Token;
use super::{Comparison, Expression, Function, Kind};

/// Reads an expression by descent, one function a level of precedence, and checks the kinds on the way.
pub(super) struct Parser<'t> {
    rest: &'t [Token<'t>],
    /// How many parentheses, functions and negations are around what is being read.
    depth: usize,
    nodes: usize,
}

type Parsed<T = Expression> = Result<T, String>;

impl<'t> Parser<'t> {
    pub(super) fn new(tokens: &'t [Token<'t>]) -> Self {
        Self { rest: tokens, depth: 0, nodes: 0 }
    }

    pub(super) fn filter(mut self) -> Parsed {
        let whole = self.any()?;
        match self.rest.first() {
            Some(token) => Err(format!("{} is not expected behind the expression", show(token))),
            None => boolean(whole, "the filter"),
        }
    }

    fn any(&mut self) -> Parsed {
        self.joined("or", Self::all, Expression::Any)
    }

    fn all(&mut self) -> Parsed {
        self.joined("and", Self::comparison, Expression::All)
    }

    /// One or several expressions with a word between them; several are a list, so that their number makes nothing deep.
    fn joined(
        &mut self,
        word: &str,
        part: impl Fn(&mut Self) -> Parsed,
        join: impl FnOnce(Vec<Expression>) -> Expression,
    ) -> Parsed {
        let first = part(self)?;
        if !self.next_is(word) {
            return Ok(first);
        }
        let mut parts = vec![boolean(first, word)?];
        while self.take(word) {
            parts.push(boolean(part(self)?, word)?);
        }
        self.count()?;
        Ok(join(parts))
    }

    fn comparison(&mut self) -> Parsed {
        let left = self.unary()?;
        if self.take("in") {
            return self.inclusion(left);
        }
        let Some(comparison) = self.comparison_word() else { return Ok(left) };
        self.rest = &self.rest[1..];
        let right = self.unary()?;
        check_comparison(comparison, left.kind(), right.kind())?;
        self.count()?;
        Ok(Expression::Compare(comparison, Box::new(left), Box::new(right)))
    }

    fn comparison_word(&self) -> Option<Comparison> {
        let Some(Token::Word(word)) = self.rest.first() else { return None };
        Some(match *word {
            "eq" => Comparison::Eq,
            "ne" => Comparison::Ne,
            "gt" => Comparison::Gt,
            "ge" => Comparison::Ge,
            "lt" => Comparison::Lt,
            "le" => Comparison::Le,
            _ => return None,
        })
    }

    /// Behind `in`: the groups, or a list.
    fn inclusion(&mut self, one: Expression) -> Parsed {
        self.count()?;
        if self.take("groups") {
            return match one.kind() {
                Kind::Text | Kind::Null => Ok(Expression::InGroups(Box::new(one))),
                _ => Err("only a text can be in groups".to_owned()),
            };
        }
        self.expect(&Token::Open, "a list or 'groups' has to follow 'in'")?;
        let list = self.list()?;
        if list.is_empty() {
            return Err("the list behind 'in' is empty".to_owned());
        }
        for other in &list {
            check_comparison(Comparison::Eq, one.kind(), other.kind())?;
        }
        Ok(Expression::OneOf(Box::new(one), list))
    }

    fn unary(&mut self) -> Parsed {
        if !self.take("not") {
            return self.primary();
        }
        let inner = self.deeper(Self::unary)?;
        Ok(Expression::Not(Box::new(boolean(inner, "not")?)))
    }

    fn primary(&mut self) -> Parsed {
        self.count()?;
        let (token, rest) = self.rest.split_first().ok_or("it ends too early")?;
        self.rest = rest;
        match token {
            Token::Text(text) => Ok(Expression::Text(text.clone())),
            Token::Integer(value) => Ok(Expression::Integer(*value)),
            Token::Open => {
                let inner = self.deeper(Self::any)?;
                self.expect(&Token::Close, "a parenthesis is not closed")?;
                Ok(inner)
            }
            Token::Word(word) => self.word(word),
            other => Err(format!("{} is not expected here", show(other))),
        }
    }

    fn word(&mut self, word: &str) -> Parsed {
        Ok(match word {
            "true" => Expression::Bool(true),
            "false" => Expression::Bool(false),
            "null" => Expression::Null,
            "userId" => Expression::UserId,
            "connectionId" => Expression::ConnectionId,
            "groups" => Expression::Groups,
            _ => return self.call(word),
        })
    }

    fn call(&mut self, name: &str) -> Parsed {
        let function = Function::by_name(name).ok_or_else(|| format!("'{name}' is not known"))?;
        self.expect(&Token::Open, "a parenthesis has to follow the name of a function")?;
        let arguments = self.list()?;
        let kinds: Vec<Kind> = arguments.iter().map(Expression::kind).collect();
        if function.takes(&kinds) {
            Ok(Expression::Call(function, arguments))
        } else {
            Err(format!("the arguments do not fit '{name}'"))
        }
    }

    /// Behind an opening parenthesis, up to the closing one.
    fn list(&mut self) -> Parsed<Vec<Expression>> {
        let mut list = Vec::new();
        if self.rest.first() != Some(&Token::Close) {
            loop {
                list.push(self.deeper(Self::any)?);
                if self.rest.first() != Some(&Token::Comma) {
                    break;
                }
                self.rest = &self.rest[1..];
            }
        }
        self.expect(&Token::Close, "a list is not closed")?;
        Ok(list)
    }

    fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == DEEPEST {
            return Err(format!("it nests more than {DEEPEST} levels"));
        }
        self.depth += 1;
        let part = part(self);
        self.depth -= 1;
        part
    }

    fn count(&mut self) -> Parsed<()> {
        self.nodes += 1;
        if self.nodes > MOST_NODES { Err("it has too many clauses".to_owned()) } else { Ok(()) }
    }

    fn next_is(&self, word: &str) -> bool {
        self.rest.first() == Some(&Token::Word(word))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.next_is(word);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn expect(&mut self, token: &Token<'_>, otherwise: &str) -> Parsed<()> {
        match self.rest.split_first() {
            Some((first, rest)) if first == token => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(otherwise.to_owned()),
        }
    }
}

fn boolean(expression: Expression, what: &str) -> Parsed {
    match expression.kind() {
        Kind::Bool => Ok(expression),
        _ => Err(format!("{what} needs something that is true or false")),
    }
}

fn check_comparison(comparison: Comparison, left: Kind, right: Kind) -> Parsed<()> {
    let equality = matches!(comparison, Comparison::Eq | Comparison::Ne);
    let fits = match (left, right) {
        (Kind::Groups, _) | (_, Kind::Groups) => false,
        (Kind::Bool, _) | (_, Kind::Bool) if !equality => false,
        (Kind::Null, _) | (_, Kind::Null) => true,
        (left, right) => left == right,
    };
    if fits { Ok(()) } else { Err("values of different kinds cannot be compared".to_owned()) }
}

fn show(token: &Token<'_>) -> String {
    match token {
        Token::Text(_) => "a text".to_owned(),
        Token::Integer(value) => format!("'{value}'"),
        Token::Word(word) => format!("'{word}'"),
        Token::Open => "'('".to_owned(),
        Token::Close => "')'".to_owned(),
        Token::Comma => "','".to_owned(),
    }
}

/// Each level costs stack.
const DEEPEST: usize = 32;
/// About a thousand clauses of a comparison each would do; the guideline is a hundred.
const MOST_NODES: usize = 2000;

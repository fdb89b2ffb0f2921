use std::borrow::Cow;

/// A request's query: names without regard to case, values decoded (`+` is a space, `%2B` a plus).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(crate) fn new(query: Option<&'a str>) -> Self {
        Self(query.unwrap_or_default())
    }

    /// The first value of a name. Several are one value, joined by commas, as the reference reads them.
    pub(crate) fn value(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut values = self.pairs().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let first = values.next()?;
        Some(values.fold(first, |joined, value| Cow::Owned(format!("{joined},{value}"))))
    }

    /// All pairs in their order, decoded.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        form_urlencoded::parse(self.0.as_bytes())
    }

    /// The query as it was written, without the secrets in it.
    pub(crate) fn without_secrets(&self) -> Box<str> {
        let is_secret = |pair: &&str| {
            let name = form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name);
            name.is_some_and(|n| SECRET.iter().any(|secret| n.eq_ignore_ascii_case(secret)))
        };
        let kept: Vec<&str> = self.0.split('&').filter(|pair| !is_secret(pair)).collect();
        kept.join("&").into()
    }
}

/// The connection token and the bearer token of browsers.
const SECRET: [&str; 2] = ["id", "access_token"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_as_forms_are() {
        let query = Query::new(Some("a=x%2By&b=x+y&c=%E2%98%83%F0%9F%98%80&d=p=q/r?s&e=&f=100%25"));
        let values: Vec<_> = query.pairs().map(|(_, v)| v.into_owned()).collect();
        assert_eq!(values, ["x+y", "x y", "☃😀", "p=q/r?s", "", "100%"]);
    }

    #[test]
    fn names_ignore_case_and_repeats_are_joined() {
        assert_eq!(Query::new(Some("ID=a&id=b")).value("Id").unwrap(), "a,b");
        assert_eq!(Query::new(None).value("id"), None);
    }

    #[test]
    fn tokens_are_not_kept() {
        let query = Query::new(Some("id=secret&a=1&Access_Token=secret&%69d=secret&b=2"));
        assert_eq!(&*query.without_secrets(), "a=1&b=2");
    }
}

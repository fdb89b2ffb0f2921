use super::errors::{Refusal, json_body};
use super::operations::{Answer, Context, number};
use super::routes::Scope;
use crate::backplane::{Found, Page, Whom};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// Which part of a list was asked for.
struct Wanted {
    size: usize,
    /// How many more in all.
    top: Option<u64>,
    after: Option<String>,
}

pub(super) async fn members(context: &Context<'_>) -> Answer {
    let found = connections_of(context, context.whom(Scope::Group)).await?;
    page(context, found, |found| {
        let mut row = Map::from_iter([("connectionId".to_owned(), json!(found.id))]);
        row.extend(found.user.as_ref().map(|user| ("userId".to_owned(), json!(user))));
        row
    })
}

/// Every connection of the hub, and how it is connected.
pub(super) async fn connections(context: &Context<'_>, whom: Whom) -> Answer {
    let found = connections_of(context, whom).await?;
    page(context, found, |found| {
        let mut row =
            Map::from_iter([("connectionId".to_owned(), json!(found.id)), ("groups".to_owned(), json!(found.count))]);
        let texts = [("userId", &found.user), ("transport", &found.transport), ("protocol", &found.protocol)];
        row.extend(texts.iter().filter_map(|(name, text)| Some(((*name).to_owned(), json!(text.as_ref()?)))));
        row
    })
}

/// Every group that has a member.
pub(super) async fn groups(context: &Context<'_>) -> Answer {
    let wanted = Wanted::read(context)?;
    let found = match &context.hub {
        Some(hub) => hub.groups(wanted.page()).wait().await?,
        None => Vec::new(),
    };
    page(context, (wanted, found), |found| named(&found.id, found.count))
}

/// Every application server of the hub, with the clients that it has.
pub(super) fn servers(context: &Context<'_>) -> Answer {
    let wanted = Wanted::read(context)?;
    let mut servers = context.rest.hubs.servers(&context.name);
    let part = wanted.page();
    servers.retain(|server| part.is_behind(&server.id));
    servers.truncate(part.most);
    let found = servers.iter().map(|server| Found::group(&*server.id, server.clients)).collect();
    page(context, (wanted, found), |found| {
        let server = servers.iter().find(|server| server.id == found.id);
        let (connections, leaving) = server.map_or((0, false), |server| (server.connections, server.leaving));
        Map::from_iter([
            ("serverId".to_owned(), json!(found.id)),
            ("connections".to_owned(), json!(connections)),
            ("clients".to_owned(), json!(found.count)),
            ("leaving".to_owned(), json!(leaving)),
        ])
    })
}

/// Every hub, with the connections and groups of this node.
pub(super) fn hubs(context: &Context<'_>) -> Answer {
    let wanted = Wanted::read(context)?;
    let mut names = context.rest.hubs.names();
    names.sort_unstable();
    let page_of_names = wanted.page();
    names.retain(|name| page_of_names.is_behind(name));
    names.truncate(page_of_names.most);
    let found = names.into_iter().map(|name| Found::group(name, 0)).collect();
    page(context, (wanted, found), |found| {
        let hub = context.rest.hubs.hub(&found.id);
        let counts = hub.map_or((0, 0), |hub| (hub.connection_count(), hub.group_count()));
        let mut row = named(&found.id, counts.0);
        row.insert("groups".to_owned(), json!(counts.1));
        row
    })
}

fn named(name: &str, connections: usize) -> Map<String, Value> {
    Map::from_iter([("name".to_owned(), json!(name)), ("connections".to_owned(), json!(connections))])
}

async fn connections_of(context: &Context<'_>, whom: Whom) -> Result<(Wanted, Vec<Found>), Refusal> {
    let wanted = Wanted::read(context)?;
    let found = match &context.hub {
        Some(hub) => hub.connections(whom, wanted.page()).wait().await?,
        None => Vec::new(),
    };
    Ok((wanted, found))
}

impl Wanted {
    fn read(context: &Context<'_>) -> Result<Self, Refusal> {
        let asked = context.asked;
        let size = asked.parameter("maxpagesize").map_or(Ok(LARGEST_PAGE), |text| number("maxpagesize", text, 1))?;
        if size > LARGEST_PAGE {
            return Err(Refusal::invalid(format!("The parameter 'maxpagesize' is not between 1 and {LARGEST_PAGE}.")));
        }
        let top = asked.parameter("top").map(|text| number("top", text, 1)).transpose()?;
        let after = asked.parameter("continuationToken").map(|token| {
            let last = read_token(token).filter(|last| !last.is_empty());
            last.ok_or_else(|| Refusal::invalid("The parameter 'continuationToken' is not from a 'nextLink'."))
        });
        Ok(Self { size: size.min(top.unwrap_or(u64::MAX)) as usize, top, after: after.transpose()? })
    }

    /// One more than is shown, which tells whether there is another page.
    fn page(&self) -> Page {
        Page { after: self.after.clone(), most: self.size + 1 }
    }
}

fn page(
    context: &Context<'_>,
    (wanted, mut found): (Wanted, Vec<Found>),
    row: impl Fn(&Found) -> Map<String, Value>,
) -> Answer {
    let more = found.len() > wanted.size;
    found.truncate(wanted.size);
    let mut body = json!({"value": found.iter().map(row).collect::<Vec<_>>()});
    let left = wanted.top.map(|top| top - found.len() as u64);
    if more
        && left != Some(0)
        && let Some(last) = found.last()
    {
        body["nextLink"] = next_link(context, left, &last.id).into();
    }
    Ok(json_body(StatusCode::OK, body.to_string()))
}

/// Callers follow it as it is, so it has everything that the request had.
fn next_link(context: &Context<'_>, left: Option<u64>, last: &str) -> String {
    let asked = context.asked;
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(left) = left {
        query.append_pair("top", &left.to_string());
    }
    if let Some(size) = asked.parameter("maxpagesize") {
        query.append_pair("maxpagesize", size);
    }
    query.append_pair("continuationToken", &token(last));
    for name in ["application", "api-version"] {
        asked.parameter(name).map(|value| query.append_pair(name, value));
    }
    let base = asked.base(&context.rest.options);
    format!("{base}{}?{}", asked.path.trim_start_matches('/'), query.finish())
}

/// A token is the last id in hexadecimal digits, so that what is one can be described.
fn token(last: &str) -> String {
    last.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn read_token(token: &str) -> Option<String> {
    let digits = token.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let byte = |at: usize| u8::from_str_radix(token.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..token.len()).step_by(2).filter(|_| digits).map(byte).collect();
    // what is no text was not given out, and is behind or before everything as well as any
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) const LARGEST_PAGE: u64 = 200;

//! The verbs that look: who is connected, who is in what.

use super::args::{Connections, Groups};
use super::failure::Failure;
use super::service::{Service, segment};
use super::{print, print_json};
use reqwest::Method;
use serde_json::{Value, json};

pub(super) async fn connections(args: &Connections) -> Result<(), Failure> {
    let service = Service::find(&args.service)?;
    if args.servers {
        return servers(&service, args).await;
    }
    let path = format!("api/hubs/{}/connections", segment(&args.hub));
    let found = all_pages(&service, &path).await?;
    if args.service.json {
        return print_json(&json!({ "connections": found }));
    }
    print(&table(&found, &["connectionId", "userId", "transport", "protocol"]))
}

async fn servers(service: &Service, args: &Connections) -> Result<(), Failure> {
    let found = all_pages(service, &format!("api/hubs/{}/servers", segment(&args.hub))).await?;
    if args.service.json {
        return print_json(&json!({ "servers": found }));
    }
    print(&table(&found, &["serverId", "connections", "clients", "leaving"]))
}

pub(super) async fn groups(args: &Groups) -> Result<(), Failure> {
    let service = Service::find(&args.service)?;
    let hub = segment(&args.hub);
    let Some(group) = &args.group else {
        let found = all_pages(&service, &format!("api/hubs/{hub}/groups")).await?;
        if args.service.json {
            return print_json(&json!({ "groups": found }));
        }
        return print(&table(&found, &["name", "connections"]));
    };
    let found = all_pages(&service, &format!("api/hubs/{hub}/groups/{}/connections", segment(group))).await?;
    if args.service.json {
        return print_json(&json!({ "connections": found }));
    }
    print(&table(&found, &["connectionId", "userId"]))
}

/// Follows a list to its end.
async fn all_pages(service: &Service, path: &str) -> Result<Vec<Value>, Failure> {
    let mut found = Vec::new();
    let mut query = String::new();
    loop {
        let page = service.call(Method::GET, path, &query, None).await?;
        let Some(items) = page.get("value").and_then(Value::as_array) else {
            return Err(Failure::failed(format!("{} answered with something else than a list", service.base)));
        };
        found.extend(items.iter().cloned());
        let next = page.get("nextLink").and_then(Value::as_str).filter(|_| !items.is_empty());
        match next.and_then(continuation) {
            Some(token) => query = format!("&continuationToken={}", segment(&token)),
            None => return Ok(found),
        }
    }
}

/// Where the next page begins: the link itself may name another address, as seen by a proxy.
fn continuation(link: &str) -> Option<String> {
    let query = link.split_once('?')?.1;
    form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name.eq_ignore_ascii_case("continuationToken"))
        .map(|(_, token)| token.into_owned())
}

/// Columns of what there is, a line each, under their names. What is missing is a dash; an item that is a text is a line.
fn table(items: &[Value], columns: &[&str]) -> String {
    let cell = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.escape_debug().to_string(),
        Some(other) => other.to_string(),
    };
    let known: Vec<&str> =
        columns.iter().copied().filter(|name| items.iter().any(|item| item.get(name).is_some())).collect();
    if known.is_empty() {
        return items.iter().map(|item| cell(Some(item)) + "\n").collect();
    }
    let mut rows: Vec<Vec<String>> = vec![known.iter().map(|name| (*name).to_owned()).collect()];
    rows.extend(items.iter().map(|item| known.iter().map(|name| cell(item.get(name))).collect()));
    let widths: Vec<usize> =
        (0..known.len()).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_what_there_is() {
        let items = [json!({ "connectionId": "a", "userId": "ann" }), json!({ "connectionId": "bcd" })];
        let columns = ["connectionId", "userId", "transport"];
        assert_eq!(table(&items, &columns), "connectionId  userId\na             ann\nbcd           -\n");
        assert_eq!(table(&[json!("x\n")], &columns), "x\\n\n");
        assert_eq!(table(&[], &columns), "");
    }

    #[test]
    fn the_next_page_is_where_the_link_says() {
        let link = "http://elsewhere/api/hubs/chat/groups?api-version=1&continuationToken=a%2Fb";
        assert_eq!(continuation(link).as_deref(), Some("a/b"));
        assert_eq!(continuation("http://x/"), None);
    }
}

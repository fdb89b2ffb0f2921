//! The description of the API (OpenAPI 3.1), made of the table of routes, so that neither can have what the other has not.

use super::request::Edition;
use super::routes::{Operation, ROUTES, Route, Scope};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// The document as it is served.
pub(super) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| build().to_string());
    &DOCUMENT
}

/// What there is to say about an operation, beside its path.
struct Facts {
    summary: &'static str,
    query: &'static [&'static str],
    body: Option<&'static str>,
    success: u16,
    /// In the editions without a date, if it differs there.
    success_undated: Option<u16>,
    answer: Option<&'static str>,
    /// What can be the matter, beside what can be with every request.
    problems: &'static [u16],
}

fn build() -> Value {
    let mut paths = Map::new();
    let mut taken = BTreeSet::new();
    for route in ROUTES {
        for edition in route.editions {
            let path = paths.entry(format!("{}{}", edition.prefix(), route.template)).or_insert_with(|| json!({}));
            for method in route.verb.methods() {
                let method = method.as_str().to_ascii_lowercase();
                path[&method] = operation(route, *edition, &method, &mut taken);
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hubwire REST API",
            "version": super::server::VERSIONS[super::server::VERSIONS.len() - 1],
            "description": ABOUT,
        },
        "tags": [
            {"name": "messages"}, {"name": "connections"}, {"name": "groups"}, {"name": "users"},
            {"name": "server", "description": "About this server, not in the service that the API is known from, except for health and tokens."},
        ],
        "security": [{"accessKey": []}],
        "paths": paths,
        "components": {"schemas": schemas(), "securitySchemes": {"accessKey": {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "A JWT signed by HS256 with an access key. `aud` is the URL of the request without its query, `exp` is needed.",
        }}},
    })
}

fn operation(route: &Route, edition: Edition, method: &str, taken: &mut BTreeSet<String>) -> Value {
    let facts = facts(route.operation);
    let mut parameters: Vec<Value> = route.template.split('/').filter_map(path_parameter).collect();
    if edition == Edition::Dated && route.template.contains("{hub}") {
        parameters.push(query_parameter("application"));
    }
    if edition == Edition::Dated {
        parameters.push(query_parameter("api-version"));
    }
    parameters.extend(facts.query.iter().map(|name| query_parameter(name)));
    let mut operation = json!({
        "operationId": id(route, edition, method, taken),
        "summary": facts.summary,
        "tags": [tag(route.operation)],
        "parameters": parameters,
        "responses": responses(route, edition, method, &facts),
    });
    if let Some(body) = facts.body {
        operation["requestBody"] = request_body(body);
    }
    if route.operation.is_open() {
        operation["security"] = json!([]);
    }
    operation
}

/// Unique, as generators of clients need it: the operation, then what tells its routes apart.
fn id(route: &Route, edition: Edition, method: &str, taken: &mut BTreeSet<String>) -> String {
    let name: String = format!("{:?}", route.operation).chars().filter(char::is_ascii_alphanumeric).collect();
    let head = if method == "head" { "Head" } else { "" };
    let edition = match edition {
        Edition::Dated => "",
        Edition::V1 => "V1",
        Edition::Preview => "Preview",
    };
    let whole = format!("{}{}{head}{edition}", name[..1].to_ascii_lowercase(), &name[1..]);
    let mut id = whole.clone();
    let mut number = 2;
    while !taken.insert(id.clone()) {
        id = format!("{whole}{number}");
        number += 1;
    }
    id
}

fn responses(route: &Route, edition: Edition, method: &str, facts: &Facts) -> Value {
    let undated = facts.success_undated.filter(|_| edition != Edition::Dated);
    let success = undated.unwrap_or(facts.success);
    let mut responses = Map::new();
    let mut done = json!({"description": "Done."});
    if let Some(answer) = facts.answer.filter(|_| method != "head") {
        done["content"] = json!({"application/json": {"schema": reference(answer)}});
        if route.operation == Operation::Invoke {
            done["content"]["application/octet-stream"] = json!({"schema": {"type": "string", "format": "binary"}});
        }
    }
    responses.insert(success.to_string(), done);
    let mut problems: BTreeSet<u16> = facts.problems.iter().copied().chain([400, 414, 431]).collect();
    if !route.operation.is_open() {
        problems.insert(401);
    }
    if facts.body.is_some() {
        problems.extend([408, 413, 415, 429]);
    }
    if route.operation == Operation::RemoveConnection && edition != Edition::Dated {
        problems.insert(404);
    }
    for status in problems {
        let mut problem = json!({"description": problem(status)});
        // the last two may come from below the API, which has no words
        if !matches!(status, 401 | 408 | 414 | 431) && method != "head" {
            problem["content"] = json!({"application/json": {"schema": reference("Error")}});
        }
        responses.insert(status.to_string(), problem);
    }
    Value::Object(responses)
}

fn problem(status: u16) -> &'static str {
    match status {
        400 => "A name, a parameter or the body is wrong.",
        401 => "The token is missing, or not good for this path now.",
        404 => "It does not exist; the header x-ms-error-code says what.",
        408 => "The body did not arrive in time.",
        413 => "The body is too large.",
        414 => "The URI is longer than 12 KB.",
        415 => "The body is of another type.",
        429 => "Too many requests at once.",
        431 => "The headers are longer than 16 KB.",
        503 => "The server is stopping.",
        _ => "The client has not answered in time.",
    }
}

fn tag(operation: Operation) -> &'static str {
    match operation {
        Operation::Send(_) | Operation::Invoke | Operation::StreamItem | Operation::StreamEnd | Operation::Execute => {
            "messages"
        }
        Operation::Close(_) | Operation::CloseOne | Operation::ListConnections | Operation::RemoveConnectionFromAll => {
            "connections"
        }
        Operation::Exists(Scope::User) | Operation::AddUser | Operation::RemoveUser => "users",
        Operation::RemoveUserFromAll | Operation::UserInGroup => "users",
        Operation::Exists(Scope::Group) | Operation::ListMembers | Operation::ListGroups => "groups",
        Operation::AddConnection | Operation::RemoveConnection => "groups",
        Operation::Exists(_) => "connections",
        _ => "server",
    }
}

#[rustfmt::skip]
fn facts(operation: Operation) -> Facts {
    const NONE: Facts = Facts { summary: "", query: &[], body: None, success: 200, success_undated: None, answer: None, problems: &[] };
    const PAGING: &[&str] = &["maxpagesize", "top", "continuationToken"];
    let simple = |summary, success| Facts { summary, success, ..NONE };
    let list = |summary, answer| Facts { summary, query: PAGING, answer: Some(answer), ..NONE };
    let send = |summary, query| Facts { summary, query, body: Some("Message"), success: 202, ..NONE };
    let close = |summary| Facts { summary, query: &["excluded", "reason"], success: 204, ..NONE };
    let exists = |summary| Facts { summary, problems: &[404], ..NONE };
    match operation {
        Operation::Health => Facts { problems: &[503], ..simple("Tells whether the server takes requests.", 200) },
        Operation::Description => Facts { answer: Some("Description"), ..simple("Gives this description.", 200) },
        Operation::TemporaryKey => Facts {
            summary: "Gives no key: this server asks no directory, so there is nobody to give one to.", answer: None, problems: &[404], ..NONE
        },
        Operation::Drain => Facts { problems: &[404], ..simple("Stops the server as the signal to terminate does: clients are closed, then it ends.", 202) },
        Operation::ListHubs => list("Lists the hubs, with the connections and groups of this node.", "HubList"),
        Operation::ListConnections => list("Lists the connections of a hub.", "ConnectionList"),
        Operation::ListServers => list("Lists the application servers of a hub of the service.", "ServerList"),
        Operation::ListGroups => list("Lists the groups of a hub that have a member.", "GroupList"),
        Operation::ListMembers => list("Lists the connections in a group.", "MemberList"),
        Operation::Send(Scope::Hub) => send("Sends to all connections of a hub.", &["excluded"]),
        Operation::Send(Scope::Group) => send("Sends to the connections in a group.", &["excluded"]),
        Operation::Send(Scope::Groups) => send("Sends to several groups, named with commas between.", &[]),
        Operation::Send(Scope::Users) => send("Sends to several users, named with commas between.", &[]),
        Operation::Send(Scope::User) => send("Sends to the connections of a user.", &[]),
        Operation::Send(Scope::Connection) => send("Sends to a connection.", &[]),
        Operation::Close(Scope::Group) => close("Closes the connections in a group."),
        Operation::Close(Scope::User) => close("Closes the connections of a user."),
        Operation::Close(_) => close("Closes the connections of a hub."),
        Operation::CloseOne => Facts { query: &["reason"], success_undated: Some(202), ..simple("Closes a connection.", 200) },
        Operation::Exists(Scope::Group) => exists("Tells whether a group has a member."),
        Operation::Exists(Scope::User) => exists("Tells whether a user has a connection."),
        Operation::Exists(_) => exists("Tells whether a connection is there."),
        Operation::UserInGroup => exists("Tells whether a user is in a group."),
        Operation::AddConnection => exists("Adds a connection to a group."),
        Operation::RemoveConnection => simple("Removes a connection from a group.", 200),
        Operation::RemoveConnectionFromAll => simple("Removes a connection from all its groups.", 200),
        Operation::AddUser => Facts { query: &["ttl"], success_undated: Some(202), ..simple("Adds a user to a group, with the connections it has and those to come.", 200) },
        Operation::RemoveUser => Facts { success_undated: Some(202), ..simple("Removes a user from a group.", 204) },
        Operation::RemoveUserFromAll => Facts { success_undated: Some(200), ..simple("Removes a user from all its groups.", 204) },
        Operation::Invoke => Facts { body: Some("Message"), answer: Some("Result"), problems: &[404, 504], ..simple("Calls a method of a client and gives its result.", 200) },
        Operation::StreamItem => Facts { query: &["completed"], body: Some("Item"), ..simple("Sends an item of a stream that a client has asked for.", 202) },
        Operation::StreamEnd => Facts { query: &["reason", "error"], ..simple("Ends a stream that a client has asked for.", 202) },
        Operation::ClientToken => Facts { query: &["userId", "minutesToExpire"], answer: Some("Token"), ..simple("Makes a token with which a client connects.", 200) },
        Operation::Execute => Facts { query: &["filter"], body: Some("Commands"), ..simple("Runs commands, in their order, on each connection that a filter matches.", 202) },
    }
}

fn path_parameter(part: &str) -> Option<Value> {
    let name = part.strip_prefix('{')?.strip_suffix('}')?;
    let schema = match name {
        "hub" => json!({"type": "string", "pattern": HUB_PATTERN}),
        "group" => json!({"type": "string", "minLength": 1, "maxLength": 1024, "pattern": NOT_BLANK}),
        "user" => json!({"type": "string", "minLength": 1, "maxLength": 1024}),
        "stream" => json!({"type": "string", "minLength": 1, "maxLength": 100, "pattern": NOT_BLANK}),
        "groups" | "users" => json!({"type": "string", "pattern": "^[!-+\\--~]{1,1024}(,[!-+\\--~]{1,1024})*$"}),
        _ => json!({"type": "string", "minLength": 1}),
    };
    Some(json!({"name": name, "in": "path", "required": true, "schema": schema}))
}

fn query_parameter(name: &str) -> Value {
    let text = || json!({"type": "string"});
    let (description, schema) = match name {
        "application" => ("The application that the hub is of.", json!({"type": "string", "pattern": HUB_PATTERN})),
        "api-version" => ("The date of the version that the caller knows; all are served alike.", text()),
        "excluded" => (
            "The id of a connection that is left out. May be there several times.",
            json!({"type": "array", "items": {"type": "string"}}),
        ),
        "reason" | "error" => ("What the client is told.", text()),
        "ttl" => (
            "How many seconds connections to come join as well; none at all for 0, and for a year if it is left out.",
            json!({"type": "integer", "minimum": 0}),
        ),
        "maxpagesize" => (
            "How many are listed in one answer.",
            json!({"type": "integer", "minimum": 1, "maximum": super::listing::LARGEST_PAGE, "default": super::listing::LARGEST_PAGE}),
        ),
        "top" => ("How many are listed in all.", json!({"type": "integer", "minimum": 1})),
        "continuationToken" => {
            ("Where the page begins: from `nextLink`.", json!({"type": "string", "pattern": "^([0-9a-f][0-9a-f])+$"}))
        }
        "completed" => ("The item is the last one.", json!({"type": "boolean", "default": false})),
        "userId" => ("Whom the token is for.", json!({"type": "string", "minLength": 1, "maxLength": 1024})),
        "minutesToExpire" => ("How long the token is good.", json!({"type": "integer", "minimum": 1, "default": 60})),
        "filter" => (
            "Which connections: an OData expression of `userId`, `connectionId` and `groups`. All, if it is left out.",
            json!({"type": "string", "minLength": 1, "format": "odata-filter"}),
        ),
        _ => ("", text()),
    };
    json!({"name": name, "in": "query", "description": description, "schema": schema})
}

fn request_body(kind: &str) -> Value {
    let mut content = json!({"application/json": {"schema": reference(kind)}});
    if kind != "Commands" {
        let binary = "A MessagePack map of hub protocol names to one framed message each.";
        content["application/octet-stream"] =
            json!({"schema": {"type": "string", "format": "binary", "description": binary}});
    }
    json!({"required": true, "content": content})
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0});
    let object = |required: &[&str], properties: Value| json!({"type": "object", "required": required, "properties": properties});
    let list = |row: Value| {
        let value = json!({"type": "array", "items": row});
        json!({"type": "object", "required": ["value"], "properties": {"value": value, "nextLink": {"type": "string", "format": "uri"}}})
    };
    let command = |name: &str, required: &[&str], member: (&str, Value)| {
        object(required, json!({"type": {"const": name}, member.0: member.1}))
    };
    let group = path_parameter("{group}").map_or(Value::Null, |parameter| parameter["schema"].clone());
    json!({
        "Message": object(&["target"], json!({
            "target": {"type": "string", "minLength": 1},
            "arguments": {"type": ["array", "null"], "items": {}},
        })),
        "Item": {"description": "Any value: the item itself."},
        "Commands": {"type": "array", "items": {"oneOf": [
            command("SendMessage", &["type", "message"], ("message", reference("Message"))),
            command("JoinGroup", &["type", "group"], ("group", group.clone())),
            command("LeaveGroup", &["type", "group"], ("group", group)),
            command("CloseConnection", &["type"], ("reason", json!({"type": ["string", "null"]}))),
        ]}},
        "Result": object(&[], json!({"result": {}})),
        "Token": object(&["token"], json!({"token": text})),
        "MemberList": list(object(&["connectionId"], json!({"connectionId": text, "userId": text}))),
        "ConnectionList": list(object(&["connectionId", "transport", "protocol", "groups"], json!({
            "connectionId": text, "userId": text, "transport": text, "protocol": text, "groups": count,
        }))),
        "GroupList": list(object(&["name", "connections"], json!({"name": text, "connections": count}))),
        "ServerList": list(object(&["serverId", "connections", "clients", "leaving"], json!({"serverId": text, "connections": count, "clients": count, "leaving": {"type": "boolean"}}))),
        "HubList": list(object(&["name", "connections", "groups"], json!({"name": text, "connections": count, "groups": count}))),
        "Description": {"type": "object"},
        "Error": object(&["code", "message"], json!({"code": text, "message": text, "target": text})),
    })
}

/// A character that is no blank, as Unicode has them.
const NOT_BLANK: &str = "[^\t-\r \u{85}\u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}]";
const HUB_PATTERN: &str = r"^[A-Za-z][A-Za-z0-9_`,.\[\]]{0,127}$";
const ABOUT: &str = "Sends to the clients of hubs, manages their groups, closes connections and asks about them. The words of the paths \
    and the names of parameters have no case; names are percent-encoded once. Paths under /api/v1 and /api/v1-preview are those of \
    earlier versions.";

#[cfg(test)]
mod tests {
    use super::*;

    /// The routes and what is described are the same, whoever comes first.
    #[test]
    fn what_is_served_is_described_and_the_reverse() {
        let document = build();
        let mut described = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                described.insert(format!("{method} {path}"));
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
                assert!(!operation["summary"].as_str().unwrap().is_empty());
                let pieces = path.split('/').filter(|part| part.starts_with('{')).count();
                let parameters = operation["parameters"].as_array().unwrap();
                assert_eq!(parameters.iter().filter(|p| p["in"] == "path").count(), pieces, "{path}");
            }
        }
        let mut served = BTreeSet::new();
        for route in ROUTES {
            for (edition, method) in
                route.editions.iter().flat_map(|e| route.verb.methods().iter().map(move |m| (e, m)))
            {
                let line = format!("{} {}{}", method.as_str().to_ascii_lowercase(), edition.prefix(), route.template);
                assert!(served.insert(line.clone()), "{line} is there twice");
            }
        }
        assert_eq!(described, served);
    }

    #[test]
    fn what_is_referred_to_is_there() {
        let document = build();
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}

use super::errors::Refusal;
use super::request::{Asked, Edition};
use Edition::{Dated, Preview, V1};
use Operation::*;
use Verb::{Delete, Get, Post, Put};
use axum::http::{HeaderValue, Method, StatusCode, header};

/// One line of the table: what the router, the audience check and the description go by.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) verb: Verb,
    /// Behind the edition's prefix; `{name}` stands for a piece of the path, everything else is compared without regard to case.
    pub(super) template: &'static str,
    pub(super) operation: Operation,
    pub(super) editions: &'static [Edition],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// And HEAD.
    Get,
    Post,
    Put,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Health,
    Description,
    TemporaryKey,
    Drain,
    ListHubs,
    ListConnections,
    ListGroups,
    ListMembers,
    ListServers,
    Send(Scope),
    Close(Scope),
    Exists(Scope),
    CloseOne,
    AddConnection,
    RemoveConnection,
    RemoveConnectionFromAll,
    AddUser,
    RemoveUser,
    RemoveUserFromAll,
    UserInGroup,
    Invoke,
    StreamItem,
    StreamEnd,
    ClientToken,
    Execute,
}

/// What something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Hub,
    Connection,
    Group,
    User,
    /// Lists with commas, which the first edition has.
    Groups,
    Users,
}

impl Operation {
    /// Needs no token: probes have none, and the description is no secret.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Health | Description)
    }
}

impl Verb {
    pub(super) fn methods(self) -> &'static [Method] {
        match self {
            Get => &[Method::GET, Method::HEAD],
            Post => &[Method::POST],
            Put => &[Method::PUT],
            Delete => &[Method::DELETE],
        }
    }
}

impl Route {
    /// The names in the template with the pieces they stand for, if the path is of this form.
    fn matches(&self, edition: Edition, segments: &[String]) -> bool {
        let mut parts = self.template.split('/');
        let fits = segments.iter().all(|segment| {
            parts.next().is_some_and(|part| part.starts_with('{') || part.eq_ignore_ascii_case(segment))
        });
        fits && parts.next().is_none() && self.editions.contains(&edition)
    }

    /// The piece of the path that a name stands for.
    pub(super) fn piece<'a>(&self, asked: &'a Asked<'_>, name: &str) -> Option<&'a str> {
        let is = |part: &str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) == Some(name);
        let at = self.template.split('/').position(is)?;
        asked.segments.get(at).map(String::as_str)
    }
}

/// Finds the route of a request. A path that nothing has is a 404, one that has other methods a 405 that names them.
pub(super) fn find(asked: &Asked<'_>) -> Result<&'static Route, Refusal> {
    let mut methods: Vec<&str> = Vec::new();
    for route in ROUTES.iter().filter(|route| route.matches(asked.edition, &asked.segments)) {
        if route.verb.methods().contains(asked.method) {
            return Ok(route);
        }
        methods.extend(route.verb.methods().iter().map(Method::as_str));
    }
    if methods.is_empty() {
        return Err(Refusal::bare(StatusCode::NOT_FOUND));
    }
    let allow = HeaderValue::from_str(&methods.join(", ")).expect("methods are text");
    Err(Refusal::bare(StatusCode::METHOD_NOT_ALLOWED).with_header(header::ALLOW, allow))
}

const fn route(verb: Verb, template: &'static str, operation: Operation, editions: &'static [Edition]) -> Route {
    Route { verb, template, operation, editions }
}

const ALL: &[Edition] = &[Dated, V1, Preview];
const BOTH: &[Edition] = &[Dated, V1];
const NEW: &[Edition] = &[Dated];
const OLD: &[Edition] = &[Preview];

/// Sends without `:send`, and names in the other order, are what older callers and the local emulator spell.
pub(super) static ROUTES: &[Route] = &[
    route(Get, "health", Health, ALL),
    route(Get, "openapi.json", Description, NEW),
    route(Get, "auth/accessKey", TemporaryKey, BOTH),
    route(Post, ":drain", Drain, NEW),
    route(Get, "hubs", ListHubs, NEW),
    route(Post, "hubs/{hub}", Send(Scope::Hub), BOTH),
    route(Post, "hubs/{hub}/:send", Send(Scope::Hub), BOTH),
    route(Post, "hubs/{hub}/:closeConnections", Close(Scope::Hub), BOTH),
    route(Post, "hubs/{hub}/:generateToken", ClientToken, BOTH),
    route(Post, "hubs/{hub}/:execute", Execute, BOTH),
    route(Get, "hubs/{hub}/connections", ListConnections, NEW),
    route(Get, "hubs/{hub}/servers", ListServers, NEW),
    route(Get, "hubs/{hub}/connections/{connection}", Exists(Scope::Connection), BOTH),
    route(Delete, "hubs/{hub}/connections/{connection}", CloseOne, BOTH),
    route(Post, "hubs/{hub}/connections/{connection}", Send(Scope::Connection), BOTH),
    route(Post, "hubs/{hub}/connections/{connection}/:send", Send(Scope::Connection), BOTH),
    route(Post, "hubs/{hub}/connections/{connection}/:invoke", Invoke, BOTH),
    route(Delete, "hubs/{hub}/connections/{connection}/groups", RemoveConnectionFromAll, BOTH),
    route(Put, "hubs/{hub}/connections/{connection}/groups/{group}", AddConnection, BOTH),
    route(Delete, "hubs/{hub}/connections/{connection}/groups/{group}", RemoveConnection, BOTH),
    route(Post, "hubs/{hub}/connections/{connection}/streams/{stream}/:send", StreamItem, BOTH),
    route(Post, "hubs/{hub}/connections/{connection}/streams/{stream}/:complete", StreamEnd, BOTH),
    route(Get, "hubs/{hub}/groups", ListGroups, NEW),
    route(Get, "hubs/{hub}/groups/{group}", Exists(Scope::Group), BOTH),
    route(Post, "hubs/{hub}/groups/{group}", Send(Scope::Group), BOTH),
    route(Post, "hubs/{hub}/groups/{group}/:send", Send(Scope::Group), BOTH),
    route(Post, "hubs/{hub}/groups/{group}/:closeConnections", Close(Scope::Group), BOTH),
    route(Get, "hubs/{hub}/groups/{group}/connections", ListMembers, BOTH),
    route(Put, "hubs/{hub}/groups/{group}/connections/{connection}", AddConnection, BOTH),
    route(Delete, "hubs/{hub}/groups/{group}/connections/{connection}", RemoveConnection, BOTH),
    route(Get, "hubs/{hub}/groups/{group}/users/{user}", UserInGroup, BOTH),
    route(Put, "hubs/{hub}/groups/{group}/users/{user}", AddUser, BOTH),
    route(Delete, "hubs/{hub}/groups/{group}/users/{user}", RemoveUser, BOTH),
    route(Get, "hubs/{hub}/users/{user}", Exists(Scope::User), BOTH),
    route(Post, "hubs/{hub}/users/{user}", Send(Scope::User), BOTH),
    route(Post, "hubs/{hub}/users/{user}/:send", Send(Scope::User), BOTH),
    route(Post, "hubs/{hub}/users/{user}/:closeConnections", Close(Scope::User), BOTH),
    route(Delete, "hubs/{hub}/users/{user}/groups", RemoveUserFromAll, BOTH),
    route(Get, "hubs/{hub}/users/{user}/groups/{group}", UserInGroup, BOTH),
    route(Put, "hubs/{hub}/users/{user}/groups/{group}", AddUser, BOTH),
    route(Delete, "hubs/{hub}/users/{user}/groups/{group}", RemoveUser, BOTH),
    route(Post, "hub/{hub}", Send(Scope::Hub), OLD),
    route(Post, "hub/{hub}/user/{user}", Send(Scope::User), OLD),
    route(Post, "hub/{hub}/users/{users}", Send(Scope::Users), OLD),
    route(Post, "hub/{hub}/group/{group}", Send(Scope::Group), OLD),
    route(Post, "hub/{hub}/groups/{groups}", Send(Scope::Groups), OLD),
];

use super::errors::{Refusal, empty, json_body, no_connection};
use super::payload::Payload;
use super::request::{Asked, Edition};
use super::routes::{Operation, Route, Scope};
use super::server::Rest;
use super::{auth, execute, invoke, listing, names, openapi};
use crate::auth::Claims;
use crate::backplane::{Audience, Closing, Existence, UserMembership, Whom};
use crate::lifetime::Lifetime;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::debug;

pub(super) type Answer = Result<Response<Body>, Refusal>;

/// An operation with what it is about, all names checked.
pub(super) struct Context<'r> {
    pub(super) rest: &'r Rest,
    pub(super) asked: &'r Asked<'r>,
    pub(super) route: &'r Route,
    /// The internal name of the hub; empty if there is none in the path.
    pub(super) name: String,
    pub(super) hub: Option<Arc<Lifetime>>,
}

pub(super) async fn run(rest: &Rest, asked: &Asked<'_>, route: &Route, body: Body) -> Answer {
    let context = Context::new(rest, asked, route)?;
    match route.operation {
        Operation::Health => context.health(),
        Operation::Description => Ok(json_body(StatusCode::OK, openapi::document())),
        Operation::TemporaryKey => context.temporary_key(),
        Operation::Drain => context.drain(),
        Operation::ListHubs => listing::hubs(&context),
        Operation::ListConnections => listing::connections(&context, Whom::All).await,
        Operation::ListGroups => listing::groups(&context).await,
        Operation::ListMembers => listing::members(&context).await,
        Operation::ListServers => listing::servers(&context),
        Operation::Send(scope) => context.send(scope, body).await,
        Operation::Close(scope) => context.close(scope).await,
        Operation::Exists(scope) => context.exists(scope).await,
        Operation::CloseOne => context.close_one().await,
        Operation::AddConnection => context.add_connection().await,
        Operation::RemoveConnection => context.remove_connection().await,
        Operation::RemoveConnectionFromAll => context.remove_connection_from_all().await,
        Operation::AddUser => context.add_user().await,
        Operation::RemoveUser | Operation::RemoveUserFromAll => context.remove_user().await,
        Operation::UserInGroup => context.user_in_group().await,
        Operation::Invoke => invoke::invoke(&context, body).await,
        Operation::StreamItem => invoke::stream_item(&context, body).await,
        Operation::StreamEnd => invoke::stream_end(&context).await,
        Operation::ClientToken => context.client_token(),
        Operation::Execute => execute::execute(&context, body).await,
    }
}

impl<'r> Context<'r> {
    fn new(rest: &'r Rest, asked: &'r Asked<'r>, route: &'r Route) -> Result<Self, Refusal> {
        let piece = |name: &str| route.piece(asked, name);
        let name = match piece("hub") {
            None => String::new(),
            Some(hub) => internal_name(asked, &names::hub(hub)?)?,
        };
        piece("group").map_or(Ok(()), names::group)?;
        piece("user").map_or(Ok(()), names::user)?;
        piece("connection").map_or(Ok(()), names::connection)?;
        piece("stream").map_or(Ok(()), names::stream)?;
        piece("groups").map_or(Ok(()), |list| list.split(',').try_for_each(names::group))?;
        piece("users").map_or(Ok(()), |list| list.split(',').try_for_each(names::user))?;
        let hub = if name.is_empty() { None } else { rest.hubs.hub(&name) };
        if hub.is_none() && !name.is_empty() {
            debug!(hub = name, "a REST request is about a hub that nobody has used");
        }
        Ok(Self { rest, asked, route, name, hub })
    }

    /// A name of the path, which the route is known to have.
    pub(super) fn piece(&self, name: &str) -> &str {
        self.route.piece(self.asked, name).unwrap_or_default()
    }

    fn owned(&self, name: &str) -> String {
        self.piece(name).to_owned()
    }

    pub(super) fn whom(&self, scope: Scope) -> Whom {
        match scope {
            Scope::Connection => Whom::Connection(self.owned("connection")),
            Scope::Group => Whom::Group(self.owned("group")),
            Scope::User => Whom::User(self.owned("user")),
            Scope::Hub | Scope::Groups | Scope::Users => Whom::All,
        }
    }

    fn excluded(&self) -> Vec<String> {
        self.asked.parameters("excluded").map(str::to_owned).collect()
    }

    fn audience(&self, scope: Scope) -> Audience {
        let list = |name: &str| self.piece(name).split(',').map(str::to_owned).collect();
        let excluded = self.excluded();
        match scope {
            Scope::Hub if excluded.is_empty() => Audience::All,
            Scope::Hub => Audience::AllExcept(excluded),
            Scope::Connection => Audience::Connection(self.owned("connection")),
            Scope::Group if excluded.is_empty() => Audience::Group(self.owned("group")),
            Scope::Group => {
                Audience::GroupExcept { group: self.owned("group"), connections: excluded, users: Vec::new() }
            }
            Scope::User => Audience::User(self.owned("user")),
            Scope::Groups => Audience::Groups(list("groups")),
            Scope::Users => Audience::Users(list("users")),
        }
    }

    /// In the first version some things are answered differently.
    fn status(&self, dated: StatusCode, v1: StatusCode) -> Response<Body> {
        empty(if self.asked.edition == Edition::Dated { dated } else { v1 })
    }

    fn health(&self) -> Answer {
        let ready = self.rest.options.ready.as_ref().is_none_or(|ready| ready.call());
        if ready {
            Ok(empty(StatusCode::OK))
        } else {
            Err(Refusal::later(StatusCode::SERVICE_UNAVAILABLE, "The server is stopping."))
        }
    }

    /// No directory is asked who somebody is, so no keys are given to anybody.
    fn temporary_key(&self) -> Answer {
        match auth::bearer(self.asked) {
            None => Err(auth::challenge("Bearer")),
            Some(_) => Err(Refusal::of(
                StatusCode::NOT_FOUND,
                super::errors::INVALID,
                "This service knows no directory: give the application server a connection string with an access key.",
            )),
        }
    }

    fn drain(&self) -> Answer {
        let drain = self.rest.options.drain.as_ref().ok_or(Refusal::bare(StatusCode::NOT_FOUND))?;
        drain.call();
        Ok(empty(StatusCode::ACCEPTED))
    }

    /// Accepted whether anybody gets it or not.
    async fn send(&self, scope: Scope, body: Body) -> Answer {
        let payload = {
            let _held = self.rest.hold()?;
            let body = self.rest.body(self.asked, body).await?;
            Payload::read(self.asked, &body)?
        };
        if let Some(hub) = &self.hub {
            payload.send(hub, &self.audience(scope))?.wait().await?;
        }
        Ok(empty(StatusCode::ACCEPTED))
    }

    async fn close(&self, scope: Scope) -> Answer {
        self.end(self.whom(scope), self.excluded()).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    async fn close_one(&self) -> Answer {
        self.end(self.whom(Scope::Connection), Vec::new()).await?;
        Ok(self.status(StatusCode::OK, StatusCode::ACCEPTED))
    }

    async fn end(&self, whom: Whom, except: Vec<String>) -> Result<(), Refusal> {
        let error = self.asked.parameter("reason").filter(|reason| !reason.is_empty()).map(str::to_owned);
        if let Some(hub) = &self.hub {
            hub.close(&Closing { whom, except, error, allow_reconnect: true }).wait().await?;
        }
        Ok(())
    }

    async fn exists(&self, scope: Scope) -> Answer {
        if let Some(hub) = &self.hub
            && hub.exists(Existence::Of(self.whom(scope))).wait().await?
        {
            return Ok(empty(StatusCode::OK));
        }
        Err(match scope {
            Scope::Group => {
                let message = format!("Group `{}` is not found.", self.piece("group"));
                Refusal::missing("Warning.Group.NotExisted", message)
            }
            Scope::User => {
                Refusal::missing("Warning.User.NotExisted", format!("User `{}` is not found.", self.piece("user")))
            }
            _ => {
                let message = format!("Connection `{}` is not found.", self.piece("connection"));
                Refusal::missing("Warning.Connection.NotExisted", message)
            }
        })
    }

    async fn add_connection(&self) -> Answer {
        let (connection, group) = (self.piece("connection"), self.piece("group"));
        if let Some(hub) = &self.hub
            && hub.add_to_group(connection, group).wait().await?
        {
            return Ok(empty(StatusCode::OK));
        }
        Err(no_connection(connection))
    }

    /// That a connection is not there is an error in the first version only: the libraries take every one for a failure.
    async fn remove_connection(&self) -> Answer {
        let (connection, group) = (self.piece("connection"), self.piece("group"));
        let known = match &self.hub {
            Some(hub) => hub.remove_from_group(connection, group).wait().await?,
            None => false,
        };
        if known || self.asked.edition == Edition::Dated {
            Ok(empty(StatusCode::OK))
        } else {
            Err(no_connection(connection))
        }
    }

    async fn remove_connection_from_all(&self) -> Answer {
        if let Some(hub) = &self.hub {
            hub.remove_from_all_groups(self.piece("connection")).wait().await?;
        }
        Ok(empty(StatusCode::OK))
    }

    async fn add_user(&self) -> Answer {
        let remembered = match self.asked.parameter("ttl") {
            None => None,
            Some(seconds) => Some(Duration::from_secs(number("ttl", seconds, 0)?)),
        };
        if let Some(hub) = self.rest.hubs.hub_to_keep(&self.name) {
            let change = UserMembership::Join { group: self.piece("group"), remembered };
            hub.change_user(self.piece("user"), change).wait().await?;
        }
        Ok(self.status(StatusCode::OK, StatusCode::ACCEPTED))
    }

    async fn remove_user(&self) -> Answer {
        let all = self.route.operation == Operation::RemoveUserFromAll;
        let change = if all { UserMembership::LeaveAll } else { UserMembership::Leave(self.piece("group")) };
        if let Some(hub) = &self.hub {
            hub.change_user(self.piece("user"), change).wait().await?;
        }
        Ok(self.status(StatusCode::NO_CONTENT, if all { StatusCode::OK } else { StatusCode::ACCEPTED }))
    }

    async fn user_in_group(&self) -> Answer {
        let (user, group) = (self.owned("user"), self.owned("group"));
        let message = format!("User `{user}` is not in group `{group}`.");
        if let Some(hub) = &self.hub
            && hub.exists(Existence::UserInGroup { user, group }).wait().await?
        {
            return Ok(empty(StatusCode::OK));
        }
        Err(Refusal::missing("Info.User.NotInGroup", message))
    }

    fn client_token(&self) -> Answer {
        let minutes =
            self.asked.parameter("minutesToExpire").map_or(Ok(60), |text| number("minutesToExpire", text, 1))?;
        let user = self.asked.parameter("userId");
        user.map_or(Ok(()), names::user)?;
        let claims: Vec<(&str, &str)> = user.map(|id| ("nameid", id)).into_iter().collect();
        let base = self.asked.base(&self.rest.options);
        let token = self.rest.keys.sign(&Claims {
            claims: &claims,
            audience: &self.rest.hubs.client_audience(&base, &self.name),
            now: SystemTime::now(),
            lifetime: Duration::from_secs(minutes.saturating_mul(60)),
        });
        Ok(json_body(StatusCode::OK, json!({ "token": token }).to_string()))
    }
}

impl Rest {
    /// Room for one more body.
    pub(super) fn hold(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Refusal> {
        let busy = |_| Refusal::later(StatusCode::TOO_MANY_REQUESTS, "Too many requests at once: try again later.");
        self.bodies.try_acquire().map_err(busy)
    }
}

/// An application's hub has a name of both; only dated paths have a parameter for it, elsewhere the caller writes the whole name.
fn internal_name(asked: &Asked<'_>, hub: &str) -> Result<String, Refusal> {
    match asked.parameter("application").filter(|_| asked.edition == Edition::Dated) {
        None => Ok(hub.to_owned()),
        Some(application) => Ok(format!("{}_{hub}", names::application(application)?)),
    }
}

/// A whole number of at least so much; the largest that are kept are beyond any life time.
pub(super) fn number(name: &str, text: &str, least: u64) -> Result<u64, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // more digits than fit are a very long time
    let value = text.parse::<u64>().unwrap_or(u64::MAX).min(LONGEST);
    if digits && value >= least {
        Ok(value)
    } else {
        Err(Refusal::invalid(format!("The parameter '{name}' is not a whole number of at least {least}.")))
    }
}

const LONGEST: u64 = 1 << 40;

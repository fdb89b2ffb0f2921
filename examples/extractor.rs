//! Parameters of your own: what a function needs to know about its caller is a type, checked before the function runs.
//!
//! ```text
//! cargo run --example extractor
//! ```

use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::Response;
use hubwire::{
    Call, Caller, Clients, Connection, FromConnection, FromInvocation, Groups, Hub, HubError, HubResult, Identity,
};
use std::collections::HashMap;
use std::sync::Arc;

/// The hub's state, whose parts extractors ask for.
#[derive(Clone, FromRef)]
struct App {
    tenants: Tenants,
    prices: Prices,
}

/// Names of tenants, by id.
#[derive(Clone)]
struct Tenants(Arc<HashMap<&'static str, &'static str>>);

#[derive(Clone)]
struct Prices(Arc<HashMap<&'static str, u32>>);

/// The tenant that the caller belongs to. A caller without one cannot call what has this parameter.
struct Tenant {
    id: String,
    name: &'static str,
}

/// For every state that has tenants.
impl<S> FromConnection<S> for Tenant
where
    Tenants: FromRef<S>,
{
    fn from_connection(connection: &Connection, state: &S) -> HubResult<Self> {
        let id = connection.identity().claim("tenant").ok_or(HubError::client("you belong to no tenant"))?;
        let name = Tenants::from_ref(state).0.get(id).copied().ok_or(HubError::client("your tenant is not known"))?;
        Ok(Self { id: id.to_owned(), name })
    }
}

/// An argument that is checked before the function runs.
struct Amount(u32);

/// The kind of that parameter: any type of your own.
enum Checked {}

impl<S> FromInvocation<S, Checked> for Amount {
    const ARGUMENTS: usize = 1;

    fn from_invocation(call: &mut Call<'_>, _: &S) -> HubResult<Self> {
        match call.next_argument()? {
            amount @ 1..=1000 => Ok(Self(amount)),
            _ => Err(HubError::client("an amount is between 1 and 1000")),
        }
    }
}

async fn price(State(prices): State<Prices>, product: String, Amount(amount): Amount) -> HubResult<u32> {
    let price = prices.0.get(&*product).ok_or(HubError::client("there is no such product"))?;
    Ok(price * amount)
}

/// Who has a tenant is in its group.
async fn arrive(tenant: Option<Tenant>, caller: Caller, groups: Groups) -> HubResult {
    match tenant {
        Some(tenant) => groups.add(caller.id(), tenant.id).await,
        None => Ok(()),
    }
}

async fn greet_colleagues(tenant: Tenant, caller: Caller, clients: Clients) -> HubResult {
    clients.group(tenant.id).send("greeting", (caller.user_id(), tenant.name)).await
}

/// `Option` makes a tenant optional.
async fn hello(tenant: Option<Tenant>) -> HubResult<String> {
    Ok(tenant.map_or("hello, whoever you are".into(), |tenant| format!("hello, {}", tenant.name)))
}

/// Stands for real authentication: a layer like any other, which says who connects.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let name = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if let Some(name) = name {
        request.extensions_mut().insert(Identity::user(name).with_claim("tenant", "acme"));
    }
    next.run(request).await
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = App {
        tenants: Tenants(Arc::new(HashMap::from([("acme", "Acme & Sons")]))),
        prices: Prices(Arc::new(HashMap::from([("apple", 3), ("pear", 4)]))),
    };
    let hub = Hub::with_state(app)
        .on_connected(arrive)
        .method("price", price)
        .method("greetColleagues", greet_colleagues)
        .method("hello", hello)
        .build();
    let router = Router::new().merge(hub.routes("/shop")).layer(middleware::from_fn(authenticate));
    let listener = tokio::net::TcpListener::bind(address()).await?;
    println!("clients connect to http://{}/shop", listener.local_addr()?);
    hubwire::serve(listener, router).await
}

/// The first argument, if there is one.
fn address() -> String {
    std::env::args().nth(1).unwrap_or("127.0.0.1:5000".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_function_is_tested_by_calling_it() {
        let prices = Prices(Arc::new(HashMap::from([("apple", 3)])));
        assert_eq!(price(State(prices.clone()), "apple".into(), Amount(2)).await.unwrap(), 6);
        let error = price(State(prices), "plum".into(), Amount(2)).await.unwrap_err();
        assert_eq!(error.client_text(), Some("there is no such product"));
    }

    #[tokio::test]
    async fn an_extractor_is_tested_on_a_connection() {
        let tenants = Tenants(Arc::new(HashMap::from([("acme", "Acme")])));
        let app = App { tenants, prices: Prices(Arc::default()) };
        let (connection, _inbox) = Connection::for_test(Identity::user("ann").with_claim("tenant", "acme"));
        assert_eq!(Tenant::from_connection(&connection, &app).unwrap().name, "Acme");
        let (connection, _inbox) = Connection::for_test(Identity::anonymous());
        assert!(Tenant::from_connection(&connection, &app).is_err());
    }
}

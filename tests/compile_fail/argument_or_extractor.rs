//~ multiple `impl`s satisfying `Both: FromInvocation<(), _>` found
//~ where T: DeserializeOwned
//~ where T: FromConnection<S>
use hubwire::{Connection, FromConnection, Hub, HubResult};

#[derive(serde::Deserialize)]
struct Both;

impl<S> FromConnection<S> for Both {
    fn from_connection(_: &Connection, _: &S) -> HubResult<Self> {
        Ok(Both)
    }
}

async fn take(_: Both) -> HubResult {
    Ok(())
}

fn main() {
    let _ = Hub::with_state(()).method("Take", take).build();
}

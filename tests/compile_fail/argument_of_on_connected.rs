//~ `String` cannot be made from a connection alone
//~ a life-cycle handler takes extractors only: it has no arguments and no upload streams
use hubwire::{Caller, Hub, HubResult};

async fn connected(_: Caller, _: String) -> HubResult {
    Ok(())
}

fn main() {
    let _ = Hub::with_state(()).on_connected(connected).build();
}

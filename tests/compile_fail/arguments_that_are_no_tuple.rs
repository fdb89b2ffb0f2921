//~ `String` is no list of arguments
//~ write `(value,)` for a single argument and `()` for none
use hubwire::{Clients, Hub, HubResult};

async fn say(clients: Clients, text: String) -> HubResult {
    clients.all().send("said", text).await
}

fn main() {
    let _ = Hub::with_state(()).method("Say", say).build();
}

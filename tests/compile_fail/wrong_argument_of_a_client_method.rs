//~ `&str` does not fit `u32`, which the client method declares
use hubwire::{ClientMethod, Clients, Hub, HubResult};

const MOVED: ClientMethod<(String, u32)> = ClientMethod::new("moved");

async fn mv(clients: Clients) -> HubResult {
    clients.others().send(MOVED, ("x", "not a number")).await
}

fn main() {
    let _ = Hub::with_state(()).method("Move", mv).build();
}

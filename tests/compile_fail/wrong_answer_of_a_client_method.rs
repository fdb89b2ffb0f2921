//~ expected `Result<String, HubError>`, found `Result<u32, HubError>`
use hubwire::{ClientMethod, Clients, Hub, HubResult};

const PICK: ClientMethod<(), u32> = ClientMethod::new("pick");

async fn pick(clients: Clients) -> HubResult<String> {
    clients.caller().invoke(PICK, ()).await
}

fn main() {
    let _ = Hub::with_state(()).method("Pick", pick).build();
}

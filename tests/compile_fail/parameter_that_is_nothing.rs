//~ `TcpStream` is neither an argument nor an extractor
//~ cannot be a parameter of a hub method
//~ an argument implements `serde::Deserialize`; an extractor implements `hubwire::FromConnection<()>`
use hubwire::{Hub, HubResult};

async fn take(_: std::net::TcpStream) -> HubResult {
    Ok(())
}

fn main() {
    let _ = Hub::with_state(()).method("Take", take).build();
}

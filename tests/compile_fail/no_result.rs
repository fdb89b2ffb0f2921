//~ expected `Result<_, HubError>`, found `String`
use hubwire::Hub;

async fn name(_: String) -> String {
    String::new()
}

fn main() {
    let _ = Hub::with_state(()).method("Name", name).build();
}

//~ is no hub function with the parameters
//~ it has at most eight parameters, and returns `hubwire::HubResult<_>`
use hubwire::{Hub, HubResult};

#[allow(clippy::too_many_arguments)]
async fn nine(_: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8) -> HubResult {
    Ok(())
}

fn main() {
    let _ = Hub::with_state(()).method("Nine", nine).build();
}

//~ not a hub function
//~ a hub function is an `async fn`, or a closure that returns a future, which is `Send + 'static`
use hubwire::{Hub, HubResult};
use std::rc::Rc;

async fn wait() -> HubResult {
    let here = Rc::new(());
    std::future::ready(()).await;
    drop(here);
    Ok(())
}

fn main() {
    let _ = Hub::with_state(()).method("Wait", wait).build();
}

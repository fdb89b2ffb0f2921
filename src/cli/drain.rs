use super::args::Drain;
use super::failure::Failure;
use super::service::Service;
use super::{print, print_json};
use reqwest::Method;
use serde_json::json;

/// Tells a running server to stop, as SIGTERM does.
pub(super) async fn drain(args: &Drain) -> Result<(), Failure> {
    let service = Service::find(&args.service)?;
    service.call(Method::POST, "api/:drain", "", None).await?;
    if args.service.json {
        return print_json(&json!({ "draining": true }));
    }
    print(&format!("{} drains: it closes its connections, and stops\n", service.base))
}

use super::args::{Send, Whom};
use super::failure::Failure;
use super::print_json;
use super::service::{Service, segment};
use reqwest::Method;
use serde_json::{Value, json};

/// Calls a method of clients.
pub(super) async fn send(args: &Send) -> Result<(), Failure> {
    let service = Service::find(&args.service)?;
    let hub = format!("api/hubs/{}", segment(&args.hub));
    let path = match &args.whom {
        Whom { user: Some(user), .. } => format!("{hub}/users/{}/:send", segment(user)),
        Whom { group: Some(group), .. } => format!("{hub}/groups/{}/:send", segment(group)),
        Whom { connection: Some(id), .. } => format!("{hub}/connections/{}/:send", segment(id)),
        Whom { .. } => format!("{hub}/:send"),
    };
    let query: String = args.except.iter().map(|id| format!("&excluded={}", segment(id))).collect();
    let arguments: Vec<Value> = args.arguments.iter().map(|text| argument(text)).collect();
    let body = json!({ "target": args.target, "arguments": arguments });
    service.call(Method::POST, &path, &query, Some(&body)).await?;
    if args.service.json { print_json(&json!({ "sent": true })) } else { Ok(()) }
}

/// JSON where it is such, or else a text.
fn argument(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

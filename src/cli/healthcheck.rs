use super::args::Healthcheck;
use super::failure::Failure;
use super::service::{client, innermost};
use super::sources::admin;
use super::trust::Trust;
use crate::config::reachable;

/// Asks the admin address of the same configuration, of which nothing else is looked at: what is wrong with the rest, or is not for whoever
/// asks to read, says nothing about the server that runs. A container has no other program that could.
pub(super) async fn check(args: &Healthcheck) -> Result<(), Failure> {
    let admin = admin(args.file.config.as_deref())?;
    let Some(address) = admin.first() else {
        return Err(Failure::failed("there is nobody to ask: `admin.listen` is empty"));
    };
    let url = format!("http://{}/{}", reachable(*address), if args.ready { "readyz" } else { "healthz" });
    let answer = client(&Trust::default())?.get(&url).send().await;
    let answer = answer.map_err(|e| Failure::failed(format!("{url} cannot be reached: {}", innermost(&e))))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(Failure::failed(format!("{url} answered {}", answer.status())))
    }
}

use super::raw::{Hub, Raw};
use super::{DEFAULT, Sources, sources::File};
use crate::ServiceOptions;

fn merged(text: &str) -> Result<Raw, String> {
    let sources = Sources { file: Some(File::of("x.toml", text)), ..Sources::default() };
    sources.merge().map_err(|e| e.to_string())
}

#[test]
fn the_commented_file_says_what_the_defaults_are() {
    let mut defaults = Raw::default();
    defaults.hubs.insert("chat".into(), Hub::default());
    defaults.service = Some(ServiceOptions::default());
    assert_eq!(format!("{:#?}", merged(DEFAULT).unwrap()), format!("{defaults:#?}"));
}

#[test]
fn the_commented_file_has_every_key() {
    for section in [
        "",
        "server",
        "server.limits",
        "admin",
        "log",
        "keys",
        "cors",
        "rest",
        "hubs.chat",
        "hubs.chat.issuer",
        "hubs.chat.connection",
        "hubs.chat.transport",
        "service",
        "service.clients",
        "service.clients.connection",
        "service.clients.transport",
    ] {
        let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        // what is known is what an unknown key is answered with
        let said = merged(&format!("{header}a_key_that_there_is_not = 1\n")).unwrap_err();
        let known = said.split_once("known are ").expect(&said).1;
        let body = match section {
            "" => DEFAULT,
            _ => DEFAULT.split_once(&header).expect(section).1.split("\n[").next().unwrap(),
        };
        for key in known.split(", ").map(|key| key.trim_matches('`')) {
            let nested = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            let is_there =
                [format!("\n{key} = "), format!("\n#{key} = "), format!("\n[{nested}"), format!("\n#[{nested}]")]
                    .iter()
                    .zip([body, body, DEFAULT, DEFAULT])
                    .any(|(wanted, text)| format!("\n{text}").contains(wanted.as_str()));
            assert!(is_there, "{key} of [{section}]");
        }
    }
}

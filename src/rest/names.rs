use super::errors::Refusal;

/// Checks the name of a hub and gives it as it is compared.
pub(super) fn hub(name: &str) -> Result<String, Refusal> {
    if is_hub(name) { Ok(name.to_ascii_lowercase()) } else { Err(Refusal::invalid(HUB)) }
}

/// The same for the application that a hub is of.
pub(super) fn application(name: &str) -> Result<String, Refusal> {
    if is_hub(name) { Ok(name.to_ascii_lowercase()) } else { Err(Refusal::invalid(APPLICATION)) }
}

pub(super) fn group(name: &str) -> Result<(), Refusal> {
    if is_between(name, 1024) && !is_blank(name) { Ok(()) } else { Err(Refusal::invalid(GROUP)) }
}

pub(super) fn user(id: &str) -> Result<(), Refusal> {
    if is_between(id, 1024) { Ok(()) } else { Err(Refusal::invalid(USER)) }
}

pub(super) fn connection(id: &str) -> Result<(), Refusal> {
    if id.is_empty() { Err(Refusal::invalid(CONNECTION)) } else { Ok(()) }
}

pub(super) fn stream(id: &str) -> Result<(), Refusal> {
    if is_between(id, 100) && !is_blank(id) { Ok(()) } else { Err(Refusal::invalid(STREAM)) }
}

fn is_hub(name: &str) -> bool {
    let other = |b: u8| b.is_ascii_alphanumeric() || b"_`,.[]".contains(&b);
    name.len() <= 128 && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(other)
}

fn is_between(name: &str, most: usize) -> bool {
    // no character has more than four bytes, so a long one is not counted
    !name.is_empty() && name.len() <= 4 * most && name.chars().count() <= most
}

fn is_blank(name: &str) -> bool {
    name.chars().all(char::is_whitespace)
}

const HUB: &str = "Invalid hub name. Valid hub name should be in between 1 and 128 characters long. The first character must be a letter, other characters can be letters, digits or the following symbols _`,.[]";
const APPLICATION: &str = "Invalid value of 'application'. Valid application name should be in between 1 and 128 characters long. The first character must be a letter, other characters can be letters, digits or the following symbols _`,.[]";
const GROUP: &str = "Invalid group name. Valid group name should be in between 1 and 1024 characters long.";
const USER: &str = "Invalid user id. Valid user id should be in between 1 and 1024 characters long.";
const CONNECTION: &str = "Invalid connection id. Valid connection id should be more than 1 characters long";
const STREAM: &str = "Invalid stream id. Valid stream id should be in between 1 and 100 characters long.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_patterns() {
        assert_eq!(hub("Chat_1`,.[]").unwrap(), "chat_1`,.[]");
        let long = "a".repeat(128);
        assert!(hub(&long).is_ok() && hub(&format!("{long}a")).is_err());
        for wrong in ["", "1a", "_a", "a b", "a/b", "é", "a-b"] {
            assert!(hub(wrong).is_err() && application(wrong).is_err(), "{wrong}");
        }
        let long = "é".repeat(1024);
        assert!(group(&long).is_ok() && group(&format!("{long}é")).is_err());
        assert!(group("a b").is_ok() && group("").is_err() && group(" \t\u{a0}").is_err());
        assert!(user(" ").is_ok() && user("").is_err() && user(&format!("{long}x")).is_err());
        assert!(connection("x").is_ok() && connection("").is_err());
        assert!(stream(&"s".repeat(100)).is_ok() && stream(&"s".repeat(101)).is_err() && stream(" ").is_err());
    }
}

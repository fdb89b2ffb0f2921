//! What differs from run to run, taken out of bytes before they are compared.

/// Replaces what a server draws for itself: connection ids and tokens (22 characters of base64url between quotes)
/// become `<id1>`, `<id2>` by first appearance, and the ids of client results (`s7`) become `<s1>`, `<s2>`.
#[derive(Debug, Default)]
pub struct Mask {
    ids: Vec<Vec<u8>>,
    asks: Vec<Vec<u8>>,
}

impl Mask {
    /// Masks a text; what it has seen before keeps its number.
    pub fn text(&mut self, text: &str) -> String {
        let bytes = text.as_bytes();
        let mut masked = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            if let Some(id) = id_at(bytes, at) {
                let number = number_of(&mut self.ids, id);
                masked.extend_from_slice(format!("<id{number}>").as_bytes());
                at += id.len();
            } else if let Some(id) = ask_at(bytes, at) {
                let number = number_of(&mut self.asks, id);
                masked.extend_from_slice(format!("<s{number}>").as_bytes());
                at += id.len();
            } else {
                masked.push(bytes[at]);
                at += 1;
            }
        }
        String::from_utf8(masked).expect("only ASCII was replaced")
    }
}

/// An id of 22 characters, if it stands between quotes.
fn id_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let word = bytes.get(at..at + 22)?;
    let before = *bytes.get(at.checked_sub(1)?)?;
    let alone = matches!(before, b'"' | b'\'') && bytes.get(at + 22) == Some(&before);
    let is_id = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    // Words of 22 letters occur in texts; random ids without both cases practically do not.
    let random = word.iter().any(u8::is_ascii_uppercase) && word.iter().any(u8::is_ascii_lowercase);
    (alone && random && word.iter().all(is_id)).then_some(word)
}

/// `s` and digits, behind `"invocationId":"` or where [`Mp`](super::msgpack::Mp) shows the id of an invocation.
fn ask_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes[at..].strip_prefix(b"s")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let head = &bytes[..at];
    let announced = head.ends_with(b"\"invocationId\":\"") || head.ends_with(b"[1, {}, \"");
    (digits > 0 && announced && rest.get(digits) == Some(&b'"')).then(|| &bytes[at..at + digits + 1])
}

fn number_of(known: &mut Vec<Vec<u8>>, id: &[u8]) -> usize {
    match known.iter().position(|other| other == id) {
        Some(index) => index + 1,
        None => {
            known.push(id.to_vec());
            known.len()
        }
    }
}

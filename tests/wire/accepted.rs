//! Where ours answers otherwise than the reference, on purpose.

/// One accepted difference.
pub(crate) struct Accepted {
    /// The name of the script.
    pub(crate) script: &'static str,
    /// Why ours differs.
    pub(crate) reason: &'static str,
    /// What ours says with detailed errors; a line that ends in `…` is a beginning.
    detailed: &'static [&'static str],
    /// What ours says without them, where that differs.
    plain: Option<&'static [&'static str]>,
}

impl Accepted {
    /// What ours is to say.
    pub(crate) fn ours(&self, detailed: bool) -> Vec<String> {
        let lines = if detailed { self.detailed } else { self.plain.unwrap_or(self.detailed) };
        lines.iter().map(|line| (*line).to_owned()).collect()
    }
}

/// Texts of the reference's own libraries, with why ours has others: behind these beginnings nothing is compared.
const FOREIGN: &[(&str, &str)] = &[
    ("JsonReaderException: ", "the JSON reader's account of what is wrong, with line and position"),
    ("JsonException: ", "the JSON serializer's account of what does not fit, with .NET type names"),
    ("FormatException: Either the JSON value", "a number that is no 32-bit integer, in the JSON reader's words"),
    ("InvalidOperationException: Cannot ", "the JSON reader, asked for a text where there is none"),
    ("InvalidDataException: Deserializing object of the ", "the MessagePack serializer, with .NET type names"),
    ("MessagePackSerializationException: ", "the MessagePack serializer's account of a byte that does not fit"),
    ("FormatException: Messages over", "ours calls every malformed message an InvalidDataException"),
    ("EndOfStreamException: ", "the MessagePack reader at the end of a message that goes on"),
    ("Error trying to deserialize result to ", "the serializer again, behind a .NET type name"),
    ("Exception of type 'Microsoft", "an exception without a text, named by its .NET type"),
    ("InvalidOperationException: secret detail", "the exception that Crash throws is the hub author's"),
];

/// A line of the reference as ours is to say it: cut before words of the reference's libraries.
pub(crate) fn without_foreign_words(line: &str) -> String {
    match FOREIGN.iter().filter_map(|(words, _)| line.find(words)).min() {
        Some(at) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

const END: &str = r#"text {"type":3,"invocationId":"end","result":"end"}"#;
const END_MP: &str = r#"binary [3, {}, "end", 3, "end"]"#;
const CLOSED: &str = r#"text {"type":7,"error":"Connection closed with an error.","allowReconnect":true}"#;
const NO_TARGET: &str = r#"text {"type":7,"error":"Connection closed with an error. InvalidDataException: Missing required property 'target'.","allowReconnect":true}"#;
const CLOSE: &str = "close 1000 ''";

/// All of them.
pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        script: "json: escaped names and values",
        reason: "an untyped value is passed on as it was written, its escapes included: the same JSON value",
        detailed: &[r#"text {"type":3,"invocationId":"1","result":"ä☃😀\/\b\f"}"#, END, CLOSE, "end"],
        plain: None,
    },
    Accepted {
        script: "json: a binding failure before a missing id",
        reason: "ours binds arguments after the message has been read, so the stream without an id is refused first",
        detailed: &[
            r#"text {"type":7,"error":"Connection closed with an error. InvalidDataException: Missing required property 'invocationId'.","allowReconnect":true}"#,
            CLOSE,
            "end",
        ],
        plain: Some(&[CLOSED, CLOSE, "end"]),
    },
    Accepted {
        script: "json: target empty",
        reason: "ours refuses it while reading, as the vectors of the protocol's own tests say; there it fails to bind",
        detailed: &[NO_TARGET, CLOSE, "end"],
        plain: Some(&[CLOSED, CLOSE, "end"]),
    },
    Accepted {
        script: "json: target empty in a stream",
        reason: "ours refuses it while reading, as the vectors of the protocol's own tests say; there it fails to bind",
        detailed: &[NO_TARGET, CLOSE, "end"],
        plain: Some(&[CLOSED, CLOSE, "end"]),
    },
    Accepted {
        script: "json: an unknown type",
        reason: "the reference reads nothing more from that connection (hub-protocol.md 4.5); ours skips the message",
        detailed: &[r#"text {"type":3,"invocationId":"1","result":1}"#, END, CLOSE, "end"],
        plain: None,
    },
    Accepted {
        script: "messagepack: an unknown type",
        reason: "the reference reads nothing more from that connection (hub-protocol.md 4.5); ours skips the message",
        detailed: &[r#"binary [3, {}, "1", 3, 1]"#, END_MP, CLOSE, "end"],
        plain: None,
    },
    Accepted {
        script: "json: item before its id",
        reason: "the reference lets the lookup failure escape (6.4); pysignalr writes items so, and ours ignores it",
        detailed: &[END, CLOSE, "end"],
        plain: None,
    },
    Accepted {
        script: "cancellation of an ordinary call (json)",
        reason: "it has no effect in .NET 10; ours stops the call and counts it, as ASP.NET Core 11 does",
        detailed: &[
            r#"text {"type":3,"invocationId":"1",…"#,
            r#"text {"type":3,"invocationId":"2","result":1}"#,
            END,
            CLOSE,
            "end",
        ],
        plain: None,
    },
    Accepted {
        script: "cancellation of an ordinary call (messagepack)",
        reason: "it has no effect in .NET 10; ours stops the call and counts it, as ASP.NET Core 11 does",
        detailed: &[r#"binary [3, {}, "1", …"#, r#"binary [3, {}, "2", 3, 1]"#, END_MP, CLOSE, "end"],
        plain: None,
    },
];

/// An accepted difference of an HTTP answer: the name of the request, and why ours differs from the reference. What ours is to say
/// stands in the test that is named, or is said here.
pub(crate) const ACCEPTED_ANSWERS: &[(&str, &str)] = &[(
    "POST /conformance/negotiate?negotiateVersion=1&negotiateVersion=1",
    "the reference reads `1,1`, which is no number; ours takes the highest, since a redirect may have left an older one",
)];

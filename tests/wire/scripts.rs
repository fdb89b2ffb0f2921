//! What the differential test says to both servers.

use crate::differential::{End, OWN_ID, Script, Step};
use crate::support::hub::{PROTOCOLS, Protocol, encode, in_order, invocation_mp, record};
use crate::support::msgpack::{Mp, framed, unhex, varint};
use crate::support::ws::{BINARY, CONTINUATION, Frame, PING, TEXT, upgrade_request, upgrade_request_with};
use serde_json::{Value, json};

/// Every script.
pub(crate) fn all() -> Vec<Script> {
    [
        handshakes(),
        calls(),
        call_errors(),
        streams(),
        uploads(),
        client_results(),
        ignored(),
        json_reading(),
        json_fatal(),
        messagepack_reading(),
        messagepack_fatal(),
        sizes(),
        framing(),
        closing(),
    ]
    .concat()
}

fn call(id: &str, target: &str, arguments: Value) -> Value {
    json!({"type": 1, "invocationId": id, "target": target, "arguments": arguments})
}

fn send(target: &str, arguments: Value) -> Value {
    json!({"type": 1, "target": target, "arguments": arguments})
}

fn stream(id: &str, target: &str, arguments: Value) -> Value {
    json!({"type": 4, "invocationId": id, "target": target, "arguments": arguments})
}

fn upload(id: &str, target: &str, streams: &[&str]) -> Value {
    json!({"type": 1, "invocationId": id, "target": target, "arguments": [], "streamIds": streams})
}

fn item(id: &str, item: Value) -> Value {
    json!({"type": 2, "invocationId": id, "item": item})
}

fn done(id: &str) -> Value {
    json!({"type": 3, "invocationId": id})
}

fn failed(id: &str, error: &str) -> Value {
    json!({"type": 3, "invocationId": id, "error": error})
}

fn cancel(id: &str) -> Value {
    json!({"type": 5, "invocationId": id})
}

fn handshakes() -> Vec<Script> {
    let good = [
        ("json 1", r#"{"protocol":"json","version":1}"#),
        ("json 0", r#"{"protocol":"json","version":0}"#),
        ("json -5", r#"{"protocol":"json","version":-5}"#),
        ("json 2", r#"{"protocol":"json","version":2}"#),
        ("any case", r#"{"protocol":"JsOn","version":1}"#),
        ("any order, other properties", r#"{"version":1,"minorVersion":null,"x":{"y":[1]},"protocol":"json"}"#),
        ("white space", " { \"protocol\" : \"json\" ,\r\n \"version\" : 1 } "),
        ("escapes", r#"{"pro\u0074ocol":"\u006ason","version":1}"#),
        ("a repeated protocol", r#"{"protocol":"nope","version":1,"protocol":"json"}"#),
    ];
    let bad = [
        ("protocol unknown", r#"{"protocol":"dummy","version":1}"#),
        ("protocol empty", r#"{"protocol":"","version":1}"#),
        ("protocol with a quote", r#"{"protocol":"a\"b<ä>","version":1}"#),
        ("protocol unknown and version too high", r#"{"protocol":"dummy","version":9}"#),
        ("version 3", r#"{"protocol":"json","version":3}"#),
        ("version 3 of another spelling", r#"{"protocol":"JSON","version":3}"#),
        ("version 2147483647", r#"{"protocol":"messagepack","version":2147483647}"#),
        ("version beyond 32 bits", r#"{"protocol":"json","version":2147483648}"#),
        ("version a fraction", r#"{"protocol":"json","version":1.5}"#),
        ("version a string", r#"{"protocol":"json","version":"1"}"#),
        ("version null", r#"{"protocol":"json","version":null}"#),
        ("version missing", r#"{"protocol":"json"}"#),
        ("protocol null", r#"{"protocol":null,"version":1}"#),
        ("protocol a number", r#"{"protocol":1,"version":1}"#),
        ("protocol missing", r#"{"version":1}"#),
        ("protocol in another case", r#"{"Protocol":"json","version":1}"#),
        ("empty object", "{}"),
        ("hub message instead", r#"{"type":6}"#),
        ("number", "42"),
        ("string", "\"42\""),
        ("null", "null"),
        ("array", "[]"),
        ("true", "true"),
        ("false", "false"),
        ("nothing", ""),
        ("not JSON", "hello"),
        ("cut off", r#"{"protocol":"json""#),
        ("trailing comma", r#"{"protocol":"json","version":1,}"#),
        ("comment", r#"{"protocol":"json",/**/"version":1}"#),
    ];
    let mut scripts = Vec::new();
    for (name, text) in good {
        let script = Script::json(format!("handshake: {name}"), &[text]);
        scripts.push(script.unshaken().awaiting(2));
    }
    for (name, text) in bad {
        scripts.push(Script::json(format!("handshake: {name}"), &[text]).unshaken().dies());
    }
    let after = "handshake: something behind the object";
    scripts.push(Script::json(after, &[r#"{"protocol":"json","version":1} rubbish"#]).unshaken().awaiting(2));
    let script = Script::new("handshake: messagepack", Protocol::MessagePack, vec![Protocol::MessagePack.handshake()]);
    scripts.push(script.unshaken().awaiting(2));
    let spelled = record(r#"{"protocol":"MESSAGEPACK","version":2}"#);
    let script = Script::new("handshake: messagepack in capitals", Protocol::MessagePack, vec![spelled]);
    scripts.push(script.unshaken().awaiting(2));
    for protocol in PROTOCOLS {
        let messages = [
            protocol.handshake(),
            encode(protocol, &call("1", "Echo", json!([1]))),
            encode(protocol, &call("2", "Echo", json!(["two"]))),
        ];
        let name = format!("handshake: calls in the same frame ({})", protocol.name());
        scripts.push(Script::new(name, protocol, vec![messages.concat()]).unshaken().awaiting(4));
        let name = format!("handshake: in the other kind of frame ({})", protocol.name());
        let frame = Frame::new(if protocol == Protocol::Json { BINARY } else { TEXT }, protocol.handshake());
        scripts.push(Script::new(name, protocol, vec![]).unshaken().then(Step::Wire(frame.encode())).awaiting(2));
    }
    let twice = vec![Protocol::Json.handshake(); 2];
    scripts.push(Script::new("handshake: twice", Protocol::Json, twice).unshaken().dies());
    let invalid = Frame::binary(b"{\"protocol\":\"\xff\xfe\",\"version\":1}\x1e".as_slice());
    let script = Script::json("handshake: not UTF-8", &[]).unshaken().dies();
    scripts.push(script.then(Step::Wire(invalid.encode())));
    let close = Frame::close(1000, "").encode();
    let script = Script::json("handshake: closed before it", &[]).unshaken().dies();
    scripts.push(script.then(Step::Wire(close)));
    scripts.push(Script::json("handshake: timeout", &[]).unshaken().dies().at("/conformance-small"));
    let script = Script::json("handshake: timeout in the middle", &[]).unshaken().dies().at("/conformance-small");
    scripts.push(script.then(Step::Wire(Frame::text(r#"{"protocol":"json""#).encode())));
    scripts
}

fn calls() -> Vec<Script> {
    let types = json!({"text": "ä☃😀\"\\\n", "int": -5, "long": 9_007_199_254_740_993_i64, "float": 2.5, "bool": true,
        "bytes": "AQID", "list": [1, 2], "map": {"aB": "c"}, "nothing": null});
    let each: &[(&str, &[Value])] = &[
        ("Echo of a text", &[call("1", "Echo", json!(["ä☃😀 \"\\/<>&'+\u{1}\u{1f}\u{7f}\u{2028}\n\t"]))]),
        ("Echo of numbers", &[call("1", "Echo", json!([[0, -1, 127, 128, -129, 65536, 1.5, -0.25, 4294967296_i64]]))]),
        ("Echo of the ends of the ranges", &[call("1", "Echo", json!([[i64::MAX, i64::MIN, i32::MIN, u32::MAX]]))]),
        ("Echo of nested values", &[call("1", "Echo", json!([{"a": [1, {"B": null}], "c": true, "": []}]))]),
        ("Echo of null", &[call("1", "Echo", json!([null]))]),
        ("Add", &[call("1", "Add", json!([2, 3])), call("2", "Add", json!([-2_147_483_648, 0]))]),
        ("names in any case", &[call("1", "aDD", json!([2, 3])), call("2", "ECHO", json!([1]))]),
        ("Nothing and Null", &[call("1", "Nothing", json!([])), call("2", "Null", json!([]))]),
        ("Cancellations", &[call("1", "Cancellations", json!([]))]),
        ("Large", &[call("1", "Large", json!([100])), call("2", "Large", json!([70_000]))]),
        (
            "GetItem and SetItem",
            &[
                call("1", "GetItem", json!(["k"])),
                call("2", "SetItem", json!(["k", {"deep": [1, null]}])),
                call("3", "GetItem", json!(["k"])),
                call("4", "GetItem", json!(["K"])),
            ],
        ),
        ("Order", &[call("1", "Order", json!([1])), call("2", "Order", json!([2])), call("3", "Order", json!([3]))]),
        ("no invocation id", &[send("Echo", json!([1])), send("Throw", json!(["x"])), send("ToCaller", json!([7]))]),
        ("Abort", &[call("1", "Abort", json!([]))]),
        (
            "a group of one",
            &[
                call("1", "Join", json!([OWN_ID])),
                call("2", "Leave", json!([OWN_ID])),
                call("3", "Leave", json!(["never joined"])),
                call("4", "ToGroup", json!([OWN_ID, 1])),
            ],
        ),
        (
            "sends to the caller in every way",
            &[
                call("1", "ToCaller", json!([{"x": 1}])),
                call("2", "ToConnection", json!([OWN_ID, "a"])),
                call("3", "ToConnection", json!(["nobody", "b"])),
                call("4", "ToConnections", json!([[OWN_ID, "nobody", OWN_ID], "c"])),
                call("5", "ToConnections", json!([[], "d"])),
                call("6", "ToUser", json!(["nobody", "e"])),
                call("7", "ToUsers", json!([["nobody", "no one"], "f"])),
            ],
        ),
        (
            "sends to groups in every way",
            &[
                call("1", "Join", json!([OWN_ID])),
                call("2", "ToGroup", json!([OWN_ID, 1])),
                call("3", "ToGroups", json!([[OWN_ID, "empty"], 2])),
                call("4", "ToGroupExcept", json!([OWN_ID, [], 3])),
                call("5", "ToGroupExcept", json!([OWN_ID, [OWN_ID], 4])),
                call("6", "ToOthersInGroup", json!([OWN_ID, 5])),
                call("7", "Join", json!([OWN_ID])),
                call("8", "ToGroup", json!([OWN_ID, 6])),
                call("9", "Leave", json!([OWN_ID])),
                call("10", "ToGroup", json!([OWN_ID, 7])),
            ],
        ),
        ("Departed of nobody", &[call("1", "Departed", json!(["nobody"]))]),
        ("one id for several calls", &[call("1", "Add", json!([1, 1])), call("1", "Add", json!([2, 2]))]),
    ];
    let mut scripts: Vec<Script> = Vec::new();
    for (name, messages) in each {
        for script in Script::both(name, messages) {
            let dies = *name == "Abort";
            scripts.push(if dies { script.dies() } else { script });
        }
    }
    scripts.extend(Script::both("Slow", &[call("1", "Slow", json!([1]))]).map(|script| script.awaiting(1)));
    scripts.push(Script::json("Types (json)", &[&in_order(&call("1", "Types", json!([types])))]));
    let typed = Mp::Map(vec![
        (Mp::str("text"), Mp::str("ä")),
        (Mp::str("int"), Mp::Int(-5)),
        (Mp::str("long"), Mp::Int(1 << 40)),
        (Mp::str("float"), Mp::F64(2.5)),
        (Mp::str("bool"), Mp::Bool(true)),
        (Mp::str("bytes"), Mp::Bin(vec![1, 2, 3])),
        (Mp::str("list"), Mp::Array(vec![Mp::Int(1)])),
        (Mp::str("map"), Mp::Map(vec![(Mp::str("aB"), Mp::str("c"))])),
        (Mp::str("nothing"), Mp::Nil),
    ]);
    let message = invocation_mp(1, "1", "Types", vec![typed], &[]);
    scripts.push(Script::new("Types (messagepack)", Protocol::MessagePack, vec![message]));
    let values = vec![Mp::Array(vec![
        Mp::F32(1.5),
        Mp::F64(2.0),
        Mp::Bin(vec![0, 255]),
        Mp::Bin(vec![7; 300]),
        Mp::Int(u64::MAX.into()),
        Mp::Int(i64::MIN.into()),
        Mp::str(&"x".repeat(32)),
        Mp::str(&"y".repeat(70_000 / 300)),
        Mp::Array(vec![Mp::Nil; 20]),
        Mp::Map(vec![(Mp::str("k"), Mp::Bool(false))]),
    ])];
    let message = invocation_mp(1, "1", "Echo", values, &[]);
    scripts.push(Script::new("Echo of every kind (messagepack)", Protocol::MessagePack, vec![message]));
    scripts
}

fn call_errors() -> Vec<Script> {
    let each: &[(&str, &[Value])] = &[
        ("unknown method", &[call("1", "Nope", json!([])), call("2", "nö'\"pe", json!([1, 2]))]),
        ("too few arguments", &[call("1", "Add", json!([1])), call("2", "add", json!([]))]),
        ("too many arguments", &[call("1", "Add", json!([1, 2, 3])), call("2", "nothing", json!([null]))]),
        ("argument of another type", &[call("1", "Add", json!(["1", 2])), call("2", "ADD", json!([{}, []]))]),
        ("null into a number", &[call("1", "Add", json!([null, 2]))]),
        ("a fraction into an integer", &[call("1", "Add", json!([1.5, 2]))]),
        ("a number out of range", &[call("1", "Add", json!([2_147_483_648_i64, 2]))]),
        ("stream as a call", &[call("1", "Counter", json!([1, 0])), call("2", "counter", json!([1, 0]))]),
        ("call as a stream", &[stream("1", "Echo", json!([1]))]),
        ("too few upload streams", &[upload("1", "Sum", &[]), upload("2", "sum", &[])]),
        ("too many upload streams", &[upload("1", "Sum", &["a", "b"]), item("a", json!(1))]),
        (
            "upload streams for a method without",
            &[
                json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": [1], "streamIds": ["a"]}),
                json!({"type": 1, "invocationId": "2", "target": "echo", "arguments": [1], "streamIds": ["a", "b"]}),
            ],
        ),
        ("Throw", &[call("1", "Throw", json!(["boom 'ä' \" <"])), call("2", "throw", json!([""]))]),
        ("Crash", &[call("1", "Crash", json!([])), call("2", "crash", json!([]))]),
        ("unknown stream", &[stream("1", "Nope", json!([]))]),
        ("stream with too few arguments", &[stream("1", "Counter", json!([1]))]),
        ("stream with arguments of another type", &[stream("1", "Counter", json!(["x", 0]))]),
        (
            "errors of calls without an id",
            &[
                send("Nope", json!([])),
                send("Add", json!([1])),
                send("Crash", json!([])),
                send("Counter", json!([1, 0])),
            ],
        ),
        ("Ask of nobody", &[call("1", "Ask", json!(["nobody", "q"]))]),
    ];
    let mut scripts: Vec<Script> = each.iter().flat_map(|(name, messages)| Script::both(name, messages)).collect();
    scripts.push(Script::json(
        "an empty invocation id is none",
        &[r#"{"type":1,"invocationId":"","target":"Nope","arguments":[]}"#],
    ));
    let bodies = [
        ("arguments not an array", "95 01 80 a131 a3416464 01"),
        ("arguments missing", "94 01 80 a131 a3416464"),
        ("arguments nil", "96 01 80 a131 a3416464 c0 90"),
        ("a string argument with a number's length", "96 01 80 a131 a3416464 92 a131 02 90"),
    ];
    for (name, body) in bodies {
        let message = framed(&unhex(body));
        scripts.push(Script::new(format!("{name} (messagepack)"), Protocol::MessagePack, vec![message]));
    }
    scripts
}

fn streams() -> Vec<Script> {
    let mut scripts = Vec::new();
    let each: &[(&str, &[Value], usize)] = &[
        ("Counter", &[stream("1", "Counter", json!([3, 0]))], 4),
        ("Counter of nothing", &[stream("1", "Counter", json!([0, 0]))], 1),
        ("Counter of many", &[stream("1", "Counter", json!([200, 0]))], 201),
        ("Counter with pauses", &[stream("1", "Counter", json!([3, 5]))], 4),
        ("CounterThrow", &[stream("1", "CounterThrow", json!([2]))], 3),
        ("CounterThrow at once", &[stream("1", "counterthrow", json!([0]))], 1),
        ("two streams", &[stream("1", "Counter", json!([20, 0])), stream("2", "Counter", json!([20, 1]))], 42),
    ];
    for (name, messages, count) in each {
        scripts.extend(Script::both(name, messages).map(|script| script.awaiting(*count).unordered()));
    }
    let twice = [stream("1", "Counter", json!([2, 0]))];
    for script in Script::both("an id used again after its stream", &twice) {
        scripts.push(script.awaiting(3).then_say(stream("1", "Counter", json!([2, 0]))).awaiting(3));
    }
    // The items of Forever that come before the cancellation are the servers' own affair, so it waits for nobody here.
    for script in Script::both("a cancelled Counter", &[stream("1", "Counter", json!([2, 100_000]))]) {
        scripts.push(script.then_say(cancel("1")).awaiting(1));
    }
    scripts
}

fn uploads() -> Vec<Script> {
    let mut scripts = Vec::new();
    let each: &[(&str, &[Value], usize)] = &[
        ("Sum", &[upload("1", "Sum", &["a"]), item("a", json!(3)), item("a", json!(4)), done("a")], 1),
        ("Sum of nothing", &[upload("1", "Sum", &["a"]), done("a")], 1),
        (
            "Sum of many",
            &[&[upload("1", "Sum", &["a"])], &vec![item("a", json!(1)); 100][..], &[done("a")]].concat(),
            1,
        ),
        (
            "Sum ended by a result",
            &[upload("1", "Sum", &["a"]), item("a", json!(3)), json!({"type": 3, "invocationId": "a", "result": 77})],
            1,
        ),
        ("Sum ended by an error", &[upload("1", "Sum", &["a"]), item("a", json!(3)), failed("a", "too tired")], 1),
        ("Sum with an item of another type", &[upload("1", "Sum", &["a"]), item("a", json!("x")), done("a")], 1),
        ("Sum with a null item", &[upload("1", "Sum", &["a"]), item("a", json!(null)), done("a")], 1),
        ("UploadError none", &[upload("1", "UploadError", &["a"]), item("a", json!(1)), done("a")], 1),
        ("UploadError by an error", &[upload("1", "UploadError", &["a"]), failed("a", "ä'\"<")], 1),
        ("UploadError by an item", &[upload("1", "UploadError", &["a"]), item("a", json!("x")), done("a")], 1),
        (
            "Join2",
            &[
                upload("1", "Join2", &["b", "a"]),
                item("a", json!("a1")),
                item("b", json!("b1")),
                item("a", json!("a2")),
                done("a"),
                item("b", json!("b2")),
                done("b"),
            ],
            1,
        ),
        (
            "Join2 with one error",
            &[upload("1", "Join2", &["a", "b"]), item("a", json!("a1")), failed("a", "no more"), done("b")],
            1,
        ),
        (
            "uploads at once",
            &[
                upload("1", "Sum", &["a"]),
                upload("2", "Sum", &["b"]),
                item("b", json!(5)),
                item("a", json!(1)),
                done("a"),
                item("b", json!(6)),
                done("b"),
            ],
            2,
        ),
        (
            "items behind the end",
            &[upload("1", "Sum", &["a"]), done("a"), item("a", json!(3)), done("a"), call("2", "Add", json!([1, 1]))],
            2,
        ),
        (
            "EchoStream",
            &[
                json!({"type": 4, "invocationId": "1", "target": "EchoStream", "arguments": [], "streamIds": ["a"]}),
                item("a", json!({"x": [1]})),
                item("a", json!(null)),
                item("a", json!("ä")),
                done("a"),
            ],
            4,
        ),
        (
            "EchoStream with an error",
            &[
                json!({"type": 4, "invocationId": "1", "target": "EchoStream", "arguments": [], "streamIds": ["a"]}),
                item("a", json!(1)),
                failed("a", "broken"),
            ],
            2,
        ),
        ("EchoStream as a call", &[upload("1", "EchoStream", &["a"]), item("a", json!(1))], 1),
        (
            "Sum as a stream",
            &[
                json!({"type": 4, "invocationId": "1", "target": "Sum", "arguments": [], "streamIds": ["a"]}),
                item("a", json!(1)),
            ],
            1,
        ),
        (
            "an upload without an invocation id",
            &[
                json!({"type": 1, "target": "Sum", "arguments": [], "streamIds": ["a"]}),
                item("a", json!(1)),
                done("a"),
                call("1", "Add", json!([1, 1])),
            ],
            1,
        ),
        ("an upload with the id of its call", &[upload("1", "Sum", &["1"]), item("1", json!(2)), done("1")], 1),
    ];
    for (name, messages, count) in each {
        scripts.extend(Script::both(name, messages).map(|script| script.awaiting(*count).unordered()));
    }
    scripts
}

fn client_results() -> Vec<Script> {
    let ask = [call("1", "Ask", json!([OWN_ID, "how?"]))];
    let answers = [
        ("a text", json!({"result": "fine"})),
        ("an empty text", json!({"result": ""})),
        ("null", json!({"result": null})),
        ("a number", json!({"result": 7})),
        ("an object", json!({"result": {"a": [1]}})),
        ("an error", json!({"error": "I don't \"know\" <ä>"})),
        ("no handler", json!({"error": "Client didn't provide a result."})),
        ("an empty error", json!({"error": ""})),
        ("neither result nor error", json!({})),
    ];
    let mut scripts = Vec::new();
    for (name, members) in answers {
        for script in Script::both(&format!("Ask answered by {name}"), &ask) {
            scripts.push(script.then(Step::Answer(members.clone())).awaiting(1));
        }
    }
    for script in Script::both("AskTimeout answered", &[call("1", "AskTimeout", json!([OWN_ID, 10_000]))]) {
        scripts.push(script.then(Step::Answer(json!({"result": "soon"}))).awaiting(1));
    }
    for script in Script::both("AskTimeout not answered", &[call("1", "AskTimeout", json!([OWN_ID, 20]))]) {
        scripts.push(script.awaiting(2).then(Step::Answer(json!({"result": "late"}))));
    }
    for script in Script::both("calls while asked", &ask) {
        let script = script.awaiting(1).then_say(call("2", "Add", json!([1, 2]))).awaiting(1);
        scripts.push(script.then(Step::Answer(json!({"result": "fine"}))).awaiting(1));
    }
    scripts
}

fn ignored() -> Vec<Script> {
    let each: &[(&str, &[Value])] = &[
        ("cancellation of nothing", &[cancel("9")]),
        ("completion of nothing", &[done("9"), failed("8", "x"), json!({"type": 3, "invocationId": "7", "result": 1})]),
        ("completion of a client result never asked for", &[json!({"type": 3, "invocationId": "s99999", "result": 1})]),
        ("item of nothing", &[item("9", json!(1)), item("9", json!("x"))]),
        ("pings", &[json!({"type": 6}), json!({"type": 6}), json!({"type": 6})]),
        ("ack and sequence", &[json!({"type": 8, "sequenceId": 5}), json!({"type": 9, "sequenceId": 500})]),
    ];
    let mut scripts: Vec<Script> = each.iter().flat_map(|(name, messages)| Script::both(name, messages)).collect();
    for script in Script::both("cancellation of an ordinary call", &[call("1", "Slow", json!([1500]))]) {
        scripts.push(script.then_say(cancel("1")).awaiting(1).then_say(call("2", "Cancellations", json!([]))));
    }
    scripts
}

/// 4.3, what is accepted.
fn json_reading() -> Vec<Script> {
    let texts = [
        (
            "unknown properties",
            r#"{"x":null,"type":1,"y":{"z":[{}]},"invocationId":"1","target":"Add","arguments":[1,2],"w":1e5}"#,
        ),
        ("any order", r#"{"arguments":[1,2],"target":"Add","invocationId":"1","type":1}"#),
        ("arguments before the target", r#"{"type":1,"arguments":["x"],"invocationId":"1","target":"Echo"}"#),
        (
            "property names are case-sensitive",
            r#"{"type":1,"Target":"Add","target":"Echo","invocationId":"1","Arguments":1,"arguments":[1]}"#,
        ),
        ("a repeated id", r#"{"type":1,"invocationId":"0","target":"Echo","arguments":[1],"invocationId":"1"}"#),
        ("a repeated type", r#"{"type":6,"type":1,"invocationId":"1","target":"Echo","arguments":[1]}"#),
        (
            "headers",
            r#"{"type":1,"headers":{"a":"b","":"","Authorization":"Bearer x"},"invocationId":"1","target":"Echo","arguments":[1]}"#,
        ),
        ("empty headers", r#"{"headers":{},"type":1,"invocationId":"1","target":"Echo","arguments":[1]}"#),
        (
            "white space",
            " \t\r\n{ \"type\" : 1 ,\n\"invocationId\":\"1\", \"target\":\"Echo\",\"arguments\": [ 1 , { \"a\" : 2 } ] } \n",
        ),
        (
            "escaped names and values",
            r#"{"ty\u0070e":1,"invocationId":"\u0031","target":"\u0045cho","arguments":["\u00e4\u2603\ud83d\ude00\/\b\f"]}"#,
        ),
        ("rubbish behind the object", r#"{"type":1,"invocationId":"1","target":"Echo","arguments":[1]}} rubbish {"#),
        ("type with an exponent", r#"{"type":1e0,"invocationId":"1","target":"Echo","arguments":[1]}"#),
        ("a target that is not a method's", r#"{"type":1,"invocationId":"1","target":" Echo","arguments":[1]}"#),
        ("a ping with more in it", r#"{"type":6,"invocationId":"1","x":[]}"#),
        ("no stream ids", r#"{"type":1,"invocationId":"1","target":"Echo","arguments":[1],"streamIds":[]}"#),
        ("item before its id", r#"{"item":1,"type":2,"invocationId":"9"}"#),
        ("a binding failure before a missing id", r#"{"type":4,"target":"Nope","arguments":[]}"#),
        (
            "numbers in other spellings",
            r#"{"type":1,"invocationId":"1","target":"Echo","arguments":[[1.0,1e2,1E+2,-0,0.10]]}"#,
        ),
        (
            "a whole number with a fraction of zero for an integer",
            r#"{"type":1,"invocationId":"1","target":"Add","arguments":[1.0,2]}"#,
        ),
        (
            "a whole number with an exponent for an integer",
            r#"{"type":1,"invocationId":"1","target":"Add","arguments":[1e1,2]}"#,
        ),
        ("target empty", r#"{"type":1,"invocationId":"1","target":"","arguments":[]}"#),
        ("target empty in a stream", r#"{"type":4,"invocationId":"1","target":"","arguments":[]}"#),
        ("completion with both, unknown", r#"{"type":3,"invocationId":"9","result":1}"#),
    ];
    let mut scripts: Vec<Script> =
        texts.iter().map(|(name, text)| Script::json(format!("json: {name}"), &[text])).collect();
    let upload = [
        r#"{"streamIds":["a"],"arguments":[],"target":"Sum","invocationId":"1","type":1}"#,
        r#"{"item":4,"type":2,"invocationId":"a"}"#,
        r#"{"item":5,"invocationId":"a","type":2}"#,
        r#"{"invocationId":"a","type":3}"#,
    ];
    scripts.push(Script::json("json: an upload in another order", &upload).awaiting(1));
    let ask = Script::json("json: an answer to Ask", &[&in_order(&call("1", "Ask", json!([OWN_ID, "q"])))]);
    scripts.push(ask.then(Step::Answer(json!({"result": "r"}))).awaiting(1));
    scripts.push(Script::json(
        "json: an unknown type",
        &[r#"{"type":42,"x":1}"#, r#"{"type":1,"invocationId":"1","target":"Echo","arguments":[1]}"#],
    ));
    scripts
}

/// 4.3, what ends the connection.
fn json_fatal() -> Vec<Script> {
    let texts = [
        ("type missing", r#"{"target":"Echo"}"#),
        ("type null", r#"{"type":null}"#),
        ("type a string", r#"{"type":"1"}"#),
        ("type an object", r#"{"type":{}}"#),
        ("type a fraction", r#"{"type":1.5}"#),
        ("type beyond 32 bits", r#"{"type":4294967297}"#),
        ("invocation id a number", r#"{"type":1,"invocationId":7}"#),
        ("invocation id null", r#"{"type":1,"invocationId":null,"target":"Echo","arguments":[1]}"#),
        ("target a number", r#"{"type":1,"target":1,"arguments":[]}"#),
        ("target null", r#"{"type":1,"target":null,"arguments":[]}"#),
        ("error a number", r#"{"type":3,"invocationId":"1","error":1}"#),
        ("error null", r#"{"type":3,"invocationId":"1","error":null}"#),
        ("arguments an object", r#"{"type":1,"target":"Echo","arguments":{}}"#),
        ("arguments null", r#"{"type":1,"target":"Echo","arguments":null}"#),
        ("arguments an object, before the target", r#"{"arguments":{},"type":1,"target":"Echo"}"#),
        ("stream ids an object", r#"{"type":1,"target":"Sum","arguments":[],"streamIds":{}}"#),
        ("stream ids null", r#"{"type":1,"target":"Sum","arguments":[],"streamIds":null}"#),
        ("a null stream id", r#"{"type":1,"target":"Sum","arguments":[],"streamIds":[null]}"#),
        ("a number as a stream id", r#"{"type":1,"target":"Sum","arguments":[],"streamIds":[1]}"#),
        ("headers an array", r#"{"type":1,"headers":[],"target":"Echo","arguments":[1]}"#),
        ("headers null", r#"{"type":1,"headers":null,"target":"Echo","arguments":[1]}"#),
        ("a header that is a number", r#"{"type":1,"headers":{"k":1},"target":"Echo","arguments":[1]}"#),
        ("a header that is null", r#"{"type":1,"headers":{"k\"ä":null},"target":"Echo","arguments":[1]}"#),
        ("allowReconnect a number", r#"{"type":7,"allowReconnect":1}"#),
        ("allowReconnect null", r#"{"type":7,"allowReconnect":null}"#),
        ("sequence id a string", r#"{"type":8,"sequenceId":"1"}"#),
        ("sequence id missing from an ack", r#"{"type":8}"#),
        ("sequence id missing from a sequence", r#"{"type":9}"#),
        ("sequence id null", r#"{"type":9,"sequenceId":null}"#),
        ("target missing", r#"{"type":1,"arguments":[]}"#),
        ("target missing from a stream", r#"{"type":4,"invocationId":"1","arguments":[]}"#),
        ("arguments missing", r#"{"type":1,"invocationId":"1","target":"Echo"}"#),
        ("arguments missing, method unknown", r#"{"type":1,"invocationId":"1","target":"Nope"}"#),
        ("arguments missing from a stream", r#"{"type":4,"invocationId":"1","target":"Counter"}"#),
        ("invocation id missing from a stream", r#"{"type":4,"target":"Counter","arguments":[1,0]}"#),
        ("invocation id empty in a stream", r#"{"type":4,"invocationId":"","target":"Counter","arguments":[1,0]}"#),
        ("invocation id missing from an item", r#"{"type":2,"item":1}"#),
        ("item missing", r#"{"type":2,"invocationId":"1"}"#),
        ("invocation id missing from a completion", r#"{"type":3}"#),
        ("invocation id empty in a completion", r#"{"type":3,"invocationId":""}"#),
        ("invocation id missing from a cancellation", r#"{"type":5}"#),
        ("invocation id empty in a cancellation", r#"{"type":5,"invocationId":""}"#),
        ("error and result", r#"{"type":3,"invocationId":"1","error":"x","result":1}"#),
        ("result and error", r#"{"type":3,"result":1,"error":"x","invocationId":"1"}"#),
        ("root a number", "42"),
        ("root a string", "\"x\""),
        ("root null", "null"),
        ("root true", "true"),
        ("root false", "false"),
        ("root an array", "[]"),
        ("nothing", ""),
        ("not JSON", "hello"),
        ("cut off", r#"{"type":1,"target":"Ec"#),
        ("cut off in the arguments", r#"{"type":1,"target":"Echo","arguments":[1"#),
        ("trailing comma", r#"{"type":6,}"#),
        ("comment", r#"{"type":6/*x*/}"#),
        ("byte order mark", "\u{feff}{\"type\":6}"),
        ("single quotes", "{'type':6}"),
        ("control character in a string", "{\"type\":1,\"target\":\"a\u{1}b\",\"arguments\":[]}"),
        ("bad escape", r#"{"type":1,"target":"\x","arguments":[]}"#),
        ("leading zero", r#"{"type":06}"#),
    ];
    let mut scripts: Vec<Script> =
        texts.iter().map(|(name, text)| Script::json(format!("json, fatal: {name}"), &[text]).dies()).collect();
    let deep = format!(
        r#"{{"type":1,"invocationId":"1","target":"Echo","arguments":{}1{}}}"#,
        "[".repeat(100),
        "]".repeat(100)
    );
    scripts.push(Script::json("json, fatal: nested 100 deep", &[&deep]).dies());
    let mut after = Script::json("json, fatal: what came before is answered", &[]).dies();
    after.steps = vec![
        Step::Message(record(&in_order(&call("1", "Echo", json!([1]))))),
        Step::Await(1),
        Step::Message(record("nonsense")),
    ];
    scripts.push(after);
    scripts
}

/// 4.4, what is accepted.
fn messagepack_reading() -> Vec<Script> {
    let bodies = [
        ("five items", "95 01 80 a131 a44563686f 91 07"),
        ("extra items", "98 01 80 a131 a44563686f 91 07 90 a178 c0"),
        ("extra bytes", "96 01 80 a131 a44563686f 91 07 90 c0c0c0"),
        ("a type in 64 bits", "96 cf0000000000000001 80 a131 a44563686f 91 07 90"),
        ("a type in 8 bits", "96 cc01 80 a131 a44563686f 91 07 90"),
        ("headers", "96 01 82 a161 a162 a163 a164 a131 a44563686f 91 07 90"),
        ("long forms", "dc0006 01 de0000 da000131 d90445 63686f dd00000001 d300000000000000 07 dc0000"),
        ("an empty invocation id is none", "96 01 80 a0 a44e6f7065 90 90"),
        ("a ping with more in it", "92 06 a178"),
        ("nil headers are a map's length of none", "96 01 c0 a131 a44563686f 91 07 90"),
    ];
    let mut scripts: Vec<Script> = bodies
        .iter()
        .map(|(name, body)| {
            Script::new(format!("messagepack: {name}"), Protocol::MessagePack, vec![framed(&unhex(body))])
        })
        .collect();
    let padded = [&[0x82, 0x80, 0x80, 0x00][..], &unhex("9106")].concat();
    scripts.push(Script::new("messagepack: a length with zeros behind it", Protocol::MessagePack, vec![padded]));
    let unknown = vec![framed(&unhex("92 2a a178")), encode(Protocol::MessagePack, &call("1", "Echo", json!([1])))];
    scripts.push(Script::new("messagepack: an unknown type", Protocol::MessagePack, unknown));
    scripts
}

/// 4.4, what ends the connection.
fn messagepack_fatal() -> Vec<Script> {
    let bodies = [
        ("no item", "90"),
        ("type a string", "91 a131"),
        ("type nil", "91 c0"),
        ("type beyond 32 bits", "91 cf0000000100000001"),
        ("type a float", "91 cb3ff0000000000000"),
        ("headers a string", "96 01 a178 a131 a44563686f 91 07 90"),
        ("headers missing", "91 01"),
        ("header key a number", "96 01 81 01 a162 a131 a44563686f 91 07 90"),
        ("header value a number", "96 01 81 a161 01 a131 a44563686f 91 07 90"),
        ("second header value a number", "96 01 82 a161 a162 a163 01 a131 a44563686f 91 07 90"),
        ("header key empty", "96 01 81 a0 a162 a131 a44563686f 91 07 90"),
        ("header value empty", "96 01 81 a161 a0 a131 a44563686f 91 07 90"),
        ("header value nil", "96 01 81 a161 c0 a131 a44563686f 91 07 90"),
        ("invocation id a number", "96 01 80 01 a44563686f 91 07 90"),
        ("invocation id missing", "92 01 80"),
        ("target a number", "96 01 80 a131 01 91 07 90"),
        ("target missing", "93 01 80 a131"),
        ("target empty", "96 01 80 a131 a0 91 07 90"),
        ("target nil", "96 01 80 a131 c0 91 07 90"),
        ("target empty in a stream", "96 04 80 a131 a0 91 07 90"),
        ("invocation id nil in a stream", "96 04 80 c0 a7436f756e746572 92 01 00 90"),
        ("invocation id empty in a stream", "96 04 80 a0 a7436f756e746572 92 01 00 90"),
        ("invocation id nil in an item", "94 02 80 c0 01"),
        ("invocation id empty in an item", "94 02 80 a0 01"),
        ("invocation id nil in a completion", "94 03 80 c0 02"),
        ("invocation id nil in a cancellation", "93 05 80 c0"),
        ("invocation id a number in a cancellation", "93 05 80 07"),
        ("result kind a string", "94 03 80 a131 a132"),
        ("result kind missing", "93 03 80 a131"),
        ("result kind 0", "94 03 80 a131 00"),
        ("result kind 4", "95 03 80 a131 04 c0"),
        ("error a number", "95 03 80 a131 01 07"),
        ("stream ids a string", "96 01 80 a131 a353756d 90 a161"),
        ("stream ids nil", "96 01 80 a131 a353756d 90 c0"),
        ("a stream id empty", "96 01 80 a131 a353756d 90 91 a0"),
        ("a stream id nil", "96 01 80 a131 a353756d 90 91 c0"),
        ("a stream id a number", "96 01 80 a131 a353756d 90 91 01"),
        ("error of a close a number", "93 07 01 c2"),
        ("allowReconnect a number", "93 07 c0 01"),
        ("sequence id a string", "92 08 a131"),
        ("sequence id missing", "91 09"),
        ("sequence id beyond 63 bits", "92 08 cfffffffffffffffff"),
        ("a map", "80"),
        ("a number", "07"),
        ("a string", "a161"),
        ("nil", "c0"),
        ("the byte that is never used", "c1"),
        ("an array cut off", "96 01"),
        ("text cut off", "96 01 80 a131 a445"),
    ];
    let mut scripts: Vec<Script> = bodies
        .iter()
        .map(|(name, body)| {
            let messages = vec![framed(&unhex(body))];
            Script::new(format!("messagepack, fatal: {name}"), Protocol::MessagePack, messages).dies()
        })
        .collect();
    for (name, bytes) in [
        ("a body of no bytes", "00"),
        ("a length over 2 GB", "ffffffff08"),
        ("a length of six bytes", "ffffffffff01"),
        ("a length of 2 GB", "ffffffff07"),
        ("a length of 100 MB", "80c2d72f 96"),
    ] {
        let name = format!("messagepack, fatal: {name}");
        let message = [unhex(bytes), vec![0x90; 40_000]].concat();
        let message = if name.contains("no bytes") { unhex(bytes) } else { message };
        scripts.push(Script::new(name, Protocol::MessagePack, vec![message]).dies());
    }
    scripts
}

/// 3.3, around the exact limit of each hub.
fn sizes() -> Vec<Script> {
    let mut scripts = Vec::new();
    for (hub, limit) in [("/conformance-small", 4096), ("/conformance", 32_768)] {
        for (what, size, dies) in [("of the limit", limit, false), ("one over the limit", limit + 1, true)] {
            let envelope = r#"{"type":1,"invocationId":"1","target":"Echo","arguments":[""]}"#.len() + 1;
            let text = call("1", "Echo", json!(["x".repeat(size - envelope)]));
            let message = record(&in_order(&text));
            assert_eq!(message.len(), size);
            let script = Script::new(format!("size: json {what} at {hub}"), Protocol::Json, vec![message]).at(hub);
            scripts.push(if dies { script.dies() } else { script.awaiting(1) });

            let message = messagepack_of(size);
            let name = format!("size: messagepack {what} at {hub}");
            let script = Script::new(name, Protocol::MessagePack, vec![message]).at(hub);
            scripts.push(if dies { script.dies() } else { script.awaiting(1) });

            let padding = " ".repeat(size - r#"{"protocol":"json","version":1}"#.len() - 1);
            let text = format!(r#"{padding}{{"protocol":"json","version":1}}"#);
            let script = Script::json(format!("size: handshake {what} at {hub}"), &[&text]).unshaken().at(hub);
            scripts.push(if dies { script.dies() } else { script.awaiting(2) });
        }
        let unfinished = "x".repeat(limit + 1).into_bytes();
        let name = format!("size: json without an end at {hub}");
        scripts.push(Script::new(name, Protocol::Json, vec![unfinished.clone()]).at(hub).dies());
        let name = format!("size: handshake without an end at {hub}");
        scripts.push(Script::new(name, Protocol::Json, vec![unfinished]).unshaken().at(hub).dies());
        // Many small messages in one frame larger than the limit.
        for protocol in PROTOCOLS {
            let one = encode(protocol, &send("Echo", json!(["x".repeat(200)])));
            let frame = one.repeat(limit * 2 / one.len());
            let name = format!("size: many small ones in a frame at {hub} ({})", protocol.name());
            scripts.push(Script::new(name, protocol, vec![frame]).at(hub));
            let after = call("1", "Echo", json!([1]));
            let messages = [messagepack_or_json_of(protocol, limit), encode(protocol, &after)].concat();
            let name = format!("size: one of the limit and another in a frame at {hub} ({})", protocol.name());
            scripts.push(Script::new(name, protocol, vec![messages]).at(hub).awaiting(2).unordered());
        }
    }
    scripts
}

/// An echo call of exactly this many bytes, prefix included.
fn messagepack_of(size: usize) -> Vec<u8> {
    let mut length = size - 20;
    loop {
        let message = invocation_mp(1, "1", "Echo", vec![Mp::str(&"x".repeat(length))], &[]);
        match message.len().cmp(&size) {
            std::cmp::Ordering::Equal => return message,
            std::cmp::Ordering::Greater => length -= 1,
            std::cmp::Ordering::Less => length += 1,
        }
    }
}

fn messagepack_or_json_of(protocol: Protocol, size: usize) -> Vec<u8> {
    match protocol {
        Protocol::MessagePack => messagepack_of(size),
        Protocol::Json => {
            let envelope = in_order(&call("1", "Echo", json!([""]))).len() + 1;
            record(&in_order(&call("1", "Echo", json!(["x".repeat(size - envelope)]))))
        }
    }
}

fn framing() -> Vec<Script> {
    let mut scripts = Vec::new();
    for protocol in PROTOCOLS {
        let messages: Vec<Vec<u8>> =
            (0..5).map(|n| encode(protocol, &call(&n.to_string(), "Echo", json!([n])))).collect();
        let name = |what: &str| format!("framing: {what} ({})", protocol.name());
        let opcode = protocol.frame([]).opcode;
        scripts.push(Script::new(name("five messages in a frame"), protocol, vec![messages.concat()]));
        scripts.push(Script::new(name("two and a half, the rest later"), protocol, halves(&messages.concat())));
        let bytes = messages.concat();
        let single: Vec<Vec<u8>> = bytes.chunks(1).map(<[u8]>::to_vec).collect();
        scripts.push(Script::new(name("a frame for each byte"), protocol, single));
        let empty = vec![vec![], messages[0].clone(), vec![], vec![], messages[1].clone(), vec![]];
        scripts.push(Script::new(name("empty frames between"), protocol, empty));
        if protocol == Protocol::Json {
            let other = Frame::binary(messages[0].clone());
            let script = Script::new(name("the other kind of frame"), protocol, vec![]);
            scripts.push(script.then(Step::Wire(other.encode())));
        }
        let mut wire = Frame::new(opcode, &messages[0][..3]).unfinished().encode();
        wire.extend(Frame::new(PING, *b"between").encode());
        wire.extend(Frame::new(CONTINUATION, []).unfinished().encode());
        wire.extend(Frame::new(CONTINUATION, &messages[0][3..7]).unfinished().encode());
        wire.extend(Frame::new(CONTINUATION, &messages[0][7..]).encode());
        let script = Script::new(name("fragments with a ping between"), protocol, vec![]);
        scripts.push(script.then(Step::Wire(wire.clone())));
        let script = Script::new(name("fragments, a byte at a time"), protocol, vec![]);
        scripts.push(wire.chunks(1).fold(script, |script, byte| script.then(Step::Wire(byte.to_vec()))));
        let long = invocation_or_json(protocol, &"ä".repeat(10_000));
        scripts.push(Script::new(name("a message of 20 KB over many frames"), protocol, chunks(&long, 777)));
    }
    scripts
}

fn halves(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    vec![first.to_vec(), second.to_vec()]
}

fn chunks(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

/// An echo whose text is so placed that no chunk of an odd size ends inside a character of a text frame.
fn invocation_or_json(protocol: Protocol, text: &str) -> Vec<u8> {
    match protocol {
        Protocol::MessagePack => encode(protocol, &call("1", "Echo", json!([text]))),
        Protocol::Json => encode(protocol, &call("1", "Echo", json!(["x".repeat(text.len())]))),
    }
}

fn closing() -> Vec<Script> {
    let mut scripts = Vec::new();
    let closes = [
        ("Close", json!({"type": 7})),
        ("Close with an error", json!({"type": 7, "error": "leaving"})),
        ("Close with an empty error", json!({"type": 7, "error": ""})),
        ("Close with allowReconnect", json!({"type": 7, "allowReconnect": true})),
        ("Close with both", json!({"type": 7, "error": "x", "allowReconnect": true})),
    ];
    for (name, close) in closes {
        scripts.extend(Script::both(&format!("closing: {name}"), &[close]).map(Script::dies));
    }
    for (name, body) in
        [("error only", "92 07 a178"), ("of three items", "93 07 c0 c3"), ("of four items", "94 07 c0 c2 a178")]
    {
        let name = format!("closing: Close, {name} (messagepack)");
        scripts.push(Script::new(name, Protocol::MessagePack, vec![framed(&unhex(body))]).dies());
    }
    let behind = [json!({"type": 7}), call("1", "Echo", json!([1]))];
    scripts.extend(Script::both("closing: a call behind Close", &behind).map(Script::dies));
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4000, 4999] {
        let close = Frame::close(code, "bye").encode();
        scripts.push(Script::json(format!("closing: close frame {code}"), &[]).dies().then(Step::Wire(close)));
    }
    let empty = Frame::new(crate::support::ws::CLOSE, []).encode();
    scripts.push(Script::json("closing: close frame without a code", &[]).dies().then(Step::Wire(empty)));
    let early = Frame::close(1000, "").encode();
    let script = Script::json("closing: close frame behind a call", &[&in_order(&call("1", "Echo", json!([1])))]);
    scripts.push(script.awaiting(1).dies().then(Step::Wire(early)));
    // A length prefix and nothing behind it, then the close frame.
    let partial = vec![varint(50)];
    let script = Script::new("closing: in the middle of a message", Protocol::MessagePack, partial);
    scripts.push(Script { end: End::Server, ..script }.then(Step::Wire(Frame::close(1000, "").encode())));
    scripts
}

/// Requests that are answered over HTTP. `$TOKEN` becomes the token of a live WebSocket connection.
pub(crate) fn requests() -> Vec<(String, String)> {
    let plain = |line: &str| format!("{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let post =
        |path: &str| format!("POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let mut requests: Vec<(String, String)> = Vec::new();
    for query in [
        "",
        "?",
        "?negotiateVersion=0",
        "?negotiateVersion=1",
        "?negotiateVersion=2",
        "?negotiateVersion=99",
        "?negotiateVersion=-1",
        "?negotiateVersion=x",
        "?negotiateVersion=1.0",
        "?negotiateVersion=",
        "?negotiateVersion=%31",
        "?NEGOTIATEVERSION=1",
        "?negotiateVersion=99999999999",
        "?negotiateVersion=+1",
        "?negotiateVersion=1&negotiateVersion=1",
        "?negotiateVersion=1&useStatefulReconnect=true",
        "?negotiateVersion=1&useStatefulReconnect=TRUE",
        "?negotiateVersion=1&useStatefulReconnect=false",
        "?negotiateVersion=1&useStatefulReconnect=1",
        "?negotiateVersion=1&id=old&access_token=",
    ] {
        let path = format!("/conformance/negotiate{query}");
        requests.push((format!("POST {path}"), post(&path)));
    }
    for path in ["/conformance/negotiate/", "/conformance/negotiate/?negotiateVersion=1", "/nowhere/negotiate"] {
        requests.push((format!("POST {path}"), post(path)));
    }
    let body = "POST /conformance/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
                Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
    requests.push(("POST negotiate with a body".to_owned(), body.to_owned()));
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let line = format!("{method} /conformance/negotiate?negotiateVersion=1");
        requests.push((line.clone(), plain(&line)));
    }
    for method in ["PUT", "OPTIONS", "PATCH", "DELETE"] {
        for path in ["/conformance", "/conformance?id=nobody"] {
            let line = format!("{method} {path}");
            requests.push((line.clone(), plain(&line)));
        }
    }
    for path in
        ["/conformance", "/conformance?id=", "/conformance?id=nobody", "/conformance/", "/conformance/?id=nobody"]
    {
        requests.push((format!("GET {path}"), plain(&format!("GET {path}"))));
    }
    for path in [
        "/conformance?id=nobody",
        "/conformance?id=$TOKEN",
        "/conformance?id=$TOKEN&id=$TOKEN",
        "/conformance?ID=nobody",
    ] {
        requests.push((format!("upgrade {path}"), upgrade_request(path)));
    }
    for (name, line) in [
        ("POST for a WebSocket", post("/conformance?id=$TOKEN")),
        ("DELETE for a WebSocket", plain("DELETE /conformance?id=$TOKEN")),
        ("GET for a WebSocket", plain("GET /conformance?id=$TOKEN")),
        ("POST without an id", post("/conformance")),
        ("POST for nobody", post("/conformance?id=nobody")),
    ] {
        requests.push((name.to_owned(), line));
    }
    let offer = upgrade_request_with("/conformance", "Connection: Upgrade\r\nUpgrade: websocket\r\n");
    requests.push(("upgrade of version 12".to_owned(), offer.replace("Version: 13", "Version: 12")));
    requests.push(("upgrade without a key".to_owned(), without(&offer, "Sec-WebSocket-Key")));
    requests.push(("upgrade without a version".to_owned(), without(&offer, "Sec-WebSocket-Version")));
    requests.push(("upgrade without Connection".to_owned(), without(&offer, "Connection")));
    requests.push(("upgrade without Upgrade".to_owned(), without(&offer, "Upgrade:")));
    requests.push(("upgrade with a short key".to_owned(), offer.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=")));
    requests
}

fn without(request: &str, header: &str) -> String {
    request.split_inclusive("\r\n").filter(|line| !line.starts_with(header)).collect()
}

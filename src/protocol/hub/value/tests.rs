use super::*;
use crate::protocol::hub::{EncodeArguments, RawValue};
use std::collections::{BTreeMap, HashMap};

/// What came in one encoding and goes out in another.
fn pass(from: Protocol, bytes: &[u8], to: Protocol) -> Result<Vec<u8>, String> {
    let value: Value = RawValue { protocol: from, bytes }.decode().map_err(|error| error.0.into_owned())?;
    let mut out = Vec::new();
    (value,).encode(to, &mut out).map_err(|error| error.to_string())?;
    // Without the array around it.
    Ok(match to {
        Protocol::Json => out[1..out.len() - 1].to_vec(),
        Protocol::MessagePack | Protocol::BlazorPack => out[1..].to_vec(),
    })
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn json_comes_back_letter_by_letter() {
    for json in [
        "9007199254740993",
        "-9223372036854775808",
        "18446744073709551615",
        "1.0",
        "1e999",
        "-0",
        "123456789012345678901234567890",
        r#""\u00e9\/""#,
        r#"{"b":1,"a":[ 2 ],"b":null}"#,
    ] {
        let out = pass(Protocol::Json, json.as_bytes(), Protocol::Json);
        assert_eq!(out.as_deref().map(String::from_utf8_lossy), Ok(json.into()));
    }
}

#[test]
fn messagepack_comes_back_as_it_was() {
    for bytes in [
        "c0",
        "c2",
        "c3",
        "7f",
        "ff",
        "cf0020000000000001",
        "d38000000000000000",
        "cfffffffffffffffff",
        "ca42280000",
        "ca7fc00000",
        "cb7ff0000000000000",
        "c403010203",
        "a3e29883",
        "d6ff5af0fa00",
        "d7ff000000005af0fa00",
        "d7ff773594005af0fa00",
        "c70cff1dcd6500ffffffffffffffff",
        "d40507",
        "c7032a010203",
        "8201a161cd0100a162",
        "829101c0c2a162",
        "92919081a161c40100",
    ] {
        let out = pass(Protocol::MessagePack, &hex(bytes), Protocol::MessagePack);
        assert_eq!(out.unwrap(), hex(bytes), "{bytes}");
    }
    // A longer form than needed comes back in the shortest.
    assert_eq!(pass(Protocol::MessagePack, &hex("c9000000010901"), Protocol::MessagePack), Ok(hex("d40901")));
}

#[test]
fn messagepack_becomes_json() {
    for (bytes, json) in [
        ("c0", "null"),
        ("c3", "true"),
        ("cfffffffffffffffff", "18446744073709551615"),
        ("d38000000000000000", "-9223372036854775808"),
        ("ca3fc00000", "1.5"),
        ("c403010203", r#""AQID""#),
        ("d6ff5af0fa00", r#""2018-05-08T01:14:40Z""#),
        ("d7ff000000005af0fa00", r#""2018-05-08T01:14:40Z""#),
        ("d7ff773594005af0fa00", r#""2018-05-08T01:14:40.5Z""#),
        ("c70cff1dcd6500ffffffffffffffff", r#""1969-12-31T23:59:59.5Z""#),
        ("8201a161cd0100a162", r#"{"1":"a","256":"b"}"#),
        ("83ffc0c2c0c40101c0", r#"{"-1":null,"false":null,"AQ==":null}"#),
        ("92a12290", r#"["\"",[]]"#),
    ] {
        let out = pass(Protocol::MessagePack, &hex(bytes), Protocol::Json).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), json);
    }
    for refused in
        ["ca7fc00000", "cb7ff0000000000000", "d40507", "c701ff00", "81c0c0", "8190c0", "81cb7ff0000000000000c0"]
    {
        assert!(pass(Protocol::MessagePack, &hex(refused), Protocol::Json).is_err(), "{refused}");
    }
}

#[test]
fn json_becomes_messagepack() {
    for (json, bytes) in [
        ("null", "c0"),
        ("-1", "ff"),
        ("9007199254740993", "cf0020000000000001"),
        ("18446744073709551615", "cfffffffffffffffff"),
        ("-9223372036854775808", "d38000000000000000"),
        ("18446744073709551616", "cb43f0000000000000"),
        ("1.0", "cb3ff0000000000000"),
        (r#""\u2603""#, "a3e29883"),
        (r#""\ud83d\ude00""#, "a4f09f9880"),
        (r#"{"b":1,"a":[2],"b":null}"#, "83a16201a1619102a162c0"),
        (r#"{"$serde_json::private::Number":"12"}"#, "0c"),
        ("[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,[15]]", "dc0010000102030405060708090a0b0c0d0e910f"),
    ] {
        assert_eq!(pass(Protocol::Json, json.as_bytes(), Protocol::MessagePack), Ok(hex(bytes)), "{json}");
    }
    let long = "9".repeat(400);
    for refused in ["1e999", &long, r#""\ud800""#, r#"{"\udc00":"x\ud83d"}"#, r#""\ud83d\ud83d""#] {
        assert!(pass(Protocol::Json, refused.as_bytes(), Protocol::MessagePack).is_err(), "{refused}");
    }
}

#[test]
fn deep_nesting_is_refused_by_the_other_encoding() {
    for (levels, fits) in [(62, true), (63, false), (100, false)] {
        let json = ["[".repeat(levels), "]".repeat(levels)].concat();
        assert_eq!(pass(Protocol::Json, json.as_bytes(), Protocol::MessagePack).is_ok(), fits, "{levels}");
        let packed = [&[0x91].repeat(levels - 1)[..], &[0x90]].concat();
        assert_eq!(pass(Protocol::MessagePack, &packed, Protocol::Json).is_ok(), fits, "{levels}");
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Holder {
    one: Value,
    list: Vec<Value>,
    map: HashMap<String, Value>,
    none: Option<Value>,
    some: Option<Value>,
    pair: (Value, u8),
    bytes: Binary,
}

#[test]
fn stands_wherever_a_type_can() {
    let json = r#"{"one":1e999,"list":[1.0,null,"x"],"map":{"k":[]},"none":null,"some":18446744073709551616,"pair":[{},7],"bytes":"AQID"}"#;
    let holder: Holder = serde_json::from_str(json).unwrap();
    assert!(holder.none.is_none() && holder.list[1].is_null());
    assert_eq!(holder.bytes, Binary(vec![1, 2, 3]));
    assert_eq!(serde_json::to_string(&holder).unwrap(), json);

    let packed = Value::of(&Holder { one: Value::from(1), some: Some(Value::from(2)), ..holder }).unwrap();
    let holder: Holder = packed.deserialize_into().unwrap();
    assert!(holder.none.is_none() && holder.list[1].is_null());
    assert_eq!(holder.bytes, Binary(vec![1, 2, 3]));
    assert_eq!(Value::of(&holder).unwrap(), packed);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    id: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(u32),
    Other(Value),
}

/// Serde buffers these in a form of its own, where serde_json's raw text is not to be had.
#[test]
fn stands_in_flattened_and_untagged_types() {
    let json = r#"{"id":1,"a":{"b":[null,-1]},"c":"x"}"#;
    let open: Open = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&open).unwrap(), json);
    assert_eq!(Value::of(&open).unwrap().deserialize_into::<Open>().unwrap(), open);
    let other: Either = serde_json::from_str(r#"["x"]"#).unwrap();
    assert_eq!(serde_json::to_string(&other).unwrap(), r#"["x"]"#);
    let value: Value = serde_json::from_value(serde_json::json!({"a": [1]})).unwrap();
    assert_eq!(serde_json::to_value(&value).unwrap(), serde_json::json!({"a": [1]}));
}

/// If this fails, serde_json has changed the name that `RAW_JSON` repeats.
#[test]
fn json_arrives_as_its_text() {
    let value: Value = serde_json::from_str(" [1e999] ").unwrap();
    assert!(matches!(value.0, Repr::Json(text) if text.get() == "[1e999]"));
}

#[test]
fn equality_is_of_structure() {
    let json = |text| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(json(r#"{"a": [1, "\u0078"]}"#), Value::of(&BTreeMap::from([("a", (1, "x"))])).unwrap());
    assert_eq!(json("1e999"), json("1e999"));
    assert_ne!(json("1e999"), json("2e999"));
    assert_ne!(json("1"), json("1.0"));
    assert_eq!(json("null"), Value::default());
}

#[test]
fn text_is_seen_without_decoding() {
    for (json, text) in
        [(r#""abc""#, Some("abc")), (r#""a\n""#, Some("a\n")), ("7", None), ("[\"\"]", None), (r#""""#, Some(""))]
    {
        let value: Value = serde_json::from_str(json).unwrap();
        assert_eq!(value.as_str().as_deref(), text);
        assert_eq!(Value::of(&value).unwrap().as_str().as_deref(), text);
    }
}

#[test]
fn debug_never_shows_content() {
    let shown = format!("{:?} {:?}", Value::from("secret"), Binary(b"secret".to_vec()));
    assert_eq!(shown, r#"Value { protocol: "messagepack", len: 7 } Binary { len: 6 }"#);
}

#[test]
fn binary_reads_both_forms_in_either_encoding() {
    let packed = |bytes: &[u8]| Value(Repr::MessagePack(Cow::Owned(bytes.to_vec()))).deserialize_into::<Binary>();
    assert_eq!(packed(&[0xc4, 2, 1, 2]).unwrap(), Binary(vec![1, 2]));
    assert_eq!(packed(&hex("a441513d3d")).unwrap_or_default(), Binary(vec![1]));
    assert_eq!(serde_json::from_str::<Binary>(r#""AQI=""#).unwrap(), Binary(vec![1, 2]));
    assert!(serde_json::from_str::<Binary>(r#""A?""#).is_err());
    assert!(serde_json::from_str::<Binary>("[1,2]").is_err());
    assert_eq!(Value::from(Binary(vec![1, 2])), Value::of(&Binary(vec![1, 2])).unwrap());
}

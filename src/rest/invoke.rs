use super::errors::{Refusal, empty, json_body, no_connection, with_body};
use super::operations::{Answer, Context};
use super::payload::{Framed, Kind, Payload, not_json, pairs};
use crate::backplane::{self, Audience, Encoded, Page, Whom};
use crate::lifetime::Outgoing;
use crate::protocol::Value;
use crate::protocol::hub::{EncodeError, Frame, Protocol, RawValue};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};

/// Calls a method of one client and gives what it answers.
pub(super) async fn invoke(context: &Context<'_>, body: Body) -> Answer {
    let (_place, body) = context.rest.place(body).await?;
    let read = |body: &[u8]| Payload::read(context.asked, body)?.into_call();
    let call = context.rest.read(context.asked, body, read).await?;
    let connection = context.piece("connection");
    let hub = context.hub.as_ref().ok_or_else(|| no_connection(connection))?;
    let id = hub.question_id();
    let (reached, question) = hub.ask(connection, &id, &Outgoing::question(&id, &call.target, &call.arguments))?;
    // it is queued; what waits for a long time is not to hold it
    drop(call);
    let answered = async {
        reached.wait().await?;
        Ok::<_, Refusal>(question.answer().await)
    };
    // a question that is dropped is forgotten, so a late answer is nobody's
    let answer = tokio::time::timeout(context.rest.options.invoke_timeout, answered).await.map_err(|_| {
        let message = format!("Connection `{connection}` has not answered in time.");
        Refusal::of(StatusCode::GATEWAY_TIMEOUT, super::errors::UNKNOWN, message)
    })??;
    if answer == backplane::Answer::Disconnected {
        return Err(no_connection(connection));
    }
    if !wants_binary(context) {
        return as_json(answer);
    }
    let spoken = hub.connections(Whom::Connection(connection.to_owned()), Page::ALL).wait().await?;
    let spoken = spoken.first().and_then(|found| Protocol::by_name(found.protocol.as_deref()?));
    as_completion(&id, answer, spoken)
}

fn wants_binary(context: &Context<'_>) -> bool {
    let accept = context.asked.header(header::ACCEPT).unwrap_or_default().to_ascii_lowercase();
    ["application/octet-stream", "application/x-msgpack"].iter().any(|kind| accept.contains(kind))
}

fn as_json(answer: backplane::Answer) -> Answer {
    let mut body = Vec::from("{");
    match answer {
        backplane::Answer::Result(protocol, bytes) => {
            body.extend_from_slice(b"\"result\":");
            match protocol {
                Protocol::Json => body.extend_from_slice(&bytes),
                Protocol::MessagePack | Protocol::BlazorPack => {
                    let value = RawValue { protocol, bytes: &bytes }.decode::<Value>();
                    let value = value.map_err(|_| Refusal::invalid(NO_JSON))?;
                    serde_json::to_writer(&mut body, &value).map_err(|_| Refusal::invalid(NO_JSON))?;
                }
            }
        }
        backplane::Answer::Error(text) => {
            return Err(Refusal::of(StatusCode::BAD_REQUEST, "Error.Connection.Invalid", text));
        }
        backplane::Answer::Void | backplane::Answer::Disconnected => {}
    }
    body.push(b'}');
    Ok(json_body(StatusCode::OK, body))
}

/// The completion as a client of its protocol writes it, for libraries that read it themselves.
fn as_completion(id: &str, answer: backplane::Answer, spoken: Option<Protocol>) -> Answer {
    let protocol = match &answer {
        backplane::Answer::Result(protocol, _) => *protocol,
        _ => spoken.unwrap_or(Protocol::Json),
    };
    let frame = match answer {
        backplane::Answer::Result(protocol, bytes) => {
            let value = RawValue { protocol, bytes: &bytes }.decode::<Value>();
            let value = value.map_err(|_| Refusal::invalid(NO_JSON))?;
            Frame::completion_result(protocol, id, &value).map_err(|_| Refusal::invalid(NO_JSON))?
        }
        backplane::Answer::Error(text) => Frame::completion_error(protocol, id, &text),
        backplane::Answer::Void | backplane::Answer::Disconnected => Frame::completion_void(protocol, id),
    };
    let mut response = with_body(StatusCode::OK, "application/octet-stream", frame.payload().to_vec().into());
    response.headers_mut().insert("x-protocol", HeaderValue::from_static(protocol.name()));
    Ok(response)
}

/// Sends the next item of a stream that the client has asked for.
pub(super) async fn stream_item(context: &Context<'_>, body: Body) -> Answer {
    let id = context.piece("stream");
    let completed = flag(context, "completed");
    let read = |body: &[u8]| {
        if body.trim_ascii().is_empty() {
            return Err(Refusal::invalid(super::payload::REQUIRED));
        }
        let item: Box<dyn Encoded + Send> = match Kind::of(context.asked)? {
            Kind::Json => Box::new(Item::new(id, &serde_json::from_slice(body).map_err(|e| not_json(&e))?)?),
            Kind::Binary => Box::new(Framed::read(&pairs(body).ok_or_else(|| Refusal::invalid(NO_MAP))?)?),
        };
        Ok((item, completed?))
    };
    let (item, completed) = context.rest.read(context.asked, body, read).await?;
    let Some(hub) = &context.hub else { return Ok(empty(StatusCode::ACCEPTED)) };
    let audience = Audience::Connection(context.piece("connection").to_owned());
    let sent = hub.send(&audience, &*item)?;
    drop(item);
    sent.wait().await?;
    if completed {
        let ended = hub.send(&audience, &End { id, error: None })?;
        ended.wait().await?;
    }
    Ok(empty(StatusCode::ACCEPTED))
}

/// Ends a stream, with an error if there is one in either spelling.
pub(super) async fn stream_end(context: &Context<'_>) -> Answer {
    let error = ["error", "reason"].iter().find_map(|name| context.asked.parameter(name));
    let error = error.filter(|error| !error.is_empty());
    if let Some(hub) = &context.hub {
        let audience = Audience::Connection(context.piece("connection").to_owned());
        let ended = hub.send(&audience, &End { id: context.piece("stream"), error })?;
        ended.wait().await?;
    }
    Ok(empty(StatusCode::ACCEPTED))
}

fn flag(context: &Context<'_>, name: &str) -> Result<bool, Refusal> {
    match context.asked.parameter(name).map(str::to_ascii_lowercase).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::invalid(format!("The parameter '{name}' is not true or false."))),
    }
}

/// A stream item in each encoding, made at once as calls are.
struct Item {
    frames: [Frame; Protocol::KNOWN.len()],
    id: String,
}

impl Item {
    fn new(id: &str, item: &Value) -> Result<Self, Refusal> {
        let frame = |protocol| {
            Frame::stream_item(protocol, id, item).map_err(|_| Refusal::invalid("The item cannot be carried."))
        };
        let [json, messagepack, blazor] = Protocol::KNOWN.map(frame);
        Ok(Self { frames: [json?, messagepack?, blazor?], id: id.to_owned() })
    }
}

impl Encoded for Item {
    fn frame(&self, protocol: Protocol) -> Result<Option<Frame>, EncodeError> {
        Ok(Some(self.frames[protocol as usize].clone()))
    }

    fn key(&self) -> &str {
        &self.id
    }
}

struct End<'a> {
    id: &'a str,
    error: Option<&'a str>,
}

impl Encoded for End<'_> {
    fn frame(&self, protocol: Protocol) -> Result<Option<Frame>, EncodeError> {
        Ok(Some(match self.error {
            Some(error) => Frame::completion_error(protocol, self.id, error),
            None => Frame::completion_void(protocol, self.id),
        }))
    }

    fn key(&self) -> &str {
        self.id
    }
}

const NO_JSON: &str = "The client's result has no form in JSON: ask for application/octet-stream.";
const NO_MAP: &str = "The body is not one MessagePack map of hub protocol names to framed messages.";

//! The server asks a client.

use crate::client::{Client, call, error, result, serve};
use hubwire::{Caller, ClientMethod, Clients, Hub, HubBuilder, HubResult, Value};
use serde_json::json;
use std::time::Duration;

const ANSWER: ClientMethod<(String,), u32> = ClientMethod::new("answer");

async fn ask(clients: Clients, id: String) -> HubResult<u32> {
    clients.client(id).invoke(ANSWER, ("how many?",)).await
}

async fn ask_me(clients: Clients) -> HubResult<u32> {
    clients.caller().invoke(ANSWER, ("how many?",)).await
}

async fn ask_briefly(clients: Clients) -> HubResult<u32> {
    clients.caller().invoke(ANSWER, ("quick?",)).timeout(Duration::from_millis(30)).await
}

async fn ask_until(clients: Clients) -> HubResult<u32> {
    clients.caller().invoke(ANSWER, ("still?",)).cancel_on(std::future::ready(())).await
}

fn hub() -> HubBuilder<()> {
    Hub::with_state(())
        .method("Ask", ask)
        .method("AskMe", ask_me)
        .method("AskBriefly", ask_briefly)
        .method("AskUntil", ask_until)
        .method("Id", |caller: Caller| async move { Ok(caller.id().to_owned()) })
        .method("Now", |n: u32| async move { Ok(n) })
}

fn failed(method: &str, text: &str) -> String {
    format!("An unexpected error occurred invoking '{method}' on the server.{text}")
}

#[tokio::test]
async fn a_method_asks_its_own_caller_while_others_wait() {
    let hub = hub().build();
    let mut client = Client::connect(serve(&hub).await).await;
    client.say_all(&[call("1", "AskMe", json!([])), call("2", "Now", json!([2])), call("3", "AskMe", json!([]))]).await;
    let first = client.next().await;
    assert_eq!(first, json!({"type": 1, "invocationId": "s1", "target": "answer", "arguments": ["how many?"]}));
    // its place is given to the next, and to the one behind that
    assert_eq!(client.next().await, result("2", json!(2)));
    let second = client.next().await;
    client.say(result(second["invocationId"].as_str().unwrap(), json!(30))).await;
    assert_eq!(client.next().await, result("3", json!(30)));
    client.say(result("s1", json!(10))).await;
    assert_eq!(client.next().await, result("1", json!(10)));
    // answers to nothing are ignored
    client.say(result("s1", json!(11))).await;
    assert_eq!(client.call("Now", json!([4])).await["result"], 4);
}

#[tokio::test]
async fn answers_that_are_none() {
    let hub = hub().build();
    let mut client = Client::connect(serve(&hub).await).await;
    let cases = [
        (json!({"error": "no idea"}), " HubException: no idea"),
        (json!({"result": "many"}), " HubException: Error trying to deserialize result to u32. "),
        (json!({}), " HubException: Exception of type 'Microsoft.AspNetCore.SignalR.HubException' was thrown."),
    ];
    for (mut answer, expected) in cases {
        client.say(call("1", "AskMe", json!([]))).await;
        answer["type"] = json!(3);
        answer["invocationId"] = client.next().await["invocationId"].clone();
        client.say(answer).await;
        let error = client.next().await["error"].as_str().unwrap().to_owned();
        assert!(error.starts_with(&failed("AskMe", expected)), "{error}");
    }
    for method in ["AskBriefly", "AskUntil"] {
        client.say(call("1", method, json!([]))).await;
        assert_eq!(
            client.completion("1").await["error"],
            failed(method, " HubException: Invocation canceled by the server.")
        );
    }
}

#[tokio::test]
async fn one_that_is_not_there_or_leaves() {
    let hub = hub().build();
    let addr = serve(&hub).await;
    let (mut asks, mut leaves) = (Client::connect(addr).await, Client::connect(addr).await);
    assert_eq!(asks.call("Ask", json!(["nobody"])).await["error"], failed("Ask", ""));
    let id = leaves.call("Id", json!([])).await["result"].clone();
    asks.say(call("1", "Ask", json!([id]))).await;
    assert_eq!(leaves.next().await["target"], "answer");
    drop(leaves);
    assert_eq!(asks.next().await, error("1", &failed("Ask", "")));
}

#[tokio::test]
async fn nobody_answers_for_another() {
    let hub = hub().build();
    let addr = serve(&hub).await;
    let (mut asks, mut asked, mut third) =
        (Client::connect(addr).await, Client::connect(addr).await, Client::connect(addr).await);
    let id = asked.call("Id", json!([])).await["result"].clone();
    asks.say(call("1", "Ask", json!([id]))).await;
    let question = asked.next().await["invocationId"].clone();
    third.say(result(question.as_str().unwrap(), json!(0))).await;
    assert_eq!(
        third.next().await,
        json!({"type": 7, "error": "Connection closed with an error.", "allowReconnect": true})
    );
    asked.say(result(question.as_str().unwrap(), json!(5))).await;
    assert_eq!(asks.next().await, result("1", json!(5)));
}

#[tokio::test]
async fn code_outside_of_calls_asks_too() {
    let hub = hub().build();
    let mut client = Client::connect(serve(&hub).await).await;
    let id = client.call("Id", json!([])).await["result"].as_str().unwrap().to_owned();
    let context = hub.context();
    let answer = tokio::spawn(async move { context.client(id).invoke::<Value, _>("anything", ()).await });
    let question = client.next().await;
    client.say(result(question["invocationId"].as_str().unwrap(), json!({"a": 1}))).await;
    assert_eq!(serde_json::to_value(answer.await.unwrap().unwrap()).unwrap(), json!({"a": 1}));
}

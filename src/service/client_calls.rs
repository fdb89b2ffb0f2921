use super::SendRefused;
use super::operations::Operations;
use super::relayed::Relayed;
use crate::backplane::{Audience, Page, Whom};
use crate::protocol::service::message::ClientResult;
use crate::protocol::service::{Ext, Message, Payloads};

/// Questions of servers to clients: spec section 13.
///
/// A library of version 1.34.0 sends a question first and gets ready for the answer then: an answer that is quicker, from a client on the same
/// machine while the server has just started, it calls unexpected, and the call never ends. Nothing here could tell when it is ready.
impl Operations {
    /// A server asks a client, which another server may carry.
    pub(super) async fn ask_client(&self, result: &ClientResult<'_>, payloads: &Payloads<'_>) {
        if let Err(text) = self.try_to_ask(result, payloads).await {
            // with several endpoints the server asks at all of them, and waits for each to say no
            self.link.send(&Message::ErrorCompletion { result: *result, error: &text, ext: Ext::default() });
        }
    }

    async fn try_to_ask(&self, result: &ClientResult<'_>, payloads: &Payloads<'_>) -> Result<(), String> {
        let ClientResult { invocation_id, connection_id, caller_server_id } = *result;
        let missing = || format!("Connection '{connection_id}' does not exist.");
        let whom = Whom::Connection(connection_id.to_owned());
        let found = self.hub.lifetime.connections(whom, Page::ALL).wait().await;
        let found = found.ok().and_then(|mut found| found.pop()).ok_or_else(missing)?;
        let protocol = found.protocol.unwrap_or_default();
        if Relayed(payloads).payload(&protocol).is_none() {
            return Err(format!("The invocation is not encoded for protocol '{protocol}'."));
        }
        let (carrier, client) = self.hub.servers.client(connection_id).ok_or_else(missing)?;
        let most = self.service().0.options.max_client_results;
        let put = self.hub.results.put(invocation_id, *client.id(), &self.link, &carrier, most);
        put.map_err(|not_put| not_put.to_string())?;
        if carrier.server_id() != self.link.server_id() {
            // before the client can answer: the other server has to know what the answer is for
            let told = carrier.offer(&Message::ClientInvocation {
                result: ClientResult { invocation_id, connection_id, caller_server_id },
                payloads: Vec::new(),
                ext: Ext::default(),
            });
            if told.is_err() {
                self.hub.results.withdraw(invocation_id);
                return Err(format!("The server of connection '{connection_id}' does not read."));
            }
            self.link.send(&Message::ServiceMapping {
                invocation_id,
                connection_id,
                instance_id: self.service().instance(),
                ext: Ext::default(),
            });
        }
        self.send(&Audience::Connection(connection_id.to_owned()), payloads, &Ext::default()).await;
        if carrier.client(connection_id).is_none() {
            // it may have left before the question was there to be forgotten
            self.hub.results.left(client.id(), &carrier);
        }
        Ok(())
    }

    /// The server of the client has its answer; or the one that asked is done with its question, and says so without a payload.
    pub(super) fn pass_result(&self, result: &ClientResult<'_>, protocol: &str, payload: &[u8]) {
        let Some((caller, connection)) = self.hub.results.answered(result.invocation_id, &self.link) else { return };
        let Some(caller) = self.hub.servers.of_server(&caller) else { return };
        let result = ClientResult { connection_id: connection.as_str(), ..*result };
        let ext = Ext::of_protocol(protocol);
        let told = caller.offer(&Message::ClientCompletion { result, protocol, payload, ext });
        if told == Err(SendRefused::Full) {
            let error = "The answer was lost: too much waits for the server that asked to read it.";
            caller.send(&Message::ErrorCompletion { result, error, ext: Ext::default() });
        }
    }

    pub(super) fn pass_error(&self, result: &ClientResult<'_>, error: &str) {
        let Some((caller, connection)) = self.hub.results.answered(result.invocation_id, &self.link) else { return };
        let Some(caller) = self.hub.servers.of_server(&caller) else { return };
        let result = ClientResult { connection_id: connection.as_str(), ..*result };
        let told = caller.offer(&Message::ErrorCompletion { result, error, ext: Ext::default() });
        if told == Err(SendRefused::Full) {
            let error =
                "The client's answer is an error, which was lost: too much waits for the server that asked to read it.";
            caller.send(&Message::ErrorCompletion { result, error, ext: Ext::default() });
        }
    }
}

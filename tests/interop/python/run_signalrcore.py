"""python run_signalrcore.py URL [--transports …] [--without TEXT,TEXT] [--only TEXT] [--reference]

The cases of the conformance hub that `signalrcore` can do, over each of its transports.
"""

import contextlib
import logging
import os
import queue
import sys
import threading
import time
import uuid
from socket import SHUT_RDWR

from signalrcore.hub.handlers import StreamHandler
from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.messages.stream_invocation_message import StreamInvocationMessage
from signalrcore.subject import Subject
from signalrcore.types import HttpTransportType, HubProtocolEncoding

from harness import ERRORS, VALUES, Cannot, Tally, equal, eventually, options, token, types, unexpected

CHOSEN = options()
PATIENCE = 10


class Lane:
    def __init__(self, transport: str, protocol: str, skip_negotiation: bool = False):
        self.transport, self.protocol, self.skip_negotiation = transport, protocol, skip_negotiation
        self.name = f"{transport}/{protocol}" + (" without negotiation" if skip_negotiation else "")

    def peer(self, path: str = "/conformance", **more) -> "Peer":
        return Peer(self, path, **more)


LANES = [
    Lane("WebSockets", "json"),
    Lane("WebSockets", "json", skip_negotiation=True),
    Lane("WebSockets", "messagepack"),
    Lane("ServerSentEvents", "json"),
    Lane("LongPolling", "json"),
]


class Peer:
    """One connection, started when the block is entered; the client calls back from threads of its own."""

    def __init__(self, lane: Lane, path: str, user: str | None = None, reconnect: dict | None = None):
        self.lane = lane
        self.welcomes, self.messages, self.closed, self.reconnected = (queue.Queue() for _ in range(4))
        self.errors: dict[str, queue.Queue] = {}
        more = {"access_token_factory": lambda: token(CHOSEN.url, user, "boss")} if user else {}
        builder = HubConnectionBuilder().with_url(
            CHOSEN.url + path,
            options={"transport": HttpTransportType(lane.transport), "skip_negotiation": lane.skip_negotiation, **more},
        )
        encoding = HubProtocolEncoding.binary if lane.protocol == "messagepack" else HubProtocolEncoding.text
        builder = builder.with_hub_protocol(encoding).configure_logging(logging.CRITICAL)
        if reconnect:
            builder = builder.with_automatic_reconnect(reconnect)
        self.hub = builder.build()
        self.hub.on("welcome", lambda arguments: self.welcomes.put(arguments[0]))
        self.hub.on("message", self.messages.put)
        self.hub.on_error(self._failed)
        self.hub.on_close(lambda: self.closed.put(True))
        self.hub.on_reconnect(lambda: self.reconnected.put(True))

    def __enter__(self):
        self.hub.start()
        eventually(self.hub.transport.is_connected, "the connection starts")
        self.id = self._take(self.welcomes)
        return self

    def __exit__(self, *_):
        # `stop` closes the socket under a thread that reads from it and joins that thread, which on Linux goes on reading
        # until the server sends something: a ping, up to 15 s later. Shutting the connection down wakes it.
        socket = getattr(self.hub.transport._client, "sock", None)
        again = socket.dup() if socket is not None and socket.fileno() >= 0 else None
        stopping = threading.Thread(target=self.hub.stop, daemon=True)
        stopping.start()
        if again is not None:
            stopping.join(0.05)
            with contextlib.suppress(OSError), again:
                again.shutdown(SHUT_RDWR)
        stopping.join(PATIENCE)
        assert not stopping.is_alive(), "stop hangs"

    def _failed(self, completion) -> None:
        waiting = self.errors.get(completion.invocation_id)
        if waiting is not None:
            waiting.put((None, completion.error))

    def _take(self, inbox: queue.Queue):
        """Waits for the next entry. Over long polling this client handles one message a poll and keeps the rest until
        another poll brings something, so calls without effect push them out."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                return inbox.get(timeout=0.03)
            except queue.Empty:
                if self.lane.transport == "LongPolling" and not self.closed.qsize():
                    self.hub.send("Nothing", [])
        raise AssertionError("nothing came")

    def completion(self, method: str, *arguments):
        """The result and the error of a call."""
        invocation_id = str(uuid.uuid4())
        done = self.errors[invocation_id] = queue.Queue()
        # The id is given, so that an error, which comes to no call's own handler, can be told apart.
        self.hub.invoke(method, list(arguments), lambda message: done.put((message.result, None)), invocation_id)
        return self._take(done)

    def invoke(self, method: str, *arguments):
        result, error = self.completion(method, *arguments)
        if error is not None:
            raise AssertionError(f"{method}{arguments}: {error}")
        return result

    def stream(self, method: str, *arguments):
        """The items and the error of a stream. The client's own `stream` sends before anyone can subscribe and so loses the
        first items where sending takes a request; this does the same in the other order."""
        items, invocation_id = [], str(uuid.uuid4())
        done = self.errors[invocation_id] = queue.Queue()
        handler = StreamHandler(method, invocation_id)
        handler.subscribe({"next": items.append, "complete": lambda _: done.put((None, None)), "error": lambda _: None})
        self.hub.stream_handlers[invocation_id].append(handler)
        self.hub.transport.send(StreamInvocationMessage(invocation_id, method, list(arguments), headers=self.hub.headers))
        _, error = self._take(done)
        return items, error

    def message_from(self, id: str):
        """The next message from that connection; broadcasts of others pass by."""
        while True:
            sender, x = self._take(self.messages)
            if sender == id:
                return x


def departed(watcher: Peer, id: str):
    return eventually(lambda: watcher.invoke("Departed", id), "the departure is recorded")


def delivered(crowd, sender, expected, method, *arguments):
    """Has `sender` call the send and asserts, by a fence behind it, that exactly `expected` got it."""
    tag = f"{method} {uuid.uuid4()}"
    sender.invoke(method, *arguments, tag)
    for number, peer in enumerate(crowd):
        sender.invoke("ToConnection", peer.id, "fence " + tag)
        copies = 0
        while (x := peer.message_from(sender.id)) != "fence " + tag:
            copies += x == tag
        equal(copies, sum(one is peer for one in expected), f"copies of {method}{arguments} for peer {number}")


def welcome(lane):
    with lane.peer() as peer, lane.peer() as other:
        equal(len(peer.id), 22, "length of the id")
        assert peer.id != other.id
        me = peer.invoke("WhoAmI")
        equal((me["connectionId"], me["userId"], me["transport"]), (peer.id, None, lane.transport))


def echo_values(lane):
    with lane.peer() as peer:
        for value in VALUES + ([b"", b"\x00\xff", b"\x07" * 300] if lane.protocol == "messagepack" else []):
            equal(peer.invoke("Echo", value), value, "Echo")
        equal(peer.invoke("aDD", -(2**31), 2**31 - 1), -1)
        equal([peer.invoke("Nothing"), peer.invoke("Null")], [None, None])


def error_texts(lane):
    with lane.peer() as peer:
        for method, arguments, text in ERRORS:
            equal(peer.completion(method, *arguments), (None, text))
        equal(peer.invoke("Add", 1, 1), 2, "after the errors")


def typed_object(lane):
    with lane.peer() as peer:
        full = types(lane.protocol == "messagepack")
        equal(peer.invoke("Types", full), full)


def order_of_calls(lane):
    with lane.peer() as peer:
        for n in range(50):
            peer.hub.send("Order", [n])
        equal(peer.invoke("Order", 50), list(range(51)))
        equal(peer.invoke("Slow", 100), "done")


def items(lane):
    with lane.peer() as a, lane.peer() as b:
        a.invoke("SetItem", "k", {"deep": [1, "x"]})
        equal([a.invoke("GetItem", "k"), b.invoke("GetItem", "k")], [{"deep": [1, "x"]}, None])


def sends(lane):
    with lane.peer() as a, lane.peer() as b, lane.peer() as c:
        crowd = [a, b, c]
        delivered(crowd, a, [a, b, c], "ToAll")
        delivered(crowd, a, [b, c], "ToOthers")
        delivered(crowd, a, [a], "ToCaller")
        delivered(crowd, a, [b], "ToAllExcept", [a.id, c.id])
        delivered(crowd, a, [b], "ToConnection", b.id)
        delivered(crowd, b, [a, c], "ToConnections", [a.id, c.id])
        delivered(crowd, b, [], "ToUser", "nobody")


def groups(lane):
    with lane.peer() as a, lane.peer() as b, lane.peer() as c:
        crowd, red, blue = [a, b, c], f"red {a.id}", f"blue {a.id}"
        for peer, group in [(a, red), (b, red), (b, blue), (c, blue)]:
            peer.invoke("Join", group)
        delivered(crowd, c, [a, b], "ToGroup", red)
        delivered(crowd, c, [a, b, b, c], "ToGroups", [red, blue])
        delivered(crowd, c, [b], "ToGroupExcept", red, [a.id])
        delivered(crowd, a, [b], "ToOthersInGroup", red)
        b.invoke("Leave", red)
        delivered(crowd, c, [a], "ToGroup", red)


def server_stream(lane):
    with lane.peer() as peer:
        equal(peer.stream("Counter", 5, 10), ([0, 1, 2, 3, 4], None))
        equal(peer.stream("Counter", 0, 0), ([], None))
        many = 25 if lane.transport == "LongPolling" else 500
        equal(peer.stream("Counter", many, 0), (list(range(many)), None))
        failed = "An error occurred on the server while streaming results. HubException: counter failed"
        equal(peer.stream("CounterThrow", 3), ([0, 1, 2], failed))


def cancelled_stream(_lane):
    raise Cannot("this client cannot cancel a stream")


def upload_stream(lane):
    if lane.protocol == "messagepack":
        raise Cannot("this client's uploads are malformed in MessagePack")
    # Its uploads have no invocation id, so their result is told to nobody; the connection must take them all the same.
    with lane.peer() as peer, lane.peer() as watcher:
        for method in ["Sum", "UploadError"]:
            upload = Subject()
            peer.hub.invoke(method, upload)
            for n in range(50):
                upload.next(n)
            upload.complete()
        equal(peer.invoke("Add", 1, 1), 2, "after the uploads")
        equal(watcher.invoke("Departed", peer.id), None, "still there")


def client_results(lane):
    # This client gives no answer, so all that can be seen is that the server does not wait for ever.
    with lane.peer() as a, lane.peer() as b:
        b.hub.on("answer", lambda arguments: f"b: {arguments[0]}")
        result, error = a.completion("AskTimeout", b.id, 200)
        assert error.startswith(unexpected("AskTimeout")), (result, error)
    raise Cannot("this client sends no result for a call from the server")


def large_messages(lane):
    with lane.peer() as peer:
        for n in [0, 1, 125, 126, 65535, 65536, 500_000]:
            equal(peer.invoke("Large", n), "x" * n)
        equal(peer.invoke("Echo", "y" * 32_000), "y" * 32_000)


def over_the_limit(lane):
    with lane.peer() as peer, lane.peer() as watcher:
        try:
            peer.hub.send("Echo", ["z" * 40_000])
        except Exception:
            pass  # A POST may be cut off.
        assert "maximum message size" in departed(watcher, peer.id)["error"]
        if lane.transport != "LongPolling":
            peer._take(peer.closed)


def abort(lane):
    with lane.peer() as peer, lane.peer() as watcher:
        peer.hub.send("Abort", [])
        equal(departed(watcher, peer.id), {"connectionId": peer.id, "error": None})
        if lane.transport != "LongPolling":
            peer._take(peer.closed)


def departure(lane):
    with lane.peer() as watcher:
        with lane.peer() as peer:
            equal(watcher.invoke("Departed", peer.id), None)
        equal(departed(watcher, peer.id), {"connectionId": peer.id, "error": None})


def reconnect(lane):
    if lane.transport != "WebSockets":
        raise Cannot("this client reconnects over WebSockets only")
    with lane.peer(reconnect={"type": "raw", "keep_alive_interval": 10, "reconnect_interval": 1, "max_attempts": 5}) as peer:
        peer.hub.send("Echo", ["z" * 40_000])
        peer._take(peer.reconnected)
        former, peer.id = peer.id, peer._take(peer.welcomes)
        assert peer.id != former
        equal(peer.invoke("Add", 1, 1), 2, "after the reconnect")


def bearer_token(lane):
    if lane.transport == "LongPolling":
        raise Cannot("this client's polls carry no token")
    with lane.peer("/conformance-auth", user="ann") as peer:
        me = peer.invoke("WhoAmI")
        equal(me["userId"], "ann")
        assert "boss" in me["claims"].values(), me


def idle(lane):
    # Without automatic reconnect it never pings, and who never pinged is not timed out.
    with lane.peer("/conformance-small") as peer:
        time.sleep(5)
        equal(peer.invoke("Add", 1, 1), 2)


CASES = {
    "welcome names the connection": welcome,
    "echo values": echo_values,
    "error texts": error_texts,
    "typed object": typed_object,
    "order of calls": order_of_calls,
    "items belong to the connection": items,
    "sends": sends,
    "groups": groups,
    "server stream": server_stream,
    "a cancelled stream stops": cancelled_stream,
    "upload stream": upload_stream,
    "client results": client_results,
    "large messages": large_messages,
    "a message over the limit closes the connection": over_the_limit,
    "abort": abort,
    "departed after a stop": departure,
    "automatic reconnect": reconnect,
    "bearer token, user and role": bearer_token,
    "an idle connection is kept": idle,
}

tally = Tally(CHOSEN)
for lane in LANES:
    if lane.transport in CHOSEN.transports:
        for name, case in CASES.items():
            tally.run(f"{lane.name} {name}", lambda: case(lane))
if "LongPolling" in CHOSEN.transports:
    print("cannot LongPolling/messagepack: this client raises TypeError when it makes its binary poller")
status = tally.close()
sys.stdout.flush()
# Its threads are not all daemons and may wait in a poll.
os._exit(status)

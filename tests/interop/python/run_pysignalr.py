"""python run_pysignalr.py URL [--transports …] [--without TEXT,TEXT] [--only TEXT] [--reference]

The cases of the conformance hub that `pysignalr` can do: WebSockets, JSON and MessagePack.
"""

import asyncio
import sys
import uuid

from pysignalr.client import SignalRClient
from pysignalr.exceptions import ServerError
from pysignalr.protocol.json import JSONProtocol
from pysignalr.protocol.messagepack import MessagepackProtocol

from harness import ERRORS, VALUES, Cannot, Tally, equal, options, token, types, unexpected

CHOSEN = options()
PROTOCOLS = {"json": JSONProtocol, "messagepack": MessagepackProtocol}
PATIENCE = 10


class Peer:
    """One connection; its client runs in a task of its own until `stop`."""

    def __init__(self, protocol: str, path: str = "/conformance", **more):
        self.client = SignalRClient(CHOSEN.url + path, protocol=PROTOCOLS[protocol](), max_size=None, **more)
        self.welcomes: asyncio.Queue = asyncio.Queue()
        self.messages: asyncio.Queue = asyncio.Queue()
        self.client.on("welcome", lambda arguments: self.welcomes.put(arguments[0]))
        self.client.on("message", lambda arguments: self.messages.put(arguments))
        self.client.on_error(self._ignore)

    async def _ignore(self, _completion) -> None:
        """Errors also come to each call's own handler."""

    async def __aenter__(self):
        self.task = asyncio.create_task(self.client.run())
        self.id = await within(self.welcomes.get())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def completion(self, method: str, *arguments):
        done = asyncio.get_running_loop().create_future()

        async def complete(message):
            done.set_result(message)

        await self.client.send(method, list(arguments), complete)
        return await within(done)

    async def invoke(self, method: str, *arguments):
        completion = await self.completion(method, *arguments)
        if completion.error is not None:
            raise AssertionError(f"{method}{arguments}: {completion.error}")
        return completion.result

    async def stream(self, method: str, *arguments):
        """The items and the error of a stream."""
        items, done = [], asyncio.get_running_loop().create_future()

        async def append(item):
            items.append(item)

        async def complete(message):
            done.set_result(message.error)

        await self.client.stream(method, list(arguments), append, complete, complete)
        return items, await within(done)

    async def message_from(self, id: str):
        """The next message from that connection; broadcasts of others pass by."""
        while True:
            sender, x = await within(self.messages.get())
            if sender == id:
                return x


async def within(awaitable, seconds: float = PATIENCE):
    return await asyncio.wait_for(awaitable, seconds)


async def departed(watcher: Peer, id: str):
    for _ in range(500):
        record = await watcher.invoke("Departed", id)
        if record is not None:
            return record
        await asyncio.sleep(0.02)
    raise AssertionError("no record of the departure")


async def delivered(crowd, sender, expected, method, *arguments):
    """Has `sender` call the send and asserts, by a fence behind it, that exactly `expected` got it."""
    tag = f"{method} {uuid.uuid4()}"
    await sender.invoke(method, *arguments, tag)
    for number, peer in enumerate(crowd):
        await sender.invoke("ToConnection", peer.id, "fence " + tag)
        copies = 0
        while (x := await peer.message_from(sender.id)) != "fence " + tag:
            copies += x == tag
        equal(copies, sum(one is peer for one in expected), f"copies of {method}{arguments} for peer {number}")


async def welcome(protocol):
    async with Peer(protocol) as peer, Peer(protocol) as other:
        equal(len(peer.id), 22, "length of the id")
        assert peer.id != other.id
        me = await peer.invoke("WhoAmI")
        equal((me["connectionId"], me["userId"], me["transport"]), (peer.id, None, "WebSockets"))


async def echo_values(protocol):
    async with Peer(protocol) as peer:
        for value in VALUES + ([b"", b"\x00\xff", b"\x07" * 300] if protocol == "messagepack" else []):
            equal(await peer.invoke("Echo", value), value, "Echo")
        equal(await peer.invoke("aDD", -(2**31), 2**31 - 1), -1)
        equal([await peer.invoke("Nothing"), await peer.invoke("Null")], [None, None])


async def error_texts(protocol):
    async with Peer(protocol) as peer:
        for method, arguments, text in ERRORS:
            equal((await peer.completion(method, *arguments)).error, text)
        equal(await peer.invoke("Add", 1, 1), 2, "after the errors")


async def typed_object(protocol):
    async with Peer(protocol) as peer:
        full = types(protocol == "messagepack")
        equal(await peer.invoke("Types", full), full)


async def order_of_calls(protocol):
    async with Peer(protocol) as peer:
        lists = await asyncio.gather(*(peer.invoke("Order", n) for n in range(100)))
        equal(max(lists, key=len), list(range(100)))
        equal(await peer.invoke("Slow", 100), "done")


async def one_way_calls(protocol):
    async with Peer(protocol) as peer:
        await peer.client.send("nosuch", [1])
        await peer.client.send("Crash", [])
        await peer.client.send("ToCaller", [{"note": "after the errors"}])
        equal(await peer.message_from(peer.id), {"note": "after the errors"})


async def items(protocol):
    async with Peer(protocol) as a, Peer(protocol) as b:
        await a.invoke("SetItem", "k", {"deep": [1, "x"]})
        equal([await a.invoke("GetItem", "k"), await b.invoke("GetItem", "k")], [{"deep": [1, "x"]}, None])


async def sends(protocol):
    other = "json" if protocol == "messagepack" else "messagepack"
    async with Peer(protocol) as a, Peer(other) as b, Peer(protocol) as c:
        crowd = [a, b, c]
        await delivered(crowd, a, [a, b, c], "ToAll")
        await delivered(crowd, a, [b, c], "ToOthers")
        await delivered(crowd, a, [a], "ToCaller")
        await delivered(crowd, a, [b], "ToAllExcept", [a.id, c.id])
        await delivered(crowd, a, [b], "ToConnection", b.id)
        await delivered(crowd, b, [a, c], "ToConnections", [a.id, c.id])
        await delivered(crowd, b, [], "ToUser", "nobody")


async def groups(protocol):
    async with Peer(protocol) as a, Peer(protocol) as b, Peer(protocol) as c:
        crowd, red, blue = [a, b, c], f"red {a.id}", f"blue {a.id}"
        for peer, group in [(a, red), (b, red), (b, blue), (c, blue)]:
            await peer.invoke("Join", group)
        await delivered(crowd, c, [a, b], "ToGroup", red)
        await delivered(crowd, c, [a, b, b, c], "ToGroups", [red, blue])
        await delivered(crowd, c, [b], "ToGroupExcept", red, [a.id])
        await delivered(crowd, a, [b], "ToOthersInGroup", red)
        await b.invoke("Leave", red)
        await delivered(crowd, c, [a], "ToGroup", red)


async def server_stream(protocol):
    async with Peer(protocol) as peer:
        equal(await peer.stream("Counter", 5, 10), ([0, 1, 2, 3, 4], None))
        equal(await peer.stream("Counter", 0, 0), ([], None))
        equal(await peer.stream("Counter", 1000, 0), (list(range(1000)), None))
        failed = "An error occurred on the server while streaming results. HubException: counter failed"
        equal(await peer.stream("CounterThrow", 3), ([0, 1, 2], failed))
        streams = await asyncio.gather(*(peer.stream("Counter", 20 + n, 5) for n in range(5)))
        equal(streams, [(list(range(20 + n)), None) for n in range(5)])


async def cancelled_stream(_protocol):
    raise Cannot("this client cannot cancel a stream")


async def upload_stream(protocol):
    # Its uploads have no invocation id, so their result is told to nobody; the connection must take them all the same.
    async with Peer(protocol) as peer, Peer(protocol) as watcher:
        for method in ["Sum", "UploadError"]:
            async with peer.client.client_stream(method) as upload:
                for n in range(100):
                    await upload.send(n)
        equal(await peer.invoke("Add", 1, 1), 2, "after the uploads")
        equal(await watcher.invoke("Departed", peer.id), None, "still there")


async def client_results(protocol):
    async with Peer(protocol) as a, Peer(protocol) as b, Peer(protocol) as mute:

        async def answer(arguments):
            if arguments[0] == "throw":
                raise RuntimeError("no idea")
            return f"b: {arguments[0]}"

        b.client.on("answer", answer)
        equal(await a.invoke("Ask", b.id, "who ☃?"), "b: who ☃?")
        equal(await b.invoke("Ask", b.id, "myself?"), "b: myself?")
        equal(await asyncio.gather(*(a.invoke("Ask", b.id, f"{n}") for n in range(10))), [f"b: {n}" for n in range(10)])
        equal((await a.completion("Ask", b.id, "throw")).error, unexpected("Ask", "no idea"))
        equal((await a.completion("Ask", mute.id, "x")).error, unexpected("Ask", "Client didn't provide a result."))
        equal((await a.completion("Ask", "no-such-connection", "x")).error, unexpected("Ask"))


async def large_messages(protocol):
    async with Peer(protocol) as peer:
        for n in [0, 1, 125, 126, 65535, 65536, 2_000_000]:
            equal(await peer.invoke("Large", n), "x" * n)
        equal(await peer.invoke("Echo", "y" * 32_000), "y" * 32_000)


async def over_the_limit(protocol):
    async with Peer(protocol) as peer, Peer(protocol) as watcher:
        await peer.client.send("Echo", ["z" * 40_000])
        (outcome,) = await within(asyncio.gather(peer.task, return_exceptions=True))
        assert isinstance(outcome, ServerError) and outcome.message == "Connection closed with an error.", repr(outcome)
        assert "maximum message size" in (await departed(watcher, peer.id))["error"]


async def abort(protocol):
    async with Peer(protocol) as peer, Peer(protocol) as watcher:
        await peer.client.send("Abort", [])
        equal(await departed(watcher, peer.id), {"connectionId": peer.id, "error": None})


async def departure(protocol):
    async with Peer(protocol) as watcher:
        async with Peer(protocol) as peer:
            equal(await watcher.invoke("Departed", peer.id), None)
        equal(await departed(watcher, peer.id), {"connectionId": peer.id, "error": None})


async def bearer_token(protocol):
    # The token factory is asked only after the negotiation, so the header is given.
    headers = {"Authorization": "Bearer " + token(CHOSEN.url, "ann", "boss")}
    async with Peer(protocol, "/conformance-auth", headers=headers) as peer:
        me = await peer.invoke("WhoAmI")
        equal(me["userId"], "ann")
        assert "boss" in me["claims"].values(), me


async def keep_alive(protocol):
    async with Peer(protocol, "/conformance-small", signalr_ping_interval=1, ping_interval=1) as peer:
        await asyncio.sleep(5)
        equal(await peer.invoke("Add", 1, 1), 2)


CASES = {
    "welcome names the connection": welcome,
    "echo values": echo_values,
    "error texts": error_texts,
    "typed object": typed_object,
    "order of calls": order_of_calls,
    "one-way calls": one_way_calls,
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
    "bearer token, user and role": bearer_token,
    "keep-alive holds an idle connection": keep_alive,
}

tally = Tally(CHOSEN)
if "WebSockets" in CHOSEN.transports:
    for protocol in PROTOCOLS:
        for name, case in CASES.items():
            tally.run(f"WebSockets/{protocol} {name}", lambda: asyncio.run(within(case(protocol), 30)))
sys.exit(tally.close())

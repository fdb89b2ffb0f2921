"""What the suites of both Python clients share: options, the run over lanes and cases, assertions."""

import argparse
import time
import traceback
import urllib.parse
import urllib.request


def unexpected(method: str, detail: str = "") -> str:
    return f"An unexpected error occurred invoking '{method}' on the server." + (f" HubException: {detail}" if detail else "")


def not_invoked(method: str, detail: str = "") -> str:
    return f"Failed to invoke '{method}' due to an error on the server." + (f" HubException: {detail}" if detail else "")


# (method, arguments, the text of the error)
ERRORS = [
    ("Throw", ["boom ☃"], unexpected("Throw", "boom ☃")),
    ("Crash", [], unexpected("Crash")),
    ("nosuch", [], not_invoked("nosuch", "Method does not exist.")),
    ("Add", [1], not_invoked("Add")),
    ("Add", [1, "two"], not_invoked("Add")),
    ("Counter", [1, 0], "The client attempted to invoke the streaming 'Counter' method with a non-streaming invocation."),
]

VALUES = [
    None, True, False, 0, 1, -1, 127, 128, 255, 256, 65535, 65536, -32769, 2**32, 2**53 + 1, -(2**63), 2**63 - 1,
    0.5, -1.25e-7, 1e300, "", "text", 'quote " backslash \\', "line\nfeed", "ünï ☃ 😀", [], [1, "two", None, [3]], {}, {"a": 1, "B": {"c": [True, None]}},
]  # fmt: skip

TYPES = {
    "text": "ünï ☃", "int": -(2**31), "long": -(2**63), "float": 1.5, "bool": True, "bytes": None,
    "list": [1, -2], "map": {"a": "b"}, "nothing": None,
}  # fmt: skip


def types(binary: bool) -> dict:
    return {**TYPES, "bytes": b"\x00\x7f\xff" if binary else "AH//"}


class Cannot(Exception):
    """Raised by a case that the client cannot do, whatever the server; the text says why."""


def equal(actual, expected, what="value"):
    if actual != expected or type(actual) is not type(expected):
        raise AssertionError(f"{what}: got {actual!r:.300}, wanted {expected!r:.300}")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--transports", default="WebSockets,ServerSentEvents,LongPolling")
    parser.add_argument("--without", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--reference", action="store_true")
    chosen = parser.parse_args()
    chosen.transports = chosen.transports.split(",")
    chosen.without = [text for text in chosen.without.split(",") if text]
    return chosen


def token(url: str, user: str, role: str) -> str:
    query = urllib.parse.urlencode({"user": user, "role": role})
    with urllib.request.urlopen(f"{url}/token?{query}") as response:
        return response.read().decode()


class Tally:
    def __init__(self, chosen: argparse.Namespace):
        self.chosen = chosen
        self.passed = self.failed = 0

    def run(self, label: str, case) -> None:
        """Runs a case, a function without parameters, and prints its line."""
        if self.chosen.only not in label:
            return
        if any(text in label for text in self.chosen.without):
            print(f"left out {label}", flush=True)
            return
        try:
            case()
        except Cannot as reason:
            print(f"cannot {label}: {reason}", flush=True)
        except BaseException as problem:
            self.failed += 1
            print(f"FAIL {label}: {problem!r}", flush=True)
            traceback.print_exc()
            if isinstance(problem, KeyboardInterrupt):
                raise
        else:
            self.passed += 1
            print(f"ok   {label}", flush=True)

    def close(self) -> int:
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0


def eventually(condition, what: str, seconds: float = 10):
    """Asks until the answer is true and returns it."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        time.sleep(0.02)

"""python run.py ws://HOST:PORT/PATH REPORT_FOLDER

Runs the Autobahn cases against a WebSocket that echoes every message and prints a line a case that failed, one a group of
cases, and `N passed, N failed`. Compression (12.x, 13.x) is not implemented and must say so; the runner itself counts that
as a failure, so its report decides here and not its exit status.
"""

import collections
import json
import os
import subprocess
import sys

PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
COMPRESSION = {"12", "13"}


def passes(case: str, result: dict) -> bool:
    if case.split(".")[0] in COMPRESSION:
        return result["behavior"] in PASSED | {"UNIMPLEMENTED"}
    return result["behavior"] in PASSED and result["behaviorClose"] in PASSED


def main(url: str, folder: str) -> int:
    runner = os.path.join(os.path.dirname(sys.executable), "kosoku")
    # One after the other: some cases measure time, and the machine has other work.
    finished = subprocess.run([runner, "--outdir", folder, url], capture_output=True, text=True)
    index = os.path.join(folder, "index.json")
    if not os.path.exists(index):
        print(finished.stdout, finished.stderr, "FAIL the runner wrote no report", "0 passed, 1 failed", sep="\n")
        return 1
    with open(index) as file:
        (results,) = json.load(file).values()
    groups: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    failed = 0
    for case, result in results.items():
        groups[case.split(".")[0]][result["behavior"]] += 1
        if not passes(case, result):
            failed += 1
            with open(os.path.join(folder, result["reportfile"])) as file:
                report = json.load(file)
            print(f"FAIL {case} {result['behavior']}, close {result['behaviorClose']}: {report['description']} {report['result']} {report['resultClose']}")
    for group, counts in groups.items():
        print(f"     {group}.x: " + ", ".join(f"{count} {behavior}" for behavior, count in counts.items()))
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

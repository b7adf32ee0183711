#!/usr/bin/env python3
"""Checks a proof of `sendmux audit prove`, with nothing but Python and openssl.

    check_proof.py PROOF.json PUBLIC-KEY.pem

Exit status 0: every event in it is the one that was recorded, in its place, and was there when the seals say.
docs/audit.md in words.
"""
import base64
import hashlib
import json
import re
import struct
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone

STATEMENT = re.compile(
    r"sendmux-seal/(?:1\nlog \w+|2\nlog \w+\nepoch \d+)\nnumber (\d+)\nprevious ([0-9a-f]{64})\nevents (\d+)\n"
    r"positions (\d+) (\d+)\nroot ([0-9a-f]{64})\ntime (\S+)\n"
)


AMENDMENT = re.compile(
    r"sendmux-amendment/1\nlog (\w+)\nnumber (\d+)\nprevious ([0-9a-f]{64})\nseals (\d+)\nevents (\d+)\n"
    r"root ([0-9a-f]{64})\nreason ([\w-]+)\ntime (\S+)\n"
)


def is_signed(seal, key):
    with tempfile.NamedTemporaryFile() as text, tempfile.NamedTemporaryFile() as signature:
        text.write(seal["statement"].encode())
        signature.write(base64.b64decode(seal["signature"]))
        text.flush(), signature.flush()
        verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin"]
        return subprocess.run(
            [*verify, "-in", text.name, "-sigfile", signature.name], capture_output=True
        ).returncode == 0


def event_hash(stream, event, previous):
    since_2000 = datetime.fromisoformat(event["time"].replace("Z", "+00:00")) - datetime(2000, 1, 1, tzinfo=timezone.utc)
    fields = [
        struct.pack(">q", event["position"]),
        previous,
        stream.encode(),
        struct.pack(">i", event["version"]),
        event["type"].encode(),
        struct.pack(">h", event["schema_version"]),
        struct.pack(">q", since_2000 // timedelta(microseconds=1)),
        event["data"].encode(),
        event["metadata"].encode(),
    ]
    return hashlib.sha256(b"".join(struct.pack(">i", len(field)) + field for field in fields)).digest()


def root_of(leaf, index, count, path):
    """RFC 9162 section 2.1.3.2."""
    place, last, root, siblings = index, count - 1, leaf, [bytes.fromhex(each) for each in path]
    while last > 0:
        if place % 2 == 1 or place < last:
            sibling = siblings.pop(0)
            pair = sibling + root if place % 2 == 1 else root + sibling
            root = hashlib.sha256(b"\x01" + pair).digest()
        place, last = place >> 1, last >> 1
    return None if siblings else root


def check(proof, key):
    seals = {}
    for seal in proof["seals"].values():
        if not is_signed(seal, key):
            raise ValueError("a seal does not have the signature of this key")
        said = STATEMENT.fullmatch(seal["statement"]).groups()
        seals[int(said[0])] = {
            "events": int(said[2]), "after": int(said[3]), "up_to": int(said[4]), "root": said[5], "time": said[6],
        }
    amendments = {}
    for amendment in proof.get("amendments", {}).values():
        if not is_signed(amendment, key):
            raise ValueError("an amendment does not have the signature of this key")
        said = AMENDMENT.fullmatch(amendment["statement"]).groups()
        amendments[int(said[1])] = {"seals": int(said[3]), "events": int(said[4]), "root": said[5], "reason": said[6]}
    previous = bytes(32)
    for version, event in enumerate(proof["events"], 1):
        name = f"{proof['stream']}/{version}"
        found = event_hash(proof["stream"], event, previous)
        seal = seals[event["seal"]]
        if event["version"] != version or found.hex() != event["hash"]:
            raise ValueError(f"{name} is not what was recorded")
        if not seal["after"] < event["position"] <= seal["up_to"] or not 0 <= event["index"] < seal["events"]:
            raise ValueError(f"{name} is not covered by its seal")
        sealed = found
        for change in event.get("amended", []):
            amendment, before = amendments[change["amendment"]], bytes.fromhex(change["before"])
            leaf = hashlib.sha256(b"\x00" + struct.pack(">q", event["position"]) + before + sealed).digest()
            if amendment["seals"] < event["seal"] or not 0 <= change["index"] < amendment["events"]:
                raise ValueError(f"{name} was sealed after its amendment")
            if root_of(leaf, change["index"], amendment["events"], change["path"]).hex() != amendment["root"]:
                raise ValueError(f"{name} was not changed by its amendment")
            sealed = before
        if root_of(sealed, event["index"], seal["events"], event["path"]).hex() != seal["root"]:
            raise ValueError(f"{name} is not in its seal")
        previous = found
    return seals, amendments


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        proof = json.load(file)
    try:
        seals, amendments = check(proof, sys.argv[2])
    except Exception as error:  # whatever it is, nothing is proven
        sys.exit(f"Proves nothing: {error!r}")
    times = sorted(seal["time"] for seal in seals.values())
    print(f"{proof['stream']}: {len(proof['events'])} events, sealed from {times[0]} to {times[-1]}")
    changed = sum("amended" in event for event in proof["events"])
    if changed:
        reasons = ", ".join(sorted({amendment["reason"] for amendment in amendments.values()}))
        print(f"{changed} of them have changed since, by signed amendments: {reasons}")

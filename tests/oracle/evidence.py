"""Checks an archive as EVIDENCE.md describes it, with Parquet, SHA-256 and Ed25519 and nothing of Bursar.

    evidence.py ARCHIVE-FOLDER LOG-PUB-FILE

Prints a line of JSON with what it counted; a fault ends it with a message and a non-zero exit.
"""

import base64
import glob
import hashlib
import json
import os
import re
import struct
import sys

import pyarrow.parquet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ROLES = ["shim", "ledger", "policy", "archiver", "query"]


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def merkle(leaves):
    """The tree hash of RFC 6962, level by level: an odd node out moves up as it is."""
    level = [sha256(b"\0", leaf) for leaf in leaves]
    if not level:
        return sha256()
    while len(level) > 1:
        paired = [sha256(b"\1", level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def check(truth, what):
    if not truth:
        sys.exit(f"evidence: {what}")


def signed_by(key, signature, message, what):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except Exception:
        sys.exit(f"evidence: {what}: the signature does not hold")


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        taken = self.data[self.at : self.at + count]
        check(len(taken) == count, "a datum is cut off")
        self.at += count
        return taken

    def long(self):
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return (value >> 1) ^ -(value & 1)
            shift += 7

    def head(self):
        producer, role, number, at = self.take(16), self.long(), self.long(), self.long()
        self.long()
        self.take(self.long())
        self.long()
        return producer, role, number, at


def open_checkpoint(note, keys):
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    origin, size, root = text.split("\n")[:3]
    held = False
    for line in signatures.splitlines():
        dash, name, blob = line.split(" ")
        blob = base64.b64decode(blob)
        key = keys.get((name, blob[:4]))
        if dash == "\u2014" and key is not None and name == origin:
            signed_by(key, blob[4:], text.encode(), "a checkpoint")
            held = True
    check(held, "a checkpoint is signed by no given key")
    return origin, int(size), base64.b64decode(root)


def read_keys(path):
    keys = {}
    for line in open(path):
        name, key_id, blob = line.strip().split("+", 2)
        blob = base64.b64decode(blob)
        check(sha256(name.encode(), b"\n", blob)[:4].hex() == key_id, "a key's id is another's")
        keys[(name, bytes.fromhex(key_id))] = blob[1:]
    return keys


def listed(folder):
    """Names in a folder; one that ends in # and digits is a file that its writer died over before it had its name."""
    return sorted(name for name in os.listdir(folder) if not re.search(r"#[0-9]+$", name))


def check_log(root, keys):
    names = listed(f"{root}/log/leaf")
    check(names == [f"{n:020}" for n in range(len(names))], "leaves are missing")
    leaves = [open(f"{root}/log/leaf/{name}", "rb").read() for name in names]
    sizes = [int(name) for name in listed(f"{root}/log/checkpoints")]
    check(sizes[-1] == len(leaves), "leaves without a checkpoint")
    for size in sizes:
        _, said, tree = open_checkpoint(open(f"{root}/log/checkpoints/{size:020}", encoding="utf-8").read(), keys)
        check(said == size and tree == merkle(leaves[:size]), f"the checkpoint of {size} leaves does not follow from them")
    cosigned = f"{root}/log/cosigned"
    for size in listed(cosigned) if os.path.isdir(cosigned) else []:
        kept = open_checkpoint(open(f"{root}/log/checkpoints/{size}", encoding="utf-8").read(), keys)
        for name in listed(f"{cosigned}/{size}"):
            note = open(f"{cosigned}/{size}/{name}", encoding="utf-8").read()
            check(open_checkpoint(note, keys) == kept, f"what a witness cosigned of {size} is not the checkpoint")
            ids = [base64.b64decode(line.split(" ")[2])[:4].hex() for line in note.rpartition("\n\n")[2].splitlines()]
            check(name in ids, f"{size}/{name} has no line by that key")
    width = len(leaves) % 256
    if width:
        block = len(leaves) // 256
        check(block < 1000, "this oracle reads small logs")
        mine = leaves[block * 256 :]
        bundle = b"".join(struct.pack(">H", len(leaf)) + leaf for leaf in mine)
        check(open(f"{root}/log/tile/entries/{block:03}.p/{width}", "rb").read() == bundle, "the last bundle")
        hashes = b"".join(sha256(b"\0", leaf) for leaf in mine)
        check(open(f"{root}/log/tile/0/{block:03}.p/{width}", "rb").read() == hashes, "the last tile")
    return [json.loads(leaf) for leaf in leaves]


class Producers:
    def __init__(self, topic, partition, deployment_keys):
        self.topic, self.partition, self.trusted = topic, partition, deployment_keys
        self.known, self.before, self.repeats = {}, {}, 0

    def take(self, value):
        if len(value) < 5 or value[0] != 0:
            return
        schema = int.from_bytes(value[1:5], "big")
        reader = Reader(value[5:])
        producer, role, number, _ = reader.head()
        fresh = {"next": 0, "hash": bytes(32), "key": None, "proven": 0}
        if producer in self.before:
            # Its certificate was removed: its numbers can be checked, its signatures no more.
            fresh.update(next=self.before.pop(producer), hash=None)
        state = self.known.setdefault(producer, fresh)
        if number < state["next"]:
            self.repeats += 1
            return
        check(number == state["next"], f"numbers of {producer.hex()} never came")
        state["next"] = number + 1
        if number == 0:
            check(schema == 1, f"{producer.hex()} shows no certificate")
            key, deployment, certificate = reader.take(32), reader.take(32), reader.take(64)
            check(deployment in self.trusted, "a deployment key that the log does not name")
            message = b"bursar/certificate/v1\n" + producer + ROLES[role].encode() + b"\n" + key
            signed_by(deployment, certificate, message, "a certificate")
            state["key"] = key
        if schema == 2 and state["key"] is not None:
            last, said, signature, ended = reader.long(), reader.take(32), reader.take(64), reader.take(1) == b"\1"
            held = state["hash"] is None or said == state["hash"]
            check(last == number - 1 and held, f"the running hash of {producer.hex()} at {last}")
            word = "true" if ended else "false"
            message = f"bursar/head/v1\n{self.topic}\n{self.partition}\n{last}\n{word}\n".encode() + producer + said
            signed_by(state["key"], signature, message, "a head")
            state["proven"], state["hash"] = number + 1, said
        if state["hash"] is not None:
            state["hash"] = sha256(state["hash"], value)

    def pass_over(self, producers):
        for name, due in producers.items():
            producer = bytes.fromhex(name)
            if producer not in self.known:
                self.before[producer] = due
            elif self.known[producer]["next"] < due:
                self.known[producer].update(next=due, hash=None)


def main():
    root, keys = sys.argv[1], read_keys(sys.argv[2])
    leaves = check_log(root, keys)
    trusted = {bytes.fromhex(leaf["deployment_key"]) for leaf in leaves if leaf["kind"] == "keys"}
    removals = {leaf["leaf"]: leaf for leaf in leaves if leaf["kind"] == "removal"}
    lanes, rows, seen = {}, 0, set()
    for number, leaf in enumerate(leaves):
        if leaf["kind"] != "segment":
            continue
        lane = (leaf["generation"], leaf["topic"], leaf["partition"])
        state = lanes.setdefault(lane, {"next": 0, "producers": Producers(lane[1], lane[2], trusted)})
        check(leaf["first"] == state["next"], f"{leaf['key']} does not follow its chain")
        state["next"] = leaf["last"] + 1
        path = f"{root}/{leaf['key']}"
        data = open(path, "rb").read()
        removal = removals.get(number)
        if removal is not None and sha256(data).hex() != leaf["sha256"]:
            names = ("key", "first", "last", "rows", "sha256", "rows_root")
            check(all(removal[name] == leaf[name] for name in names), f"a removal of another segment than {leaf['key']}")
            held = pyarrow.parquet.read_metadata(path)
            check(held.num_rows == 0 and b"bursar.removed" in held.metadata, f"{leaf['key']}: no tombstone")
            footer = held.metadata[b"bursar.segment"]
            check(sha256(footer).hex() == removal["footer"], f"{leaf['key']}: the tombstone's footer")
            state["producers"].pass_over(json.loads(footer)["producers"])
            seen.add(path)
            continue
        check(len(data) == leaf["bytes"] and sha256(data).hex() == leaf["sha256"], f"{leaf['key']} was altered")
        table = pyarrow.parquet.read_table(path, columns=["offset", "value"])
        values = table["value"].to_pylist()
        check(merkle(values).hex() == leaf["rows_root"], f"{leaf['key']}: the root over its rows")
        for value in values:
            state["producers"].take(value)
        rows += len(values)
        seen.add(path)
    check(seen == set(glob.glob(f"{root}/segments/*/*/[0-9]*/*.parquet")), "segments that no leaf names")
    states = [state for lane in lanes.values() for state in lane["producers"].known.values()]
    print(json.dumps({
        "leaves": len(leaves),
        "segments": len(seen),
        "rows": rows,
        "proven": sum(state["proven"] for state in states),
        "producers": len(states),
    }))


main()

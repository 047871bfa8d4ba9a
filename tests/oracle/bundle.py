"""Checks the evidence of one request by the steps that its `how_to_check` names, with nothing of Bursar but the schemas.

    bundle.py BUNDLE-FILE SCHEMA-FOLDER KEY...

Each key is a line NAME+ID+BASE64, the log's or a witness's, all of which must have signed. Prints a line of JSON with the kinds of
the facts that it proved; a fault ends it with a message and a non-zero exit.
"""

import base64
import hashlib
import io
import json
import pathlib
import sys

import fastavro
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NOTE, COSIGNATURE = 1, 4


def check(truth, what):
    if not truth:
        sys.exit(f"bundle: {what}")


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def climb(entry, index, size, path):
    """The root that a path leads to: RFC 9162, section 2.1.3.2."""
    check(index < size, "an index beyond its tree")
    here, last, root = index, size - 1, sha256(b"\0", entry)
    for sibling in path:
        check(last > 0, "a path is too long")
        if here & 1 or here == last:
            root = sha256(b"\1", sibling, root)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            root = sha256(b"\1", root, sibling)
        here, last = here >> 1, last >> 1
    check(last == 0, "a path is too short")
    return root


def signed(note, keys):
    """The text of a note that every key given has signed."""
    text, _, lines = note.rpartition("\n\n")
    text += "\n"
    signatures = {}
    for line in lines.splitlines():
        dash, name, blob = line.split(" ")
        blob = base64.b64decode(blob)
        check(dash == "\u2014", "a signature line is not one")
        signatures[(name, blob[:4])] = blob[4:]
    for name, key_id, blob in keys:
        signature = signatures.get((name, key_id))
        check(signature is not None, f"{name} has not signed the checkpoint")
        message = text.encode()
        if blob[0] == COSIGNATURE:
            seconds = int.from_bytes(signature[:8], "big")
            message = f"cosignature/v1\ntime {seconds}\n".encode() + message
            signature = signature[8:]
        try:
            Ed25519PublicKey.from_public_bytes(blob[1:]).verify(signature, message)
        except InvalidSignature:
            sys.exit(f"bundle: what {name} signed is something else")
    return text


def read_key(line):
    name, key_id, blob = line.strip().split("+", 2)
    blob = base64.b64decode(blob)
    check(sha256(name.encode(), b"\n", blob)[:4].hex() == key_id, "a key's id is another's")
    check(blob[0] in (NOTE, COSIGNATURE) and len(blob) == 33, "a key of another kind")
    return name, bytes.fromhex(key_id), blob


def main():
    bundle = json.loads(pathlib.Path(sys.argv[1]).read_text())
    folder = pathlib.Path(sys.argv[2])
    keys = [read_key(line) for line in sys.argv[3:]]
    check(any(blob[0] == NOTE for _, _, blob in keys), "the log's key was not given")
    kinds = json.loads((folder / "ids.json").read_text())
    shown = signed(bundle["checkpoint"], keys)
    roots = []
    for segment in bundle["segments"]:
        manifest = segment["manifest"]
        head, _, note = segment["proof"].partition("\n\n")
        form, index, *path = head.split("\n")
        check(form == "c2sp.org/tlog-proof@v1" and index.startswith("index "), "a proof of another form")
        check(signed(note, keys) == shown, "a segment stands under another checkpoint")
        _, size, root = shown.split("\n")[:3]
        path = [base64.b64decode(line) for line in path]
        found = climb(manifest.encode(), int(index.removeprefix("index ")), int(size), path)
        check(found == base64.b64decode(root), "a manifest is not in the log")
        roots.append(json.loads(manifest))
    proved = []
    for fact in bundle["facts"]:
        manifest = roots[fact["segment"]]
        value = bytes.fromhex(fact["value"])
        check(fact["rows"] == manifest["rows"], "a segment of another number of rows")
        path = [bytes.fromhex(digest) for digest in fact["path"]]
        root = climb(value, fact["row"], fact["rows"], path)
        check(root.hex() == manifest["rows_root"], "a fact is not in its segment")
        least, skipped = manifest["first"] + fact["row"], manifest["last"] - manifest["first"] + 1 - manifest["rows"]
        check(least <= fact["offset"] <= least + skipped, "a fact's offset is not that of its row")
        check(value[0] == 0, "a value of another framing")
        kind = kinds[str(int.from_bytes(value[1:5], "big"))]
        schema = fastavro.parse_schema(json.loads((folder / f"{kind}.avsc").read_text()))
        datum = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
        request = datum.get("request") or datum["about"]["request"]
        check(request.hex() == bundle["request"].replace("-", ""), "a fact of another request")
        proved.append(kind)
    print(json.dumps({"proved": sorted(proved), "leaves": bundle["scanned"]["leaves"]}))


main()

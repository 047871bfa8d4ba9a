"""A second, naive reading of the five topics, for comparison with the ledger's and the query service's.

usage: fold.py BOOTSTRAP PREFIX AVRO_FOLDER

Reads every topic with librdkafka and decodes with fastavro by the checked-in schemas, whose ids.json maps ids to
them. Prints one JSON object: accounts with limit, settled, reserved and committed in pico-dollars (decimal
strings), counts of requests, and `faults`: whatever breaks a rule of hard budgets, which must be empty.
Integer arithmetic throughout.
"""

import decimal
import io
import json
import pathlib
import struct
import sys
from collections import defaultdict

import confluent_kafka
import fastavro

decimal.getcontext().prec = 76
BLOCKING = ("hard", "bounded")


def pico(amount: decimal.Decimal) -> int:
    scaled = amount.scaleb(12)
    assert scaled == scaled.to_integral_value(), amount
    return int(scaled)


def records(bootstrap: str, topic: str):
    """Every record of a topic that is there now, partition by partition: (partition, offset, bytes)."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "oracle", "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer({**settings, "auto.offset.reset": "error", "enable.partition.eof": True})
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    for partition in sorted(partitions):
        place = confluent_kafka.TopicPartition(topic, partition)
        first, end = consumer.get_watermark_offsets(place, 30)
        place.offset = first
        consumer.assign([place])
        next_offset = first
        while next_offset < end:
            message = consumer.poll(30)
            if message is None:
                sys.exit(f"{topic}/{partition} could not be read at {next_offset}")
            if message.error():
                if message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    break
                sys.exit(f"{topic}/{partition}: {message.error()}")
            next_offset = message.offset() + 1
            yield partition, message.offset(), message.value()
    consumer.close()


class Reader:
    def __init__(self, bootstrap: str, prefix: str, folder: str):
        self.bootstrap, self.prefix = bootstrap, prefix
        self.names = {int(key): name for key, name in json.loads((pathlib.Path(folder) / "ids.json").read_text()).items()}
        self.schemas = {
            name: fastavro.parse_schema(json.loads((pathlib.Path(folder) / f"{name}.avsc").read_text()))
            for name in self.names.values()
        }
        self.unreadable, self.repeated, self.missing = 0, 0, 0

    def facts(self, topic: str):
        """Facts once each, in order: (offset, kind, fact)."""
        newest: dict[tuple[bytes, int], int] = {}
        for partition, offset, value in records(self.bootstrap, f"{self.prefix}.{topic}"):
            try:
                magic, schema = struct.unpack(">bI", value[:5])
                assert magic == 0
                kind = self.names[schema]
                fact = fastavro.schemaless_reader(io.BytesIO(value[5:]), self.schemas[kind])
            except Exception:  # noqa: BLE001: whatever the reason, it is no fact
                self.unreadable += 1
                continue
            writer, number = (fact["head"]["producer"], partition), fact["head"]["number"]
            last = newest.get(writer, -1)
            if number <= last:
                self.repeated += 1
                continue
            self.missing += number - last - 1
            newest[writer] = number
            yield offset, kind, fact


def name(account: dict) -> tuple[str, int]:
    return account["budget"], account["window"]


class Limits:
    def __init__(self):
        self.epoch = None
        self.budgets: dict[str, tuple] = {}
        self.phases: dict[tuple, str] = {}
        self.committed: dict[tuple, int] = defaultdict(int)
        self.leases: dict[tuple, dict] = {}
        self.ended: set[bytes] = set()
        self.void, self.faults = 0, []

    def take(self, offset: int, kind: str, fact: dict) -> None:
        if fact["head"]["role"] != "ledger":
            return
        if kind == "EpochMarked":
            if fact["supersedes"] == self.epoch:
                self.epoch = offset
            return
        if "epoch" in fact and fact["epoch"] != self.epoch:
            self.void += 1
        elif kind == "LimitSet":
            version = (fact["policy_version"], fact["step"])
            if fact["budget"] not in self.budgets or version > self.budgets[fact["budget"]][2]:
                self.budgets[fact["budget"]] = (pico(fact["amount"]), fact["mode"], version)
        elif kind == "WindowMoved":
            self.phases[name(fact["account"])] = fact["phase"]
        elif kind == "IncarnationEnded":
            self.ended.add(fact["incarnation"])
        elif kind == "LeaseGranted":
            self.grant(offset, fact)
        elif kind == "LeaseCredited":
            self.credit(offset, fact)

    def limit(self, account: tuple) -> int:
        return self.budgets[account[0]][0] if account[0] in self.budgets else 0

    def grant(self, offset: int, fact: dict) -> None:
        lease = (fact["lease"]["holder"], fact["lease"]["number"])
        accounts, amount = [name(account) for account in fact["accounts"]], pico(fact["amount"])
        over = [
            account
            for account in accounts
            if (account[0] not in self.budgets or self.budgets[account[0]][1] in BLOCKING)
            and self.committed[account] + amount > self.limit(account)
        ]
        closed = [account for account in accounts if self.phases.get(account) != "open"]
        if over or closed or lease in self.leases or lease[0] in self.ended or amount <= 0:
            self.void += 1
            return
        for account in accounts:
            self.committed[account] += amount
        self.leases[lease] = {"amount": amount, "returned": 0, "spent": 0, "numbers": set(), "accounts": accounts}

    def credit(self, offset: int, fact: dict) -> None:
        lease = self.leases.get((fact["lease"]["holder"], fact["lease"]["number"]))
        amount = pico(fact["amount"])
        if lease is None or fact["number"] in lease["numbers"] or lease["returned"] + amount > lease["amount"]:
            self.void += 1
            return
        lease["numbers"].add(fact["number"])
        lease["returned"] += amount
        for account in map(name, fact["accounts"]):
            if self.phases.get(account) != "closed":
                self.committed[account] -= amount


def main(bootstrap: str, prefix: str, folder: str) -> None:
    reader = Reader(bootstrap, prefix, folder)
    limits = Limits()
    for offset, kind, fact in reader.facts("limits"):
        limits.take(offset, kind, fact)
    faults = limits.faults

    settled, reserved, held, over = defaultdict(int), defaultdict(int), {}, set()
    for offset, kind, fact in reader.facts("spend"):
        if kind not in ("Reserved", "Settled", "Voided") or fact["head"]["role"] != "shim":
            continue
        attempt = (fact["about"]["request"], fact["attempt"])
        accounts = [name(account) for account in fact["accounts"]]
        if kind == "Reserved":
            amount = pico(fact["amount"])
            if attempt in held or attempt in over:
                faults.append(f"spend {offset}: an attempt was reserved twice")
            held[attempt] = (accounts, amount)
            for account in accounts:
                reserved[account] += amount
            continue
        if attempt in over:
            continue
        over.add(attempt)
        if attempt in held:
            accounts, amount = held.pop(attempt)
            for account in accounts:
                reserved[account] -= amount
        if kind == "Settled":
            amount = pico(fact["amount"])
            for account in accounts:
                settled[account] += amount
            if fact["lease"] is not None:
                lease = limits.leases.get((fact["lease"]["holder"], fact["lease"]["number"]))
                if lease is None:
                    faults.append(f"spend {offset}: settled under a lease that was never granted")
                else:
                    lease["spent"] += amount - pico(fact["overrun"])
    for lease in limits.leases.values():
        if lease["spent"] > lease["amount"] - lease["returned"]:
            faults.append(f"a lease of {lease['amount']} spent {lease['spent']} and returned {lease['returned']}")
    for account, committed in limits.committed.items():
        if limits.budgets.get(account[0], (0, "hard"))[1] in BLOCKING and committed > limits.limit(account):
            faults.append(f"{account} has {committed} committed above its limit {limits.limit(account)}")

    opened, closed, twice = set(), set(), 0
    for _, kind, fact in reader.facts("requests"):
        if kind == "RequestOpened":
            twice += fact["about"]["request"] in opened
            opened.add(fact["about"]["request"])
        elif kind == "RequestClosed":
            twice += fact["about"]["request"] in closed
            closed.add(fact["about"]["request"])
    for topic in ("routes", "policy"):
        for _ in reader.facts(topic):
            pass
    books = [
        {
            "budget": account[0],
            "window": account[1],
            "limit": str(limits.limit(account)),
            "settled": str(settled[account]),
            "reserved": str(reserved[account]),
            "committed": str(limits.committed[account]),
        }
        for account, phase in sorted(limits.phases.items())
        if phase != "closed"
    ]
    counts = {"opened": len(opened), "closed": len(closed), "twice": twice, "open": len(opened - closed)}
    found = {"unreadable": reader.unreadable, "repeated": reader.repeated, "missing": reader.missing}
    leases = {"granted": len(limits.leases), "void": limits.void}
    print(json.dumps({"accounts": books, **counts, **found, "leases": leases, "faults": faults}))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])

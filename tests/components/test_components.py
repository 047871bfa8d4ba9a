"""Starts the real components and checks that they do what tests rely on.

    "$(tests/components/fetch python | sed -n s/PYTHON=//p)" tests/components/test_components.py
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

import confluent_kafka
import pyarrow
import pyarrow.parquet

sys.dont_write_bytecode = True
import s3_request  # noqa: E402 - after the switch, so that nothing is left in the checkout
from confluent_kafka import admin

HERE = pathlib.Path(__file__).resolve().parent
# Generous: it bounds a failure, a success ends as soon as it is there.
DEADLINE_SECONDS = 60


def run(script, *arguments):
    """Runs a script and gives back its KEY=VALUE lines."""
    done = subprocess.run([HERE / script, *map(str, arguments)], stdout=subprocess.PIPE, check=True, text=True)
    return dict(re.findall(r"^([A-Z][A-Z_]*)=(.*)$", done.stdout, re.MULTILINE))


def processes_naming(folder):
    """The live processes whose command line has something in this folder."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(folder) in word for word in words):
            found.append(int(entry.name))
    return found


def is_alive(pid):
    """Whether a process runs; one that is dead and not yet reaped has no command line."""
    try:
        return pathlib.Path("/proc", pid, "cmdline").read_bytes() != b""
    except OSError:
        return False


def mode(path):
    """The permission bits of a file."""
    return stat.S_IMODE(os.stat(path).st_mode)


class Component(unittest.TestCase):
    """A folder of its own; whatever was started in it is stopped."""

    def setUp(self):
        folder = tempfile.mkdtemp(prefix="bursar components ")
        self.folder = pathlib.Path(folder)
        self.addCleanup(subprocess.run, ["rm", "-rf", "--", folder], check=True)

    def start(self, script, *arguments):
        """Starts a component and has it stopped when the test is over."""
        self.addCleanup(run, script, "stop", self.folder)
        return run(script, "start", self.folder, *arguments)


def connection(bootstrap, **settings):
    """Settings that both kinds of clients share; silent about refusals."""
    return {"bootstrap.servers": bootstrap, "log_level": 0, **settings}


def make_topic(bootstrap, name):
    """A topic with one partition, made through the plaintext listener."""
    client = admin.AdminClient(connection(bootstrap))
    client.create_topics([admin.NewTopic(name, 1, 1)])[name].result(DEADLINE_SECONDS)


def produce(settings, topic, values, seconds=DEADLINE_SECONDS):
    """Writes values and gives back the error of each, or None."""
    errors = []
    producer = confluent_kafka.Producer(
        {**settings, "acks": "all", "enable.idempotence": True, "message.timeout.ms": seconds * 1000}
    )
    for value in values:
        producer.produce(topic, value, partition=0, on_delivery=lambda error, _: errors.append(error))
    producer.flush(seconds + 5)
    return errors


def consume(settings, topic, count):
    """The first values of a topic's only partition."""
    consumer = confluent_kafka.Consumer({**settings, "group.id": "check", "enable.auto.commit": False})
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
        values = []
        while len(values) < count:
            messages = consumer.consume(count - len(values), DEADLINE_SECONDS)
            if not messages:
                break
            for message in messages:
                if message.error():
                    raise confluent_kafka.KafkaException(message.error())
                values.append(message.value())
        return values
    finally:
        consumer.close()


class Kafka(Component):
    def test_records_survive_a_kill_and_nothing_survives_a_stop(self):
        first = self.start("kafka")
        bootstrap = first["BOOTSTRAP"]
        make_topic(bootstrap, "requests")
        values = [f"record {number}".encode() for number in range(500)]
        self.assertEqual(produce(connection(bootstrap), "requests", values), [None] * 500)

        run("kafka", "kill9", self.folder)
        self.assertEqual(processes_naming(self.folder), [])
        second = run("kafka", "restart", self.folder)
        self.assertEqual(second["BOOTSTRAP"], bootstrap)
        self.assertNotEqual(second["PID"], first["PID"])
        self.assertEqual(consume(connection(bootstrap), "requests", 500), values)

        # A second start finds the running broker, and a topic is never made by accident.
        self.assertEqual(run("kafka", "start", self.folder), second)
        (error,) = produce(connection(bootstrap), "requets", [b"x"], seconds=5)
        self.assertIsNotNone(error)

        run("kafka", "stop", self.folder)
        self.assertEqual(processes_naming(self.folder), [])
        run("kafka", "stop", self.folder)

    def test_a_foreign_process_in_the_pid_file_is_left_alone(self):
        stranger = subprocess.Popen(["sleep", "600"])
        self.addCleanup(stranger.wait)
        self.addCleanup(stranger.kill)
        scripts = ("kafka", "s3", "azure", "gcs")
        for script, action in ((script, action) for script in scripts for action in ("stop", "kill9")):
            (self.folder / "pid").write_text(f"{stranger.pid}\n")
            run(script, action, self.folder)
            self.assertIsNone(stranger.poll(), f"{script} {action}")

    def test_only_a_known_password_and_an_allowed_principal_may_write(self):
        broker = self.start("kafka", "--sasl-tls")
        make_topic(broker["BOOTSTRAP"], "limits")

        def settings(user, password=None, **more):
            path = pathlib.Path(broker["SASL_PASSWORD_DIR"]) / f"{user}.password"
            self.assertEqual(mode(path), 0o600)
            return connection(
                broker["SASL_BOOTSTRAP"],
                **{
                    "security.protocol": "SASL_SSL",
                    "sasl.mechanism": broker["SASL_MECHANISM"],
                    "sasl.username": user,
                    "sasl.password": password or path.read_text(),
                    "ssl.ca.location": broker["SASL_CA"],
                    **more,
                },
            )

        def refusal(client_settings):
            """The first error that a client is told on connecting."""
            seen = []
            client = confluent_kafka.Producer({**client_settings, "error_cb": seen.append})
            for _ in range(DEADLINE_SECONDS):
                client.poll(1)
                if seen:
                    return seen[0].code()
            return None

        run("kafka", "acls", self.folder, "--add", "--allow-principal", "User:ledger",
            "--operation", "Write", "--topic", "limits")  # fmt: skip
        self.assertEqual(produce(settings("admin"), "limits", [b"by admin"]), [None])
        self.assertEqual(produce(settings("ledger"), "limits", [b"by ledger"]), [None])
        (error,) = produce(settings("shim"), "limits", [b"by shim"])
        self.assertEqual(error.code(), confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED)

        wrong = settings("ledger", "not the password")
        self.assertEqual(refusal(wrong), confluent_kafka.KafkaError._AUTHENTICATION)
        (error,) = produce(wrong, "limits", [b"by a stranger"], seconds=5)
        self.assertIsNotNone(error)
        untrusting = settings("ledger")
        del untrusting["ssl.ca.location"]
        self.assertEqual(refusal(untrusting), confluent_kafka.KafkaError._SSL)

        self.assertEqual(consume(connection(broker["BOOTSTRAP"]), "limits", 2), [b"by admin", b"by ledger"])

        # Users and certificates are still there after a kill.
        run("kafka", "kill9", self.folder)
        again = run("kafka", "restart", self.folder)
        self.assertNotEqual(again["PID"], broker["PID"])
        self.assertEqual({**again, "PID": broker["PID"]}, broker)
        self.assertEqual(produce(settings("ledger"), "limits", [b"again"]), [None])
        (error,) = produce(settings("shim"), "limits", [b"again"])
        self.assertEqual(error.code(), confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED)


class S3(Component):
    def request(self, server, method, target, headers=None, body=b"", secret=None):
        """The status and the body that a signed request is answered with."""
        keys = server["ACCESS_KEY"], secret or server["SECRET_KEY"]
        return s3_request.request(server["ENDPOINT"], keys, method, target, headers, body)

    def test_an_object_is_put_once_and_survives_a_kill(self):
        server = self.start("s3")
        path = f"/{server['BUCKET']}/a/b/00000000"
        once = {"if-none-match": "*"}
        self.assertEqual(self.request(server, "PUT", path, once, b"first")[0], 200)
        self.assertEqual(self.request(server, "PUT", path, once, b"second")[0], 412)
        self.assertEqual(self.request(server, "GET", path, secret="x" * 40)[0], 403)
        self.assertEqual(mode(self.folder / "credentials"), 0o600)

        run("s3", "kill9", self.folder)
        self.assertEqual(processes_naming(self.folder), [])
        again = run("s3", "restart", self.folder)
        self.assertNotEqual(again["PID"], server["PID"])
        self.assertEqual({**again, "PID": server["PID"]}, server)
        self.assertEqual(self.request(again, "PUT", path, once, b"third")[0], 412)
        self.assertEqual(self.request(again, "GET", path), (200, b"first"))

        run("s3", "stop", self.folder)
        self.assertEqual(processes_naming(self.folder), [])

    def test_a_locked_version_cannot_be_deleted(self):
        server = self.start("s3")
        path = f"/{server['LOCKED_BUCKET']}/kept"
        body = b"kept"
        lock = {
            "x-amz-object-lock-mode": "COMPLIANCE",
            "x-amz-object-lock-retain-until-date": "2999-01-01T00:00:00Z",
            "content-md5": base64.b64encode(hashlib.md5(body).digest()).decode(),
        }
        self.assertEqual(self.request(server, "PUT", path, lock, body)[0], 200)
        status, listing = self.request(server, "GET", f"/{server['LOCKED_BUCKET']}?versions=")
        self.assertEqual(status, 200)
        (version,) = re.findall(rb"<VersionId>(.*?)</VersionId>", listing)
        one_version = f"{path}?versionId={version.decode()}"
        self.assertEqual(self.request(server, "DELETE", one_version)[0], 403)
        self.assertEqual(self.request(server, "GET", one_version), (200, body))


class OtherClouds(Component):
    def test_a_second_start_finds_the_server_and_nothing_survives_a_stop(self):
        for script in ("azure", "gcs"):
            first = self.start(script)
            self.assertEqual(run(script, "start", self.folder), first)
            run(script, "stop", self.folder)
            self.assertFalse(is_alive(first["PID"]), script)

    def test_gcs_puts_an_object_once_unless_it_ignores_the_condition(self):
        server = self.start("gcs")
        endpoint = json.loads(pathlib.Path(server["CREDENTIALS"]).read_text())["gcs_base_url"]

        def put(bucket, body):
            once = {"x-goog-if-generation-match": "0"}
            request = urllib.request.Request(f"{endpoint}/{bucket}/a/b", body, once, method="PUT")
            try:
                with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
                    return answer.status
            except urllib.error.HTTPError as refused:
                return refused.code

        def get(bucket):
            with urllib.request.urlopen(f"{endpoint}/{bucket}/a/b", timeout=DEADLINE_SECONDS) as answer:
                return answer.read()

        bucket, ignoring = server["BUCKET"], server["IGNORING_BUCKET"]
        self.assertEqual([put(bucket, b"first"), put(bucket, b"second"), get(bucket)], [200, 412, b"first"])
        self.assertEqual([put(ignoring, b"first"), put(ignoring, b"second"), get(ignoring)], [200, 200, b"second"])


class Witness(Component):
    def test_it_knows_the_logs_that_were_added_and_nothing_survives_a_stop(self):
        first = self.start("witness")
        self.assertEqual(run("witness", "start", self.folder), first)
        text = f"example.com/foo\n1\n{base64.b64encode(bytes(32)).decode()}\n"
        line = f"\u2014 example.com/foo {base64.b64encode(bytes.fromhex('530d903a') + bytes(64)).decode()}\n"

        def ask():
            request = urllib.request.Request(f"{first['URL']}/add-checkpoint", f"old 0\n\n{text}\n{line}".encode())
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=DEADLINE_SECONDS)
            return refused.exception.code

        self.assertEqual(ask(), 404)
        key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
        run("witness", "add", self.folder, key)
        self.assertEqual(ask(), 403)
        run("witness", "stop", self.folder)
        self.assertEqual(processes_naming(self.folder), [])
        self.assertEqual(run("witness", "start", self.folder)["KEY"], first["KEY"])
        self.assertEqual(ask(), 403)


class Readers(Component):
    def test_duckdb_reads_a_delta_table_without_a_network(self):
        table = self.folder / "table"
        (table / "_delta_log").mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.table({"pico": [1, 2, 40]}), table / "part.parquet")
        schema = {"type": "struct", "fields": [{"name": "pico", "type": "long", "nullable": True, "metadata": {}}]}
        size = (table / "part.parquet").stat().st_size
        actions = [
            {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
            {"metaData": {"id": "6f4bdb1c-6f52-4f6e-a1f5-9f1fd9a3e0b1", "format": {"provider": "parquet", "options": {}},
                          "schemaString": json.dumps(schema), "partitionColumns": [], "configuration": {}}},
            {"add": {"path": "part.parquet", "partitionValues": {}, "size": size,
                     "modificationTime": 0, "dataChange": True}},
        ]  # fmt: skip
        log = table / "_delta_log" / "00000000000000000000.json"
        log.write_text("".join(json.dumps(action) + "\n" for action in actions))
        paths = run("fetch", "duckdb")
        load = f"LOAD '{paths['DUCKDB_DELTA_EXTENSION']}'"
        query = f"{load}; SELECT sum(pico)::BIGINT AS total FROM delta_scan('{table}')"
        done = subprocess.run([paths["DUCKDB"], "-json", "-c", query], stdout=subprocess.PIPE, check=True,
                              env={"HOME": str(self.folder)})  # fmt: skip
        self.assertEqual(json.loads(done.stdout), [{"total": 43}])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    unittest.main(verbosity=2)

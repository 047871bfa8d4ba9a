"""Free ports, and waiting for a started process to answer.

    probe.py free COUNT
    probe.py kafka|http|refusal PORT PID SECONDS
"""

import os
import random
import socket
import struct
import sys
import time
import urllib.error
import urllib.request

FIRST_PORT = 20000


def last_port():
    """The end of the ports that no outgoing connection is given."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as range_file:
            lowest = int(range_file.read().split()[0])
    except OSError:
        lowest = 32768
    return lowest - 1 if lowest > FIRST_PORT + 1000 else 65535


def free_ports(count):
    """Ports that could all be bound on loopback at the same time."""
    held = []
    candidates = random.SystemRandom().sample(range(FIRST_PORT, last_port()), 200)
    try:
        for candidate in candidates:
            if len(held) == count:
                break
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                listener.bind(("127.0.0.1", candidate))
            except OSError:
                listener.close()
                continue
            held.append(listener)
        if len(held) < count:
            sys.exit("no free loopback port found")
        return [listener.getsockname()[1] for listener in held]
    finally:
        for listener in held:
            listener.close()


def kafka_answers(port):
    """Whether a broker answers an ApiVersions request without an error."""
    client = b"probe"
    request = struct.pack(">hhih", 18, 0, 7, len(client)) + client
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.settimeout(2)
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = b""
        while len(answer) < 10:
            received = connection.recv(4096)
            if not received:
                return False
            answer += received
    _, correlation, error = struct.unpack(">iih", answer[:10])
    return correlation == 7 and error == 0


def http_answers(port):
    """Whether the health page answers 200."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
        return answer.status == 200


def http_refuses(port):
    """Whether a request without a name is answered, if only with a refusal."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2):
            return True
    except urllib.error.HTTPError:
        return True


def ended(pid):
    """Whether the process is gone, or dead and not yet reaped."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait(answers, port, pid, seconds):
    """Polls until the process answers, has ended, or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ended(pid):
            sys.exit(f"process {pid} ended before it answered")
        try:
            if answers(port):
                return
        except (OSError, urllib.error.URLError, struct.error):
            pass
        time.sleep(0.05)
    sys.exit(f"port {port} did not answer within {seconds} s")


def main(arguments):
    if arguments[0] == "free":
        print(*free_ports(int(arguments[1])))
        return
    answers = {"kafka": kafka_answers, "http": http_answers, "refusal": http_refuses}[arguments[0]]
    port, pid, seconds = (int(argument) for argument in arguments[1:4])
    # Loopback is never asked for through a proxy.
    os.environ["no_proxy"] = "*"
    wait(answers, port, pid, seconds)


if __name__ == "__main__":
    main(sys.argv[1:])

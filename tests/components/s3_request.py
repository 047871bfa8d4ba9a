"""One request to an S3 server, signed with AWS signature version 4.

    s3_request.py ENDPOINT METHOD /PATH [HEADER:VALUE]... <BODY

The keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Prints the
status; the body of the answer goes to standard error unless the status is 2xx
or the method is HEAD. A PUT's body is read from standard input only when one
of the arguments is "-".
"""

import datetime
import hashlib
import hmac
import http.client
import os
import sys
import urllib.parse

REGION = "us-east-1"


def digest(key, text):
    """HMAC-SHA-256, the only step of the key derivation."""
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signed_headers(method, host, path, headers, body, access_key, secret_key, now):
    """The headers to send, with the signature among them."""
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    content = hashlib.sha256(body).hexdigest()
    headers = {name.lower(): value.strip() for name, value in headers.items()}
    headers |= {"host": host, "x-amz-date": moment, "x-amz-content-sha256": content}
    names = sorted(headers)
    canonical = "\n".join(
        [
            method,
            urllib.parse.quote(path, safe="/-_.~"),
            "",
            *(f"{name}:{headers[name]}" for name in names),
            "",
            ";".join(names),
            content,
        ]
    )
    scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = ("AWS4" + secret_key).encode()
    for part in scope.split("/"):
        key = digest(key, part)
    signature = digest(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return headers


def request(endpoint, method, path, headers=None, body=b""):
    """Sends one request and gives back its status and body."""
    host = urllib.parse.urlsplit(endpoint).netloc
    signed = signed_headers(
        method,
        host,
        path,
        headers or {},
        body,
        os.environ["AWS_ACCESS_KEY_ID"],
        os.environ["AWS_SECRET_ACCESS_KEY"],
        datetime.datetime.now(datetime.timezone.utc),
    )
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request(method, urllib.parse.quote(path, safe="/-_.~"), body, signed)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def main(arguments):
    endpoint, method, path, *rest = arguments
    body = sys.stdin.buffer.read() if "-" in rest else b""
    headers = dict(argument.split(":", 1) for argument in rest if argument != "-")
    status, answer = request(endpoint, method, path, headers, body)
    print(status)
    if method != "HEAD" and not 200 <= status < 300:
        print(answer.decode(errors="replace"), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])

"""One request to an S3 server, signed with AWS signature version 4.

    s3_request.py ENDPOINT METHOD /PATH[?QUERY] [HEADER:VALUE]...

The keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Prints the
status, and on further lines the body of the answer if it has one.
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


def sign(method, host, path, query, headers, body, keys, now):
    """The headers to send, with the signature among them."""
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    content = hashlib.sha256(body).hexdigest()
    headers = {name.lower(): value.strip() for name, value in headers.items()}
    headers |= {"host": host, "x-amz-date": moment, "x-amz-content-sha256": content}
    names = sorted(headers)
    lines = [f"{name}:{headers[name]}" for name in names]
    canonical = "\n".join([method, path, query, *lines, "", ";".join(names), content])
    scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    access_key, secret_key = keys
    key = ("AWS4" + secret_key).encode()
    for part in scope.split("/"):
        key = digest(key, part)
    signature = digest(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return headers


def request(endpoint, keys, method, target, headers=None, body=b""):
    """Sends one request and gives back its status and body.

    The keys are the access key and the secret key, the target is a path and
    perhaps a query, neither of them encoded.
    """
    host = urllib.parse.urlsplit(endpoint).netloc
    path, _, query = target.partition("?")
    path = urllib.parse.quote(path, safe="/-_.~")
    pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
    query = urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote, safe="-_.~")
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = sign(method, host, path, query, headers or {}, body, keys, now)
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request(method, path + ("?" + query if query else ""), body, signed)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def main(arguments):
    endpoint, method, target, *headers = arguments
    keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    pairs = dict(header.split(":", 1) for header in headers)
    status, answer = request(endpoint, keys, method, target, pairs)
    print(status)
    if answer:
        print(answer.decode(errors="replace"))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Makes a container of Azure's blob storage, signed with the account's key.

    azure_container.py ENDPOINT ACCOUNT CONTAINER

The key comes from AZURE_KEY. Prints the status: 201, or 409 where it is there.
"""

import base64
import datetime
import hashlib
import hmac
import http.client
import os
import sys
import urllib.parse

VERSION = "2023-11-03"


def main(endpoint, account, container):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    path = f"/{account}/{container}"
    # The method, eleven headers that are not sent, those of the protocol, and what is asked for. The account stands in
    # the path as well as before it, since it is no part of the host.
    parts = ["PUT", *[""] * 11, f"x-ms-date:{now}", f"x-ms-version:{VERSION}", f"/{account}{path}", "restype:container"]
    key = base64.b64decode(os.environ["AZURE_KEY"])
    signature = base64.b64encode(hmac.new(key, "\n".join(parts).encode(), hashlib.sha256).digest()).decode()
    headers = {
        "x-ms-date": now,
        "x-ms-version": VERSION,
        "Authorization": f"SharedKey {account}:{signature}",
        "Content-Length": "0",
    }
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(endpoint).netloc, timeout=30)
    connection.request("PUT", f"{path}?restype=container", headers=headers)
    print(connection.getresponse().status)


if __name__ == "__main__":
    main(*sys.argv[1:])

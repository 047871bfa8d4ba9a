"""Object Lock as a bucket's owner sets it, and as an intruder with all keys meets it.

    object_lock.py ENDPOINT BUCKET default DAYS      a default retention for all objects to come
    object_lock.py ENDPOINT BUCKET destroy PREFIX    tries to delete every version of every object below a prefix

The keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Prints one line of JSON.
"""

import base64
import hashlib
import json
import os
import sys
import xml.etree.ElementTree

from s3_request import request

LOCK = """<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<ObjectLockEnabled>Enabled</ObjectLockEnabled>
<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>{}</Days></DefaultRetention></Rule>
</ObjectLockConfiguration>"""


def versions(listing):
    """Name and version of each object that a listing holds."""
    for element in xml.etree.ElementTree.fromstring(listing).iter():
        if element.tag.rpartition("}")[2] == "Version":
            fields = {child.tag.rpartition("}")[2]: child.text for child in element}
            yield fields["Key"], fields["VersionId"]


def main(endpoint, bucket, action, value):
    keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    if action == "default":
        body = LOCK.format(int(value)).encode()
        checked = {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}
        status, answer = request(endpoint, keys, "PUT", f"/{bucket}?object-lock=", checked, body)
        print(json.dumps({"status": status, "answer": answer.decode(errors="replace")}))
        return
    status, listing = request(endpoint, keys, "GET", f"/{bucket}?versions=&prefix={value}")
    outcome = {"status": status, "versions": 0, "deleted": [], "refused": 0}
    for name, version in versions(listing):
        outcome["versions"] += 1
        status, _ = request(endpoint, keys, "DELETE", f"/{bucket}/{name}?versionId={version}")
        if status < 300:
            outcome["deleted"].append(name)
        else:
            outcome["refused"] += 1
    print(json.dumps(outcome))


main(*sys.argv[1:])

"""Reads objects of Kubernetes as JSON, prints what its schemas have against them; runs in `.clients/kubernetes`."""

import json
import sys

import kubernetes_validate

VERSION = "1.37"


def complaints(objects):
    for each in objects:
        where = f"{each['kind']} {each['metadata']['name']}"
        try:
            kubernetes_validate.validate(each, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{where}: {'.'.join(map(str, error.path))}: {error.message}"


json.dump(list(complaints(json.load(sys.stdin))), sys.stdout)

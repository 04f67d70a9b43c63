"""Reads objects of KServe as JSON, prints the fields that KServe's own models lack; runs in `.clients/kserve`."""

import json
import re
import sys

import kserve.models
import kubernetes.client.models

KINDS = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1alpha1", "TrainedModel"): "V1alpha1TrainedModel",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}
PLAIN = {"str": str, "int": int, "bool": bool, "float": float}


def complaints(value, kind, where):
    """What a value has that its kind has not, and what has another type."""
    if listed := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{where} is no list"
            return
        for number, item in enumerate(value):
            yield from complaints(item, listed[1], f"{where}.{number}")
    elif mapped := re.fullmatch(r"dict\(str, (.+)\)", kind):
        for name, item in value.items():
            yield from complaints(item, mapped[1], f"{where}.{name}")
    elif kind in PLAIN:
        if not isinstance(value, PLAIN[kind]):
            yield f"{where} is no {kind}"
    elif (model := getattr(kserve.models, kind, None) or getattr(kubernetes.client.models, kind, None)) is not None:
        yield from unknown(value, model, where)


def unknown(value, model, where):
    attributes = {name: attribute for attribute, name in model.attribute_map.items()}
    for name, item in value.items():
        if name in attributes:
            yield from complaints(item, model.openapi_types[attributes[name]], f"{where}.{name}")
        else:
            yield f"{where}.{name} is no field of {model.__name__}"


found = []
for each in json.load(sys.stdin):
    found += complaints(each, KINDS[each["apiVersion"], each["kind"]], f"{each['kind']} {each['metadata']['name']}")
json.dump(found, sys.stdout)

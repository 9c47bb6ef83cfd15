"""Validates objects of Kubernetes, YAML on standard input, against the schemas of the releases that are the
arguments, and prints kind and name of each. An unknown field is an error."""

import sys

import kubernetes_validate
import yaml

for document in yaml.safe_load_all(sys.stdin):
    for release in sys.argv[1:]:
        kubernetes_validate.validate(document, release, strict=True)
    print(document["kind"], document["metadata"]["name"])

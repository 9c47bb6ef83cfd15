"""The manifests of Kubernetes, read by its schemas, and what they promise."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients.program import SCRIPTS, find_python, needs
from tests.deploy.settings import KNOWN, get_default
from tests.serving.process import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "kubernetes"
FOLDERS = (FOLDER, FOLDER / "migrate")
RELEASES = ("1.30", "1.37")
"""The oldest and the newest that the manifests are for."""
Document = dict[str, Any]


def read_documents() -> Iterator[Document]:
    """What the kustomizations name, and the example of the secrets."""
    for folder in FOLDERS:
        for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
            yield from yaml.safe_load_all((folder / name).read_text())
    yield from yaml.safe_load_all((FOLDER / "secret.example.yaml").read_text())


def find(kind: str) -> dict[str, Document]:
    """The documents of a kind by name."""
    return {each["metadata"]["name"]: each for each in read_documents() if each["kind"] == kind}


def pods() -> dict[str, Document]:
    """The templates of all pods, by what makes them."""
    makers = find("Deployment") | find("Job")
    return {name: maker["spec"]["template"]["spec"] for name, maker in makers.items()}


def validate(text: str) -> str:
    completed = subprocess.run(
        [find_python("kubernetes-validate"), SCRIPTS / "validate_manifests.py", *RELEASES],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr[-2000:]
    return completed.stdout


@needs("kubernetes-validate")
def test_the_schemas_of_kubernetes_accept_every_manifest() -> None:
    printed = validate(yaml.safe_dump_all(list(read_documents())))
    assert len(printed.splitlines()) == len(list(read_documents())) == 9


@needs("kubernetes-validate")
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
@pytest.mark.parametrize("folder", FOLDERS, ids=["service", "migrate"])
def test_kubectl_puts_image_and_namespace_into_the_manifests(folder: Path) -> None:
    made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout
    validate(made)
    documents = list(yaml.safe_load_all(made))
    assert {each["metadata"]["namespace"] for each in documents} == {"ledger"}
    specs = [each["spec"]["template"]["spec"] for each in documents if each["kind"] in ("Deployment", "Job")]
    assert {spec["containers"][0]["image"] for spec in specs} == {"registry.example.com/ledger:0.1.0"}


def test_every_manifest_is_in_a_kustomization_or_an_example() -> None:
    named = {
        folder / name
        for folder in FOLDERS
        for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    }
    others = {FOLDER / "secret.example.yaml", *(folder / "kustomization.yaml" for folder in FOLDERS)}
    assert set(FOLDER.rglob("*.yaml")) == named | others


def test_a_pod_has_few_rights_and_no_surprising_settings() -> None:
    for spec in pods().values():
        assert spec["automountServiceAccountToken"] is False
        # Else the Service named `ledger` sets LEDGER_PORT in every pod of the namespace.
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert f"--uid {spec['securityContext']['runAsUser']} " in (REPOSITORY / "Dockerfile").read_text()
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"].keys() == {"memory"}
        named = {each["name"]: each for each in container["env"]}
        assert {name for name in named if name.startswith("LEDGER_")} <= KNOWN
        assert all("value" not in each for each in named.values()), "a secret comes from a Secret"
    assert set(find("ConfigMap")["ledger"]["data"]) <= KNOWN


def test_only_the_migration_has_the_owner_of_the_schema() -> None:
    owners = {
        name
        for name, spec in pods().items()
        for each in spec["containers"][0]["env"]
        if each["valueFrom"]["secretKeyRef"]["name"] == "ledger-owner"
    }
    assert owners == {"ledger-migrate"}
    for secret in find("Secret").values():
        assert set(secret["stringData"].values()) == {""}


def test_only_readiness_asks_the_database_and_each_probe_the_right_port() -> None:
    settings = find("ConfigMap")["ledger"]["data"]
    for name, setting in (("ledger-api", "LEDGER_PORT"), ("ledger-worker", "LEDGER_HEALTH_PORT")):
        (container,) = pods()[name]["containers"]
        (port,) = container["ports"]
        assert port["containerPort"] == int(settings[setting])
        paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {kind: each["path"] for kind, each in paths.items()} == {
            "startup": "/healthz",
            "liveness": "/healthz",
            "readiness": "/readyz",
        }
        assert {each["port"] for each in paths.values()} == {port["name"]}
    (service,) = find("Service").values()
    assert service["spec"]["ports"][0]["targetPort"] == "http"


def test_a_pod_has_time_to_drain() -> None:
    drain = int(find("ConfigMap")["ledger"]["data"]["LEDGER_DRAIN_SECONDS"])
    assert drain >= get_default("drain_seconds")
    for name in find("Deployment"):
        spec = pods()[name]
        program, pause = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert program == "sleep"
        assert int(pause) + drain + 10 <= spec["terminationGracePeriodSeconds"]


def test_selectors_find_the_pods() -> None:
    deployments = {name: each["spec"] for name, each in find("Deployment").items()}
    for name, spec in deployments.items():
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        assert find("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"] == labels
        assert spec["replicas"] >= 2
    api_labels = deployments["ledger-api"]["template"]["metadata"]["labels"]
    assert find("Service")["ledger"]["spec"]["selector"] == api_labels

"""Kubernetes objects as kubectl and helm render them, and what Kubernetes' own schemas have against them.

Both programs and the schemas come from packages in `.clients/kubernetes`; neither needs a cluster.
"""

import json
import os
import platform
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.helpers import once
from tests.serving import ROOT

PYTHON = ROOT / ".clients" / "kubernetes" / "bin" / "python"
KUBERNETES, KSERVE = ROOT / "deploy" / "kubernetes", ROOT / "deploy" / "kserve"
CHECK = Path(__file__).with_name("check_objects.py")
RUNS = sys.platform == "linux" and platform.machine() == "x86_64"  # what the package has them for
needs_tools = pytest.mark.skipif(
    not (PYTHON.exists() and RUNS),
    reason=f"{PYTHON} is missing: make .clients/kubernetes.stamp installs it" if RUNS else "needs Linux on x86-64",
)

Objects = list[dict[str, Any]]


class Tools:
    """kubectl and helm, unpacked to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = once(folder, unpack)

    def kustomize(self, folder: Path) -> Objects:
        return self.run("kubectl", "kustomize", str(folder))

    def template(self, *options: str, release: str = "addnorm") -> Objects:
        return self.run("helm", "template", release, str(KUBERNETES / "chart"), *options)

    def run(self, program: str, *arguments: str) -> Objects:
        return [each for each in yaml.safe_load_all(self.text(program, *arguments)) if each]

    def text(self, program: str, *arguments: str) -> str:
        """What a program prints; fails where it does."""
        homes = {f"HELM_{name}_HOME": str(self.folder / "home") for name in ("CACHE", "CONFIG", "DATA")}
        command = [self.folder / program / program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | homes)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def unpack(folder: Path) -> None:
    """From a zip in a tar file in the package."""
    (content,) = (PYTHON.parents[1] / "lib").glob("python*/site-packages/aws_cdk/*/_jsii/*.jsii.tgz")
    making = folder.with_name(f"{folder.name}-making")
    with tarfile.open(content) as archive:
        inner = archive.extractfile("package/lib/layer.zip")
        assert inner is not None
        zipfile.ZipFile(BytesIO(inner.read())).extractall(making)
    for program in ("kubectl", "helm"):
        (making / program / program).chmod(0o755)
    making.rename(folder)


def complaints(objects: Sequence[dict[str, Any]]) -> list[str]:
    """What the schemas of Kubernetes have against the objects: a sentence each."""
    done = subprocess.run([PYTHON, CHECK], input=json.dumps(objects), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def of_kind(objects: Objects, kind: str, name: str | None = None) -> dict[str, Any]:
    """The only one of its kind, or that of a name."""
    (found,) = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return found


def pods(objects: Objects) -> dict[str, dict[str, Any]]:
    """What pods are made of, by the name of their Deployment."""
    return {each["metadata"]["name"]: each["spec"]["template"] for each in objects if each["kind"] == "Deployment"}


def variables(container: dict[str, Any]) -> dict[str, Any]:
    """A container's variables; None where a Secret has the value."""
    return {each["name"]: each.get("value") for each in container["env"]}


def assert_settings(container: dict[str, Any]) -> Settings:
    """The settings that a container's variables and arguments make; all must be such."""
    found = {name.removeprefix("ADDNORM_").lower(): value for name, value in variables(container).items()}
    assert all(name.startswith("ADDNORM_") for name in variables(container))
    assert found.keys() <= Settings.model_fields.keys(), found.keys() - Settings.model_fields.keys()
    return Settings.model_validate({name: value for name, value in found.items() if value is not None})


def assert_confined(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Runs as nobody, may do nothing, and writes to /tmp and what is mounted."""
    both = pod.get("securityContext", {}) | container["securityContext"]
    assert both["runAsNonRoot"] is True and both["readOnlyRootFilesystem"] is True
    assert both["allowPrivilegeEscalation"] is False and both["capabilities"] == {"drop": ["ALL"]}
    assert both["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
    mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
    assert mounted == {volume["name"] for volume in pod.get("volumes", ())}

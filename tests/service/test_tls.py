import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from runtime.artifact import Artifact
from runtime.errors import SettingError
from service.settings import Settings
from service.sockets import check_tls
from tests.service.workers.test_stopping import started

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def make_certificate(directory: Path, name: str, *more: str) -> tuple[Path, Path]:
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *(more or ("-nodes",))], check=True, capture_output=True)
    return cert, key


@pytest.mark.parametrize("workers", [1, 2])
def test_service_answers_over_https(text_artifact: Artifact, tmp_path: Path, workers: int):
    cert, key = make_certificate(tmp_path, "own")
    options = ["--tls-cert", str(cert), "--tls-key", str(key)]
    with started(text_artifact, workers, *options) as service:
        assert service.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(base_url=service.url, verify=trusted, trust_env=False) as client:
            assert client.post("/predict", json={"inputs": "hi"}).status_code == 200
            assert client.get("/health/ready").json()["workers"] == workers
        with pytest.raises(httpx.HTTPError):
            httpx.get(service.url.replace("https", "http"), trust_env=False)


def test_clients_show_a_certificate_where_they_must(text_artifact: Artifact, tmp_path: Path):
    cert, key = make_certificate(tmp_path, "own")
    mine, my_key = make_certificate(tmp_path, "mine")
    other, other_key = make_certificate(tmp_path, "other")
    options = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(mine)]
    with started(text_artifact, 1, *options) as service:
        for shown in (None, (mine, my_key), (other, other_key)):
            trusted = ssl.create_default_context(cafile=str(cert))
            if shown is not None:
                trusted.load_cert_chain(*shown)
            with httpx.Client(base_url=service.url, verify=trusted, trust_env=False) as client:
                if shown == (mine, my_key):
                    assert client.get("/health/ready").status_code == 200
                else:
                    with pytest.raises(httpx.HTTPError):
                        client.get("/health/ready")


def test_what_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path):
    cert, key = make_certificate(tmp_path, "own")
    _, other = make_certificate(tmp_path, "other")
    locked_cert, locked = make_certificate(tmp_path, "locked", "-passout", "pass:secret")
    check_tls(Settings())
    check_tls(Settings(tls_cert=cert, tls_key=key))
    with pytest.raises(SettingError, match=r"^tls_key is missing: "):
        check_tls(Settings(tls_cert=cert))
    with pytest.raises(SettingError, match=r"^tls_cert is missing: "):
        check_tls(Settings(tls_key=key))
    for bad in ((cert, other), (tmp_path / "none", key), (key, cert), (locked_cert, locked)):
        with pytest.raises(SettingError, match=r"cannot be used for TLS \(.*\.$"):
            check_tls(Settings(tls_cert=bad[0], tls_key=bad[1]))
    check_tls(Settings(tls_cert=cert, tls_key=key, tls_client_ca=other.with_suffix(".crt")))
    with pytest.raises(SettingError, match=r"^tls_cert is missing: "):
        check_tls(Settings(tls_client_ca=cert))
    for bad in (tmp_path / "none", key):
        with pytest.raises(SettingError, match=r"cannot be used to check clients \(.*\.$"):
            check_tls(Settings(tls_cert=cert, tls_key=key, tls_client_ca=bad))

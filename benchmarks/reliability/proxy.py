"""Behind nginx that passes `Upgrade` on, as for websockets: does a client ever get another client's answer?"""

import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.reliability.service import serving

CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream service {{ server 127.0.0.1:{port}; keepalive 2; }}
  server {{
    listen 127.0.0.1:{listen};
    location / {{
      proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
    }}
  }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def nginx(port: int) -> Iterator[int]:
    """nginx before a service, with two kept connections to it; gives its port."""
    with tempfile.TemporaryDirectory() as folder:
        listen, config = free_port(), Path(folder) / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, port=port, listen=listen))
        with subprocess.Popen(["nginx", "-c", str(config), "-p", folder], stderr=subprocess.DEVNULL) as process:
            try:
                time.sleep(0.5)
                yield listen
            finally:
                process.terminate()


def smuggling(victims: int = 60) -> Counter[str]:
    """An attacker's bodies hold slow requests behind an `Upgrade`; victims check that their answers are theirs."""
    found, ended = Counter[str](), threading.Event()
    if shutil.which("nginx") is None:
        return Counter({"skipped, nginx is missing": 1})
    smuggled = json.dumps({"inputs": ["smuggled"] * 40}).encode()
    inner = (
        b"\r\n" * 200
        + b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
        + smuggled
    )
    attack = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: %d\r\n\r\n"
    )

    def poison(port: int) -> None:
        while not ended.is_set():
            with socket.create_connection(("127.0.0.1", port)) as attacker:
                attacker.sendall(attack % len(inner) + inner)
                attacker.settimeout(0.2)
                with suppress(OSError):
                    attacker.recv(1 << 16)
                found["attacks"] += 1

    with serving("--workers", "1") as service, nginx(service.port) as port:
        attackers = [threading.Thread(target=poison, args=(port,)) for _ in range(2)]
        for thread in attackers:
            thread.start()
        for number in range(victims):
            rows = number % 7 + 1
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("POST", "/predict", json.dumps({"inputs": ["hi"] * rows}))
            response = connection.getresponse()
            answer = json.loads(response.read())
            found["victims"] += response.status != 200 or len(answer["predictions"]) != rows
            found["asked"] += 1
            connection.close()
        ended.set()
        for thread in attackers:
            thread.join()
        found["tracebacks"], found["left in flight"] = service.tracebacks, service.settle()
    return found

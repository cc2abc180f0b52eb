"""Kafka and Postgres in containers, for test runs on machines with a Docker engine."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

from jobtrail.embedded.jars import Lock
from jobtrail.embedded.kafka import answers

POSTGRES_IMAGE = "postgres:18"

#: The broker must know the address that clients use, which is known when its container runs: it waits for it.
KAFKA_COMMAND = (
    "until [ -s /tmp/address ]; do sleep 0.1; done; "
    'KAFKA_ADVERTISED_LISTENERS="PLAINTEXT://$(cat /tmp/address)" exec /etc/kafka/docker/run'
)

PING = "from testcontainers.core.docker_client import DockerClient; DockerClient().client.ping()"


def engine_answers() -> bool:
    """Whether a Docker engine replies to testcontainers within a few seconds."""
    signs = (shutil.which("docker"), os.environ.get("DOCKER_HOST"), Path("/var/run/docker.sock").exists())
    if not any(signs):
        return False
    try:
        # In a process of its own: a failure leaves sockets open, and warnings are errors here.
        asked = subprocess.run([sys.executable, "-c", PING], capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def shared(run_folder: Path) -> dict[str, str]:
    """Addresses of this run's two containers (keys kafka, postgres); the first worker to ask starts them."""
    noted = run_folder / "addresses.json"
    with (run_folder / "containers.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not noted.exists():
            addresses = {"kafka": _kafka(run_folder), "postgres": _postgres(run_folder)}
            _wait(**addresses)
            noted.write_text(json.dumps(addresses))
    found: dict[str, str] = json.loads(noted.read_text())
    return found


def remove(run_folder: Path) -> None:
    """Removes the containers of this run, if it had any, also those that did not come up."""
    names = _notes(run_folder).read_text().split() if _notes(run_folder).exists() else []
    if names:
        from testcontainers.core.docker_client import DockerClient

        client = DockerClient().client
        for name in names:
            client.api.remove_container(name, v=True, force=True)
        client.close()


def _notes(run_folder: Path) -> Path:
    return run_folder / "containers"


def _container(image: str, environment: dict[str, str], port: int, command: str | list[str]) -> Any:
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    # Its reaper would end them with the worker that started them, while other workers still use them.
    testcontainers_config.ryuk_disabled = True
    container = DockerContainer(image).with_exposed_ports(port).with_command(command)
    return container.with_envs(**environment)


def _start(container: Any, port: int, run_folder: Path) -> str:
    """Starts it, notes it for `remove`; host:port of its `port` as seen from here."""
    container.start()
    with _notes(run_folder).open("a") as notes:
        notes.write(container.get_wrapped_container().id + "\n")
    return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"


def _kafka(run_folder: Path) -> str:
    settings = resources.files("jobtrail.embedded").joinpath("kafka.properties").read_text().splitlines()
    pairs = (line.split("=", 1) for line in settings if "=" in line and not line.startswith("#"))
    environment = {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in pairs} | {
        "KAFKA_LOG_DIRS": "/tmp/kafka-data",  # noqa: S108  # inside the container
        "KAFKA_LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@127.0.0.1:9093",
    }
    image = f"apache/kafka:{Lock.read().kafka}"
    container = _container(image, environment, 9092, ["bash", "-c", KAFKA_COMMAND])
    address = _start(container, 9092, run_folder)
    container.exec(["sh", "-c", f"echo {address} > /tmp/address"])
    _close(container)
    return address


def _postgres(run_folder: Path) -> str:
    environment = {"POSTGRES_USER": "jobtrail", "POSTGRES_DB": "jobtrail", "POSTGRES_PASSWORD": "jobtrail"}
    command = "postgres -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    container = _container(POSTGRES_IMAGE, environment, 5432, command)
    address = _start(container, 5432, run_folder)
    _close(container)
    return f"postgresql://jobtrail:jobtrail@{address}/jobtrail"


def _close(container: Any) -> None:
    """Closes our connection to the engine; the container goes on."""
    container.get_docker_client().client.close()


def _wait(kafka: str, postgres: str) -> None:
    import psycopg

    deadline = time.monotonic() + 90
    while not answers(kafka, 2):
        assert time.monotonic() < deadline, f"no Kafka at {kafka} within 90 s of its container's start"
    while True:
        try:
            psycopg.connect(postgres, connect_timeout=3).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "no Postgres within 90 s of its container's start"
            time.sleep(0.2)
        else:
            return

"""Kafka and Postgres in containers, for test runs on machines with a Docker engine."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import time
from importlib import resources
from pathlib import Path
from typing import Any

from jobtrail.embedded.jars import Lock
from jobtrail.embedded.kafka import answers
from jobtrail.embedded.ports import free_port

POSTGRES_IMAGE = "postgres:18"


def engine_answers() -> bool:
    """Whether a Docker engine replies within a few seconds."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        asked = subprocess.run(
            [docker, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            timeout=10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0 and bool(asked.stdout.strip())


def shared(run_folder: Path) -> dict[str, str]:
    """Addresses of this run's two containers (keys kafka, postgres); the first worker to ask starts them."""
    noted = run_folder / "containers.json"
    with (run_folder / "containers.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not noted.exists():
            kafka, postgres = _kafka(), _postgres()
            noted.write_text(json.dumps({"kafka": kafka, "postgres": postgres}))
            _wait(kafka["address"], postgres["address"])
    return {name: found["address"] for name, found in json.loads(noted.read_text()).items()}


def remove(run_folder: Path) -> None:
    """Removes the containers of this run, if it had any."""
    noted = run_folder / "containers.json"
    if noted.exists():
        for found in json.loads(noted.read_text()).values():
            subprocess.run(
                ["docker", "rm", "--force", "--volumes", found["id"]], capture_output=True, check=False
            )


def _container(image: str, environment: dict[str, str]) -> Any:
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    # Its reaper would end them with the worker that started them, while other workers still use them.
    testcontainers_config.ryuk_disabled = True
    container = DockerContainer(image)
    for name, value in environment.items():
        container.with_env(name, value)
    return container


def _kafka() -> dict[str, str]:
    port = free_port()
    settings = resources.files("jobtrail.embedded").joinpath("kafka.properties").read_text().splitlines()
    pairs = (line.split("=", 1) for line in settings if "=" in line and not line.startswith("#"))
    environment = {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in pairs} | {
        "KAFKA_LOG_DIRS": "/tmp/kafka-data",  # noqa: S108  # inside the container
        "KAFKA_LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@127.0.0.1:9093",
    }
    container = _container(f"apache/kafka:{Lock.read().kafka}", environment)
    container.with_bind_ports(9092, port)
    container.start()
    return {"id": container.get_wrapped_container().id, "address": f"127.0.0.1:{port}"}


def _postgres() -> dict[str, str]:
    environment = {"POSTGRES_USER": "jobtrail", "POSTGRES_DB": "jobtrail", "POSTGRES_PASSWORD": "jobtrail"}
    container = _container(POSTGRES_IMAGE, environment)
    container.with_exposed_ports(5432)
    container.with_command("postgres -c fsync=off -c synchronous_commit=off -c full_page_writes=off")
    container.start()
    address = f"{container.get_container_host_ip()}:{container.get_exposed_port(5432)}"
    return {
        "id": container.get_wrapped_container().id,
        "address": f"postgresql://jobtrail:jobtrail@{address}/jobtrail",
    }


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

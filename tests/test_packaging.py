"""What is installed works from anywhere, brings its data, and loads no more than it needs."""

from __future__ import annotations

import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: What a connector's author must not have to load, or even to have.
HEAVY = {
    "polars",
    "pyarrow",
    "pyruhvro",
    "psycopg",
    "fastapi",
    "starlette",
    "uvicorn",
    "yoyo",
    "rich",
    "jgo",
    "faust",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_one_package_with_all_rooms_and_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"jobtrail"}
    for needed in (
        "jobtrail/producers/job.py",
        "jobtrail/consumers/projector.py",
        "jobtrail/projections/derive.sql",
        "jobtrail/avro/StreamStats.v1.avsc",
        "jobtrail/migrations/read_models/0002_failure_summary.sql",
        "jobtrail/embedded/kafka.lock",
        "jobtrail/demo/faker-requirements.txt",
        "jobtrail/py.typed",
    ):
        assert names.count(needed) == 1, needed


def test_a_clean_environment_needs_the_base_install_only(wheel: Path, tmp_path: Path) -> None:
    """In a folder that has a `producers/` of its own, as a connector's may."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel],
        check=True,
        capture_output=True,
        timeout=150,
    )
    folder = tmp_path / "elsewhere"
    (folder / "producers").mkdir(parents=True)
    (folder / "producers" / "__init__.py").write_text("raise SystemExit('this is not the producers room')")
    program = (
        "from jobtrail import Job, Attempt, codec, events\n"
        "event = events.JobFailed(job_id=1)\n"
        "assert codec.decode(codec.encode(event)) == event\n"
        "print('read back')\n"
    )

    def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )

    assert ran("-W", "error", "-c", program).stdout == "read back\n"
    assert "usage: jobtrail tap" in ran(str(environment / "bin" / "jobtrail"), "tap", "--help").stdout
    followed = ran("-W", "error", "-c", "import jobtrail; next(iter(jobtrail.follow(types='Failure')))")
    assert "EmbeddedError: no Kafka runs under" in followed.stderr
    assert "usage: jobtrail tail" in ran(str(environment / "bin" / "jobtrail"), "tail", "--help").stdout
    missing = ran(str(environment / "bin" / "jobtrail"), "projector")
    assert missing.returncode == 2
    assert "pip install 'jobtrail[server" in missing.stderr
    assert "Traceback" not in missing.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import jobtrail",
        "from jobtrail import Job, Attempt",
        "from jobtrail import follow, frame",
        "import jobtrail.cli.tail",
    ],
)
def test_the_sdk_loads_no_server(statement: str) -> None:
    listed = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*{{m.split('.')[0] for m in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not HEAVY & set(listed.stdout.split())


def test_import_is_quick() -> None:
    """At most 0.25 s over a bare interpreter; the best of several, since a busy machine only adds."""

    def best(statement: str) -> float:
        taken = []
        for _ in range(5):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            taken.append(time.perf_counter() - begun)
        return min(taken)

    assert best("import jobtrail") - best("pass") <= 0.25

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from cli_scenes import COMMAND, jobtrail, unset

from jobtrail.api.app import create_app
from jobtrail.api.database import reading
from jobtrail.cli.main import COMMANDS, EXTRA_MODULES, run
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.errors import EmbeddedError
from jobtrail.settings import Settings

ROOT = Path(__file__).parent.parent.parent
SUBCOMMANDS = {
    "jobs": ("list", "show", "watch", "cancel"),
    "anomalies": ("list",),
    "dead-letters": ("list", "show", "retry", "drop", "export"),
    "schedules": ("list", "run"),
    "alerts": ("check", "test", "run", "list"),
    "archive": ("verify", "list"),
    "worker-config": ("show", "render", "variables"),
}
EVERY = [
    *([name] for name in COMMANDS),
    *([name, sub] for name, subs in SUBCOMMANDS.items() for sub in subs),
]


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_every_command_shows_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """--help ends with something that can be typed."""
    with pytest.raises(SystemExit, match=r"^0$"):
        run([*command, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: jobtrail {' '.join(command)}")
    _, _, example = shown.rpartition("example")
    assert f"jobtrail {command[0]}" in example


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert run([]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["job"], "no command 'job'; did you mean 'jobs'?"),
        (["jobs", "lst"], "did you mean 'list'?"),
        (["jobs", "list", "--statsu", "failed"], "'--statsu' is not known; did you mean '--status'?"),
        (["jobs", "list", "--status", "sucess"], "did you mean 'succeeded'?"),
        (["jobs", "list", "--limit", "0"], "no number from 1"),
        (["jobs", "show"], "required: ID"),
        (["jobs", "show", "-1"], "jobtrail jobs show --help"),
        (["jobs", "show", "9007199254740992"], "no job id"),
        (["jobs", "show", "\uff11"], "no job id"),
        (["jobs", "cancel", "1", "--wait", "nan"], "no number of seconds"),
        (["jobs", "show", "1\x1b[2J"], r"1\x1b[2J"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says what is wrong and what may have been meant."""
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("jobtrail: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert "\x1b" not in shown.err
    assert shown.out == ""


def test_a_wrong_setting_is_named(settings: Settings) -> None:
    found = jobtrail(settings, "jobs", "list", JOBTRAIL_API_PROT="1")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "JOBTRAIL_API_PROT" in found.stderr


def test_with_nothing_running_it_says_what_to_start(settings: Settings, tmp_path: Path) -> None:
    """Status 3, one line, and the way out."""
    readers = (["jobs", "list"], ["jobs", "show", "1"], ["anomalies", "list"])
    for command in (*readers, ["migrate"], ["projector"], ["api"]):
        found = jobtrail(unset(settings, tmp_path / "empty"), *command)
        assert (found.returncode, found.stderr.count("\n")) == (3, 1), found.stderr
        assert "jobtrail up" in found.stderr


def test_readers_and_the_projector_miss_postgres_in_the_same_words(
    settings: Settings, tmp_path: Path
) -> None:
    """Started as a library or as a command: one error, with one exit status."""
    nothing = unset(settings, tmp_path / "empty")
    said = set()
    for start in (project_until_caught_up, create_app, lambda found: reading(found).__enter__()):
        with pytest.raises(EmbeddedError, match=r"JOBTRAIL_DATABASE_URL.*jobtrail up") as raised:
            start(nothing.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"}))
        said.add((str(raised.value), raised.value.exit_status))
    assert len(said) == 1
    assert said.pop()[1] == 3


def test_a_postgres_that_is_away_is_named_without_its_password(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://somebody:secret@127.0.0.1:9/jobtrail"})
    found = jobtrail(away, "jobs", "list")
    assert (found.returncode, found.stderr.count("\n")) == (3, 1)
    assert "127.0.0.1:9/jobtrail" in found.stderr
    assert "JOBTRAIL_DATABASE_URL" in found.stderr
    assert "secret" not in found.stderr


@pytest.mark.parametrize(
    ("module", "command", "extras"),
    [("psycopg", ["jobs", "list"], "server,embedded"), ("faust", ["analytics"], "server,analytics")],
)
def test_a_missing_extra_is_one_line(module: str, command: list[str], extras: str) -> None:
    """The base install has the SDK and the tap; what needs more says how to get it."""
    code = (
        f"import sys; sys.modules[{module!r}] = None;"
        f"from jobtrail.cli.main import run; sys.exit(run({command!r}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert f"pip install 'jobtrail[{extras}]'" in found.stderr
    assert found.stderr.count("\n") == 1


def test_each_requirement_of_the_extras_is_known_as_one() -> None:
    """Where one is missing, `run` says what to install; so its module must be in EXTRA_MODULES."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    modules = defaultdict(set)
    for module, distributions in packages_distributions().items():
        for distribution in distributions:
            modules[_normal(distribution)].add(module)
    extras = project["optional-dependencies"]
    for requirement in {*extras["server"], *extras["embedded"]}:
        name, brackets, elsewhere = re.fullmatch(
            r"([\w.-]+)(?:\[([\w,-]+)\])?[^;]*(;.*)?", requirement
        ).groups()  # type: ignore[union-attr]  # else the test fails, as it should
        found = modules[_normal(name)]
        assert found or elsewhere, f"{name} is not installed"
        assert not found or found & EXTRA_MODULES, f"{name} brings {found}"
        for part in (brackets or "").split(","):
            # An extra of theirs may be a distribution of its own, with a module that we import: psycopg_pool.
            imported = {module for module in modules[_normal(f"{name}-{part}")] if _is_imported(module)}
            assert imported <= EXTRA_MODULES


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _is_imported(module: str) -> bool:
    statement = re.compile(rf"^\s*(?:from|import) {module}\b", re.MULTILINE)
    return any(statement.search(path.read_text("utf-8")) for path in (ROOT / "jobtrail").rglob("*.py"))


def test_a_closed_pipe_is_no_error() -> None:
    """As in `jobtrail --help | true`."""
    process = subprocess.Popen([*COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) in {0, 141}


def test_help_loads_no_server_parts() -> None:
    """`jobtrail --help` answers at once."""
    code = (
        "import sys; from jobtrail.cli.main import run; run(['--help']);"
        "print({'polars', 'psycopg', 'fastapi', 'rich', 'confluent_kafka', 'pydantic'} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("set()\n")

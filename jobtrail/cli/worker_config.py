"""`jobtrail worker-config`: how workers of each job type run, where that came from, and such a pod."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from typing import Any, Final

from jobtrail.cli.parsing import Parser, attempt_number, job_id, subcommands
from jobtrail.cli.terminal import as_json, line, table, visible
from jobtrail.events import ConfigType
from jobtrail.job_types import JobType
from jobtrail.settings import Settings
from jobtrail.worker_config import pod, syntax
from jobtrail.worker_config.config import ENVIRONMENT_PREFIX, Documented, WorkerConfig, documented

#: The image that compose.yaml builds.
TAP_IMAGE: Final = "jobtrail:local"
SECRET: Final = "jobtrail-kafka"  # noqa: S105  # a Secret's name


def configure(parser: Parser, _name: str) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser)
    parser.example("jobtrail worker-config show check")
    shown = commands.add_parser(
        "show",
        help="each value, and where it came from",
        description="Shows how the workers of a job type run, and the variable that each value came from. "
        "Values of JOB_DEFAULT_ENV_* may be secret, and are not shown.",
    )
    shown.add_argument("type", nargs="?", choices=[*JobType], metavar="TYPE", help=_types())
    shown.add_argument("--json", action="store_true", help="a JSON object; without TYPE a list of them")
    shown.example("jobtrail worker-config show replication --json")
    shown.set_defaults(run=_show, parser=shown)
    listed = commands.add_parser(
        "variables",
        help="every variable, its default and what it falls back to",
        description="Lists every variable of the worker configuration: how it is written, its default, and "
        "the variable that is used where it is not set.",
    )
    listed.add_argument("--json", action="store_true", help="a JSON list")
    listed.example("jobtrail worker-config variables")
    listed.set_defaults(run=_variables, parser=listed)
    _configure_render(commands.add_parser("render", help="a Kubernetes pod that runs and tracks a connector"))


def _configure_render(parser: Parser) -> None:
    parser.description = (
        "Prints the manifest of a Kubernetes pod that runs a connector by the configuration of its job type, "
        "its output through `jobtrail tap`. The connector's image needs sh. Settings of Kafka are those of "
        "this environment; passwords and keys come from a Secret, whose keys are the variables' names."
    )
    parser.add_argument("type", choices=[*JobType], metavar="TYPE", help=_types())
    parser.add_argument("--image", type=_of(syntax.image), required=True, help="the connector's image")
    parser.add_argument(
        "--connection", metavar="ID", help="the connection; without one the job is the image's"
    )
    parser.add_argument("--workspace", metavar="ID", help="the workspace that the job belongs to")
    parser.add_argument(
        "--config-type",
        choices=[*ConfigType],
        metavar="TYPE",
        help="what kind of job it is (default by TYPE)",
    )
    parser.add_argument("--job", type=job_id, metavar="ID", help="the job's id (default: a new one)")
    parser.add_argument(
        "--attempt", type=attempt_number, metavar="N", help="with --job: attempt N of a job that exists"
    )
    parser.add_argument("--name", type=_of(syntax.dns_label), help="of the pod (default: made from the job)")
    parser.add_argument(
        "--tap-image", type=_of(syntax.image), default=TAP_IMAGE, help=f"with jobtrail (default {TAP_IMAGE})"
    )
    parser.add_argument(
        "--secret", type=_of(syntax.object_name), default=SECRET, help=f"the Secret (default {SECRET})"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of YAML")
    parser.add_argument("command", nargs="+", metavar="CMD", help="the connector's command, after --")
    parser.example(
        "jobtrail worker-config render spec --image airbyte/source-faker:latest "
        "-- sh -c '$AIRBYTE_ENTRYPOINT spec' | kubectl apply -f -"
    )
    parser.set_defaults(run=_render, parser=parser)


def _types() -> str:
    return ", ".join(JobType)


def _of(parse: Callable[[str], str]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        try:
            return parse(text)
        except syntax.PartError as error:
            raise ArgumentTypeError(str(error)) from None

    return checked


def _show(options: Namespace) -> int:
    settings = Settings.from_env()
    types = [JobType(options.type)] if options.type else list(JobType)
    configs = [WorkerConfig.from_env(one, settings) for one in types]
    if options.json:
        found = [config.model_dump(mode="json", by_alias=True) for config in configs]
        as_json(found[0] if options.type else found)
        return 0
    for config in configs:
        line(f"Job type {config.job_type}", style="bold")
        table(("setting", "value", "from"), [*_rows(config)])
    return 0


def _rows(config: WorkerConfig) -> list[list[str]]:
    written: dict[str, Callable[[Any], str]] = {
        "status_check_interval": "{:g} s".format,
        "tolerations": syntax.tolerations_text,
        "image_pull_secrets": ",".join,
        **dict.fromkeys(("node_selectors", "labels", "annotations"), syntax.pairs_text),
    }
    rows = [
        [field.replace("_", " "), written.get(field, str)(value) if value else "-", source]
        for field, source in config.sources.items()
        if field != "environment"
        for value in [getattr(config, field)]
    ]
    environment = [[f"variable {name}", "(set)", ENVIRONMENT_PREFIX + name] for name in config.environment]
    return rows + environment


def _variables(options: Namespace) -> int:
    if options.json:
        as_json([one._asdict() for one in documented()])
    else:
        table(Documented._fields, [[cell or "-" for cell in one] for one in documented()])
    return 0


def _render(options: Namespace) -> int:
    settings = Settings.from_env()
    manifest = pod.pod(
        WorkerConfig.from_env(JobType(options.type), settings),
        settings,
        image=options.image,
        command=options.command,
        tracked=pod.Tracked(
            options.connection, options.workspace, options.config_type, options.job, options.attempt
        ),
        name=options.name,
        tap_image=options.tap_image,
        secret=options.secret,
    )
    if keys := pod.from_secret(settings):
        _note(f"the pod needs the Secret {options.secret} with the keys {', '.join(keys)}")
    for variable, path in pod.files(settings).items():
        _note(f"{variable}: the tap's image must have the file {path}")
    if options.json:
        as_json(manifest)
    else:
        print(pod.as_yaml(manifest), end="")
    return 0


def _note(text: str) -> None:
    print(f"jobtrail: {visible(text)}", file=sys.stderr)

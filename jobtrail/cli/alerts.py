"""`jobtrail alerts`: checks rules, tries them on the past, runs them, and shows what they found."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobtrail.cli.parsing import Parser, moment, positive, subcommands
from jobtrail.cli.terminal import as_json, clock, line, span, table, visible
from jobtrail.errors import UsageError
from jobtrail.settings import Settings

if TYPE_CHECKING:
    from jobtrail.consumers.alerts.engine import Fired
    from jobtrail.consumers.alerts.rules import RuleSet

RULES_SETTING = "JOBTRAIL_ALERT_RULES"


def configure(parser: Parser, _name: str) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser)
    parser.example("jobtrail alerts test rules.toml", f"{RULES_SETTING}=rules.toml jobtrail up")
    check = commands.add_parser(
        "check",
        help="whether a file of rules is right",
        description="Checks a file of rules (TOML or YAML) and says each mistake with its line. "
        "Asks no server.",
    )
    _rules_argument(check)
    check.add_argument("--json", action="store_true", help="rules, or mistakes, as JSON")
    check.example("jobtrail alerts check rules.toml")
    check.set_defaults(run=_check, parser=check)
    test = commands.add_parser(
        "test",
        help="when rules would have triggered in the past",
        description="Replays the history in the read models and says when each alert would have triggered "
        "and resolved. Changes and sends nothing.",
    )
    _rules_argument(test)
    test.add_argument(
        "--since", type=moment, metavar="TIME", help="from this moment on (default: the first run)"
    )
    test.add_argument("--until", type=moment, metavar="TIME", help="to this moment (default: now)")
    test.add_argument("--json", action="store_true", help="alerts and a summary of each rule as JSON")
    test.example("jobtrail alerts test rules.toml --since 2026-01-01T00:00:00Z")
    test.set_defaults(run=_test, parser=test)
    run = commands.add_parser(
        "run",
        help="judge, and send what triggers",
        description="Judges the rules minute by minute and sends alerts to the topic, the log and webhooks, "
        "until Ctrl-C. Any number may run; each alert is sent once. `jobtrail up` does the same where "
        f"{RULES_SETTING} names a file.",
    )
    _rules_argument(run)
    run.example("jobtrail alerts run rules.toml")
    run.set_defaults(run=_run, parser=run)
    listed = commands.add_parser(
        "list",
        help="open and recent alerts",
        description="Lists open alerts, and those of the last days that resolved.",
    )
    listed.add_argument("--open", action="store_true", help="only open ones")
    listed.add_argument("--limit", type=positive, default=100, metavar="N", help="at most N (default 100)")
    listed.add_argument("--json", action="store_true", help="as JSON, with what was sent")
    listed.example("jobtrail alerts list --open")
    listed.set_defaults(run=_list, parser=listed)


def _rules_argument(parser: Parser) -> None:
    parser.add_argument(
        "rules", type=Path, nargs="?", metavar="RULES", help=f"the file; default: that of {RULES_SETTING}"
    )


def _file(options: Namespace, settings: Settings) -> Path:
    found: Path | None = options.rules or settings.alert_rules
    if found is None:
        raise UsageError(f"which rules? name a file, or set {RULES_SETTING}")
    return found


def _check(options: Namespace) -> int:
    from jobtrail.consumers.alerts.rule_file import RuleFileError, load

    file = _file(options, Settings.from_env())
    try:
        rules = load(file)
    except RuleFileError as error:
        if options.json:
            mistakes = [{"line": m.line, "field": m.field, "found": m.found} for m in error.mistakes]
            as_json({"file": error.file, "ok": False, "mistakes": mistakes})
        else:
            for mistake in error.mistakes:
                print(f"jobtrail: {visible(error.told(mistake))}", file=sys.stderr)
        return error.exit_status
    if options.json:
        as_json({"file": str(file), "ok": True, "rules": [_rule(one) for one in rules.rules]})
        return 0
    table(
        ("rule", "kind", "severity", "version", "scope", "sends to"),
        [[one.name, one.kind, one.severity, one.version, _scope(one), _sends(one)] for one in rules.rules],
    )
    unset = _unset(rules)
    for name, variable in unset:
        line(f"note: webhook {name} needs {variable}, which is not set here", style="yellow")
    return 0


def _rule(one: Any) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "severity": one.severity,
        "version": one.version,
        "connections": sorted(one.connections),
        "workspaces": sorted(one.workspaces),
        "send": list(one.send),
        "thresholds": _thresholds(one),
    }


def _thresholds(one: Any) -> dict[str, Any]:
    """Spans in seconds."""
    from jobtrail.consumers.alerts.rules import SECOND, THRESHOLDS

    return {
        name: value / SECOND if THRESHOLDS[one.kind][name].measure == "span" else value
        for name, value in one.thresholds.items()
    }


def _scope(one: Any) -> str:
    if not one.kind.by_connection:
        return "the installation"
    parts = [
        f"{len(ids)} {what}{'s' * (len(ids) > 1)}"
        for what, ids in (("connection", one.connections), ("workspace", one.workspaces))
        if ids
    ]
    return " in ".join(parts) or "all connections"


def _sends(one: Any) -> str:
    return ", ".join(("topic", *one.send))


def _unset(rules: RuleSet) -> list[tuple[str, str]]:
    import os

    return [
        (hook.name, variable)
        for hook in rules.webhooks.values()
        for variable in (hook.url_env, hook.secret_env)
        if variable and not os.environ.get(variable)
    ]


def _test(options: Namespace) -> int:
    settings = Settings.from_env()
    from jobtrail.api.database import reading
    from jobtrail.cli.progress import Shown
    from jobtrail.consumers.alerts.engine import replay
    from jobtrail.consumers.alerts.reading import facts_of, first_run, now
    from jobtrail.consumers.alerts.rule_file import load
    from jobtrail.kinds import micros

    file = _file(options, settings)
    rules = load(file)
    with Shown(sys.stderr, quiet=2.0) as shown, reading(settings) as database:
        until = options.until or now(database)
        begin = first_run(database)
        since = options.since or begin or until
        if since > until:
            raise UsageError(f"--since {since.isoformat()} is later than --until {until.isoformat()}")
        # What is usual is told by all that was before.
        facts = facts_of(
            database,
            min(since, begin or since),
            until,
            settings.pickup_limit,
            lambda done, of: shown("reading runs", done, of),
        )
        found = replay(
            rules, facts, micros(since), micros(until), lambda done, of: shown("judging", done, of)
        )
    runs = sum(len(history.runs) for history in facts.histories.values())
    if options.json:
        as_json(
            {
                "since": _instant(since),
                "until": _instant(until),
                "runs": runs,
                "connections": len(facts.histories),
                "alerts": [_fired_json(one) for one in found],
                "rules": _summaries(rules, found),
            }
        )
    else:
        _show_tested(rules, found)
        line(
            f"{clock(since)} to {clock(until)}: {runs:,} runs of {len(facts.histories):,} connections, "
            f"{len(found):,} alerts; nothing was sent",
            style="dim",
        )
    return 0


def _show_tested(rules: RuleSet, found: Sequence[Fired]) -> None:
    from jobtrail.consumers.alerts.reading import from_micros

    if found:
        table(
            ("triggered", "resolved", "after", "rule", "subject", "why"),
            [
                [
                    clock(from_micros(one.triggered)),
                    "open" if one.resolved is None else clock(from_micros(one.resolved)),
                    "-" if one.resolved is None else span((one.resolved - one.triggered) / 1e6),
                    one.rule.name,
                    one.subject,
                    one.verdict.detail,
                ]
                for one in found
            ],
        )
        line("")
    table(
        ("rule", "kind", "alerts", "open", "subjects"),
        [
            [
                summary["rule"],
                summary["kind"],
                *(str(summary[name]) for name in ("alerts", "open", "subjects")),
            ]
            for summary in _summaries(rules, found)
        ],
        ("alerts", "open", "subjects"),
    )


def _summaries(rules: RuleSet, found: Sequence[Fired]) -> list[dict[str, Any]]:
    summaries = []
    for rule in rules.rules:
        ours = [one for one in found if one.rule is rule]
        summaries.append(
            {
                "rule": rule.name,
                "kind": rule.kind,
                "alerts": len(ours),
                "open": sum(one.resolved is None for one in ours),
                "subjects": len({one.subject for one in ours}),
            }
        )
    return summaries


def _fired_json(one: Fired) -> dict[str, Any]:
    from jobtrail.consumers.alerts.reading import from_micros

    return {
        "alertId": one.alert_id,
        "rule": one.rule.name,
        "ruleVersion": one.rule.version,
        "kind": one.rule.kind,
        "severity": one.rule.severity,
        "subject": one.subject,
        "windowBeganAt": _instant(from_micros(one.verdict.began)),
        "windowEndedAt": _instant(from_micros(one.verdict.ended)),
        "triggeredAt": _instant(from_micros(one.triggered)),
        "resolvedAt": None if one.resolved is None else _instant(from_micros(one.resolved)),
        "detail": one.verdict.detail,
    }


def _instant(found: datetime | None) -> str | None:
    return None if found is None else found.astimezone(UTC).isoformat()


def _run(options: Namespace) -> int:

    from jobtrail.cli.roles import alone
    from jobtrail.consumers.alerts.alerter import prepared, run_alerter

    rules = prepared(_file(options, Settings.from_env()))
    count = len(rules.rules.rules)
    said = f"judging {count} {'rule' if count == 1 else 'rules'} over {{topic}} at {{kafka}}; Ctrl-C ends"

    def work(settings: Settings, stop: threading.Event) -> None:
        run_alerter(settings, rules, stop)

    return alone(said, alerter=work)


def _list(options: Namespace) -> int:
    from jobtrail.api.database import reading
    from jobtrail.consumers.alerts.alerter import listed

    with reading(Settings.from_env()) as database:
        found, counted = listed(database, only_open=options.open, limit=options.limit)
    if options.json:
        as_json(
            {"open": counted["open"], "total": counted["alerts"], "alerts": [_json(one) for one in found]}
        )
        return 0
    if not found:
        line("no open alerts" if options.open else "no alerts", style="green")
        return 0
    table(
        ("triggered", "resolved", "severity", "rule", "subject", "told", "why"),
        [
            [
                clock(one["triggered_at"]),
                "open" if one["resolved_at"] is None else clock(one["resolved_at"]),
                one["severity"],
                one["rule"],
                one["subject"],
                _told(one),
                one["detail"],
            ]
            for one in found
        ],
    )
    shown = counted["open"] if options.open else counted["alerts"]
    if shown > len(found):
        line(f"{len(found)} of {shown:,} alerts; --limit shows more", style="dim")
    return 0


def _told(one: dict[str, Any]) -> str:
    """Where it was sent to, in short; what went wrong before all else."""
    if not one["sent"]:
        return "no: older than its rule"
    parts = []
    for channel in dict.fromkeys(delivery["channel"] for delivery in one["deliveries"]):
        ours = [delivery for delivery in one["deliveries"] if delivery["channel"] == channel]
        if bad := next((d for d in ours if d["givenUpAt"]), None):
            parts.append(f"{channel} given up ({bad['problem']})")
        elif bad := next((d for d in ours if d["problem"]), None):
            parts.append(f"{channel} waits ({bad['problem']})")
        else:
            parts.append(channel if all(d["deliveredAt"] for d in ours) else f"{channel} waits")
    return ", ".join(parts)


def _json(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "alertId": one["alert_id"],
        "rule": one["rule"],
        "ruleVersion": one["rule_version"],
        "kind": one["kind"],
        "severity": one["severity"],
        "subject": one["subject"],
        "connectionId": one["connection_id"],
        "workspaceId": one["workspace_id"],
        "windowBeganAt": _instant(one["window_began_at"]),
        "windowEndedAt": _instant(one["window_ended_at"]),
        "triggeredAt": _instant(one["triggered_at"]),
        "detail": one["detail"],
        "resolvedAt": _instant(one["resolved_at"]),
        "resolution": one["resolution"],
        "sent": one["sent"],
        "deliveries": one["deliveries"],
    }

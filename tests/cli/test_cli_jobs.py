from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import threading
import time
from datetime import datetime

from cli_scenes import (
    COMMAND,
    NASTY,
    created,
    environment,
    failed_job,
    jobtrail,
    made,
    publish,
    start,
    succeeded_job,
)

from jobtrail import events as e
from jobtrail.consumers.projector import run_projector
from jobtrail.producers.job import Job
from jobtrail.producers.logs import AttemptLog
from jobtrail.settings import Settings


def test_list_shows_the_newest_first_with_whose_fault_it_was(settings: Settings) -> None:
    publish(settings, [*failed_job(1), *succeeded_job(2)])
    found = jobtrail(settings, "jobs", "list")
    assert (found.returncode, found.stderr) == (0, "")
    head, *rows = found.stdout.splitlines()
    assert head.split()[:4] == ["id", "status", "type", "connection"]
    assert head.split()[4:7] == ["created", "started", "took"]
    assert {row.split()[0]: row.split()[1] for row in rows} == {"2": "succeeded", "1": "failed"}
    (failed,) = (row for row in rows if "failed" in row)
    assert "source: Something went wrong within the source connector" in failed
    assert failed.split()[9:13] == ["s", "200", "120", "20.0"]


def test_a_job_that_waits_is_listed_with_when_it_was_made(settings: Settings) -> None:
    """What has not begun has "-" for when it did, and how long it took."""
    publish(settings, [created(3)])
    (row,) = jobtrail(settings, "jobs", "list").stdout.splitlines()[1:]
    cells = re.split(r" {2,}", row.strip())
    assert cells[:4] == ["3", "pending", "sync", "connection-1"]
    assert datetime.fromisoformat(cells[4]).astimezone() == start()
    assert cells[5:] == ["-"] * 5


def test_list_filters_and_speaks_json(settings: Settings) -> None:
    """The JSON is that of jobs/list."""
    publish(settings, [*failed_job(1), *succeeded_job(2)])

    def ids(*options: str) -> list[int]:
        found = jobtrail(settings, "jobs", "list", "--json", *options)
        return [entry["job"]["id"] for entry in json.loads(found.stdout)["jobs"]]

    assert sorted(ids()) == [1, 2]
    assert ids("--status", "failed", "--status", "cancelled") == [1]
    assert ids("--connection", "connection-2") == [2]
    assert ids("--type", "get_spec") == []
    for option, wrong, meant in (("--type", "synch", "sync"), ("--status", "faild", "failed")):
        refused = jobtrail(settings, "jobs", "list", option, wrong)
        assert (refused.returncode, f"did you mean '{meant}'?" in refused.stderr) == (2, True)
    found = jobtrail(settings, "jobs", "list", "--limit", "1", "--json")
    assert (len(json.loads(found.stdout)["jobs"]), json.loads(found.stdout)["totalJobCount"]) == (1, 2)


def test_show_gives_the_answer_first(settings: Settings) -> None:
    """Status, fault and what was committed, then attempts, streams, failures, logs."""
    publish(settings, failed_job(1))
    log = AttemptLog(settings.home, 1, 0, 10_000)
    log.write("source", "the last words")
    log.close()
    shown = jobtrail(settings, "jobs", "show", "1").stdout
    first = shown.splitlines()[:3]
    assert first[0] == "Job 1 failed: sync of connection-1"
    assert first[1].startswith("  the source is at fault: Something went wrong within the source connector")
    assert first[2] == "  120 records committed; 200 records (20.0 kB) emitted; a partial success"
    assert "users: read timed out" in shown
    assert "worker-1" in shown
    assert "line of the trace" not in shown
    assert "the last words" not in shown
    full = jobtrail(settings, "jobs", "show", "1", "--stacktrace", "--logs").stdout
    assert "line of the trace" in full
    assert "the last words" in full
    answer = json.loads(jobtrail(settings, "jobs", "show", "1", "--json").stdout)
    assert answer["job"]["status"] == "failed"
    assert answer["attempts"][0]["attempt"]["failureSummary"]["partialSuccess"] is True
    assert answer["anomalies"] == []


def test_how_long_a_job_took_is_told_by_its_own_instants(settings: Settings) -> None:
    """Not by whole seconds; one that waits for a retry runs no more."""
    about = {"job_id": 1, "attempt_number": 0}
    publish(settings, [created(1), made(e.AttemptStarted, 1.6, **about), made(e.AttemptFailed, 4, **about)])
    for _ in range(2):
        shown = jobtrail(settings, "jobs", "show", "1").stdout
        assert ", ran for 2.4 s, waits for a retry since 20" in shown
        assert "2.4 s" in jobtrail(settings, "jobs", "list").stdout
    publish(settings, [made(e.JobFailed, 5, job_id=1)])
    assert ", took 3.4 s\n" in jobtrail(settings, "jobs", "show", "1").stdout


def test_a_job_that_does_not_exist_is_status_1(settings: Settings) -> None:
    for command in ("show", "watch", "cancel"):
        found = jobtrail(settings, "jobs", command, "4711")
        assert (found.returncode, found.stderr) == (1, "jobtrail: there is no job 4711\n")


def test_names_cannot_move_the_terminal(settings: Settings) -> None:
    """Escapes, controls and direction marks are shown, not obeyed; markup is text; on a terminal too."""
    publish(settings, failed_job(1, stream=NASTY))
    for arguments in (("jobs", "show", "1"), ("jobs", "show", "1", "--json")):
        shown = jobtrail(settings, *arguments).stdout
        assert not set(shown) & set("\x1b\r\x07\u202e")
        assert "[bold red]x[/]" in shown
    on_terminal = in_terminal(settings, "jobs", "show", "1")
    assert "\x1b[31mers" not in on_terminal
    assert not set(on_terminal) & set("\x07\u202e")
    assert r"us\x1b[31mers\r\x07\u202e[bold red]x[/]" in on_terminal.replace("\r\n", "")
    assert "\x1b[1" in on_terminal  # and there is colour


def in_terminal(settings: Settings, *arguments: str) -> str:
    """What a command writes to a terminal of 200 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(settings, TERM="xterm-256color", COLUMNS="200"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    process.wait(60)
    return written.decode()


def test_watch_ends_with_the_job(settings: Settings) -> None:
    """Status 0 for one that succeeded, else 1."""
    publish(settings, [*failed_job(1), *succeeded_job(2)])
    failed, succeeded = (jobtrail(settings, "jobs", "watch", job) for job in "12")
    assert (failed.returncode, succeeded.returncode) == (1, 0)
    assert failed.stdout.startswith("job 1 failed, attempt 0, 200 records (20.0 kB) emitted, 120 committed")


def test_cancel_asks_whoever_runs_the_job_and_waits(settings: Settings) -> None:
    """A running attempt confirms; a job that nobody runs is cancelled at once; one that is over is not."""
    stop = threading.Event()
    projector = threading.Thread(target=run_projector, args=(settings, stop))
    projector.start()
    try:
        with Job.start(connection_id="connection-1", settings=settings) as job, job.attempt() as attempt:
            name = str(job.job_id)
            while jobtrail(settings, "jobs", "show", name).returncode:
                time.sleep(0.1)
            asking = subprocess.Popen(
                [*COMMAND, "jobs", "cancel", name, "--by", "on call"],
                env=environment(settings),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            while not attempt.cancelled and asking.poll() is None:
                time.sleep(0.05)
        said, _ = asking.communicate(timeout=60)
        assert asking.returncode == 0, said
        assert f"job {name} is cancelled" in said
        again = jobtrail(settings, "jobs", "cancel", name)
        assert (again.returncode, again.stderr.count("\n")) == (1, 1)
        assert "already over: cancelled" in again.stderr
        assert "cancelled by on call" in jobtrail(settings, "jobs", "show", name).stdout

        publish(settings.model_copy(update={"projector_group": "other"}), [created(5)])
        pending = jobtrail(settings, "jobs", "cancel", "5", "--json")
        assert (pending.returncode, json.loads(pending.stdout)["job"]["status"]) == (0, "cancelled")
    finally:
        stop.set()
        projector.join(30)


def test_a_request_that_nobody_confirms_is_status_1_and_says_so(settings: Settings) -> None:
    about = {"job_id": 1, "attempt_number": 0}
    publish(settings, [created(1), made(e.AttemptStarted, 1, **about)])
    found = jobtrail(settings, "jobs", "cancel", "1", "--wait", "0.5")
    assert found.returncode == 1
    assert "nobody confirmed within 0.5 s" in found.stderr


def test_anomalies_are_listed(settings: Settings) -> None:
    about = {"job_id": 1, "attempt_number": 0}
    publish(settings, [*failed_job(1), made(e.AttemptStarted, 2, **about, worker="worker-2")])
    found = jobtrail(settings, "anomalies")
    assert [row.split()[:3] for row in found.stdout.splitlines()[1:]] == [["1", "0", "second_start"]]
    answer = json.loads(jobtrail(settings, "anomalies", "list", "--job", "1", "--json").stdout)
    assert [(row["attemptNumber"], row["kind"]) for row in answer["anomalies"]] == [(0, "second_start")]
    assert answer["totalCount"] == 1
    shown = json.loads(jobtrail(settings, "jobs", "show", "1", "--json").stdout)
    assert shown["anomalies"] == answer["anomalies"]
    assert jobtrail(settings, "anomalies", "list", "--job", "2").stdout == "no anomalies\n"


def test_anomalies_of_a_kind_are_listed_and_an_unknown_kind_is_refused(settings: Settings) -> None:
    succeeded = made(e.AttemptSucceeded, 3, job_id=5, attempt_number=0)
    publish(settings, [created(5), succeeded, made(e.AttemptStarted, 3, job_id=6, attempt_number=0)])
    listed = jobtrail(settings, "anomalies", "list", "--kind", "job_not_created", "--json").stdout
    assert [row["jobId"] for row in json.loads(listed)["anomalies"]] == [6]
    two = jobtrail(settings, "anomalies", "list", "--limit", "1").stdout.splitlines()
    assert (len(two), two[2]) == (3, "1 of 2 anomalies; --limit shows more")
    wrong = jobtrail(settings, "anomalies", "list", "--kind", "zero_record")
    assert wrong.returncode == 2
    assert "did you mean 'zero_records'?" in wrong.stderr


def test_a_success_that_nothing_proves_is_not_listed_like_another(settings: Settings) -> None:
    """The list and the watch name what is wrong beside the status."""
    publish(settings, [created(5), made(e.AttemptSucceeded, 3, job_id=5, attempt_number=0)])
    listed = jobtrail(settings, "jobs", "list")
    assert "success_without_evidence" in listed.stdout
    watched = jobtrail(settings, "jobs", "watch", "5")
    assert (watched.returncode, "but: success_without_evidence" in watched.stdout) == (0, True)

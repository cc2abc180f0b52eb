"""Runs SQL statements in Flink's mini cluster, a process of its own, and says when the job runs and ends.

Arguments: the Java library, the class path, a file of statements, the parallelism, JVM options after that.
Prints RUNNING when every task runs and FINISHED when the last one has ended; then waits to be read.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jpype

#: Flink on Java 17 needs to look into these.
OPENED = ("java.util", "java.lang", "java.time", "java.net", "java.io", "java.util.concurrent")


def main() -> None:
    """One job."""
    library, class_path, statements, parallelism, *options = sys.argv[1:]
    opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
    jpype.startJVM(library, *opened, *options, classpath=class_path.split(":"), convertStrings=True)
    settings = jpype.JClass("org.apache.flink.table.api.EnvironmentSettings")
    environment = jpype.JClass("org.apache.flink.table.api.TableEnvironment").create(
        settings.inStreamingMode()
    )
    for name, value in {
        "parallelism.default": parallelism,
        # A key comes from one partition and stays in order; nothing has to be put in order again.
        "table.exec.sink.upsert-materialize": "NONE",
        "table.exec.mini-batch.enabled": "false",
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
    }.items():
        environment.getConfig().set(name, value)
    result = None
    for statement in Path(statements).read_text().split("\n;\n"):
        result = environment.executeSql(statement)
    job = result.getJobClient().get()
    # Its result, and not its status: the cluster is gone as soon as the job is, and cannot be asked then.
    result = job.getJobExecutionResult()
    while not result.isDone() and str(job.getJobStatus().get()) != "RUNNING":
        time.sleep(0.02)
    print("RUNNING", flush=True)
    result.get()  # raises what ended it
    print("FINISHED", flush=True)
    time.sleep(600)  # the parent reads /proc, and ends it


if __name__ == "__main__":
    main()

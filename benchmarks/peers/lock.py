"""Rewrites the locks of the peers that are jars: `python benchmarks/peers/lock.py`, with the network.

Maven resolves each class path (jgo takes other versions of Debezium's); each jar's SHA-256 is kept.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from jobtrail.embedded.jars import sha256

FLINK: Final = "1.20.3"
CONNECT: Final = "4.3.1"
DEBEZIUM: Final = "3.5.0.Final"
DRIVER: Final = "org.postgresql:postgresql:42.7.8"
#: Drivers that Debezium brings and that are not used here.
OTHER_DATABASES: Final = frozenset(
    {"com.oracle.database.jdbc", "com.mysql", "com.microsoft.sqlserver", "org.mariadb.jdbc", "com.ibm.db2"}
)
#: Name of the lock → version that names its folder in the cache, and what is asked for.
LOCKS: Final = {
    "flink": (
        FLINK,
        [
            f"org.apache.flink:flink-clients:{FLINK}",
            f"org.apache.flink:flink-table-planner-loader:{FLINK}",
            f"org.apache.flink:flink-table-runtime:{FLINK}",
            f"org.apache.flink:flink-table-api-java-bridge:{FLINK}",
            f"org.apache.flink:flink-connector-base:{FLINK}",
            "org.apache.flink:flink-connector-kafka:3.4.0-1.20",
            "org.apache.flink:flink-connector-jdbc-core:3.3.0-1.20",
            "org.apache.flink:flink-connector-jdbc-postgres:3.3.0-1.20",
            f"org.apache.flink:flink-avro:{FLINK}",
            "org.apache.logging.log4j:log4j-slf4j-impl:2.17.1",
            DRIVER,
        ],
    ),
    "debezium": (
        DEBEZIUM,
        [
            f"org.apache.kafka:kafka-clients:{CONNECT}",
            f"org.apache.kafka:connect-api:{CONNECT}",
            f"org.apache.kafka:connect-transforms:{CONNECT}",
            f"org.apache.kafka:connect-runtime:{CONNECT}",
            f"org.apache.kafka:connect-json:{CONNECT}",
            f"io.debezium:debezium-connector-jdbc:{DEBEZIUM}",
            "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
            DRIVER,
        ],
    ),
}


def resolved(name: str, version: str, coordinates: list[str]) -> str:
    """The text of a lock."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        wanted = "".join(
            "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
                *coordinate.split(":")
            )
            for coordinate in coordinates
        )
        (folder / "pom.xml").write_text(
            "<project><modelVersion>4.0.0</modelVersion><groupId>bench</groupId><artifactId>peer</artifactId>"
            f"<version>1</version><dependencies>{wanted}</dependencies></project>"
        )
        goals = ["dependency:copy-dependencies", "-DoutputDirectory=jars"]
        goals += ["dependency:list", "-DoutputFile=list", "-DincludeScope=runtime"]
        subprocess.run(["mvn", "-B", "-q", *goals], cwd=folder, check=True)
        lines = [
            f"# The class path of {name} for benchmarks/replay.py: coordinate → SHA-256 of the jar.\n",
            "# Written by `python benchmarks/peers/lock.py`.\n",
            f'kafka = "{name}-{version}"\n\n[jars]\n',
        ]
        for found in re.findall(
            r"^ +([\w.-]+):([\w.-]+):jar:([\w.-]+):", (folder / "list").read_text(), re.MULTILINE
        ):
            group, artifact, number = found
            if group not in OTHER_DATABASES:
                digest = sha256(folder / "jars" / f"{artifact}-{number}.jar")
                lines.append(f'"{group}:{artifact}:{number}" = "{digest}"\n')
    return "".join(lines)


def main() -> None:
    """Rewrites the locks beside this script, or those that are named."""
    for name in sys.argv[1:] or LOCKS:
        path = Path(__file__).with_name(f"{name}.lock")
        path.write_text(resolved(name, *LOCKS[name]))
        print(f"{path}: {len(path.read_text().splitlines()) - 5} jars")


if __name__ == "__main__":
    main()

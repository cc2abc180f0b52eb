"""Rewrites kafka.lock: `python -m jobtrail.embedded.lock [VERSION]`, for maintainers, with the network.

jgo resolves Kafka's class path as Maven would; every jar on it is downloaded anew and its sum taken.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jobtrail.embedded.jars import Lock, maven, sha256

HEAD = """\
# The jars of the embedded Apache Kafka, in the order of its class path, with their SHA-256.
# Written by `python -m jobtrail.embedded.lock VERSION`; every jar is verified before each start.
"""


def resolve(version: str) -> str:
    """The text of the lock for Kafka `version`."""
    with tempfile.TemporaryDirectory() as folder:
        context = maven(Path(folder))
        coordinates = [f"org.apache.kafka:kafka_2.13:{version}"]
        given, wanted = context.resolver.resolve([context.create_dependency(name) for name in coordinates])
        # Kafka logs by slf4j and leaves what is behind that to whoever runs it. The mark (!) keeps that jar's
        # own list of managed versions, which holds an old kafka-clients, out of the resolution.
        log4j = next(part.version for part in wanted if part.artifactId == "log4j-core")
        coordinates.append(f"org.apache.logging.log4j:log4j-slf4j-impl:{log4j}!")
        given, wanted = context.resolver.resolve([context.create_dependency(name) for name in coordinates])
        lines = [HEAD, f'kafka = "{version}"\n\n[jars]\n']
        files = set()
        for part in (*given, *wanted):
            path = part.artifact.resolve()
            if path.name in files:
                raise SystemExit(f"two jars are called {path.name}; the cache keeps one folder for all")
            files.add(path.name)
            lines.append(f'"{part.groupId}:{part.artifactId}:{part.version}" = "{sha256(path)}"\n')
    return "".join(lines)


def main() -> None:
    """Rewrites the lock beside this module."""
    version = sys.argv[1] if len(sys.argv) > 1 else Lock.read().kafka
    path = Path(__file__).with_name("kafka.lock")
    path.write_text(resolve(version))
    print(f"{path}: Apache Kafka {version}, {len(Lock.read().jars)} jars")


if __name__ == "__main__":
    main()

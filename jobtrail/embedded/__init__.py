"""The embedded servers: Apache Kafka and PostgreSQL from packages, on 127.0.0.1, under one home.

    with embedded.servers(home) as servers:      # starts them, or joins those that run there
        use(servers.kafka_bootstrap_servers, servers.database_url)
                                                 # the last command to leave stops them

`running` looks without starting anything and needs the base install only. Files, all under the home:

    run/       what runs (NAME.lock, .pid, .address), the lease of the commands, configuration, console output
    kafka/     data, logs and temporary files of the broker
    postgres/  the cluster
"""

from __future__ import annotations

from jobtrail.embedded.sharing import EmbeddedServers, running, servers, stop

__all__ = ["EmbeddedServers", "running", "servers", "stop"]

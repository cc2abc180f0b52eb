"""Settings come from JOBTRAIL_* and nowhere else, and a mistake in one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobtrail.errors import SettingError
from jobtrail.settings import Settings


def test_ours_go_before_the_well_known_ones() -> None:
    both = {"DATABASE_URL": "postgresql://theirs", "KAFKA_BOOTSTRAP_SERVERS": "theirs:9092"}
    assert Settings.from_env(both).kafka_bootstrap_servers == "theirs:9092"
    ours = Settings.from_env({**both, "JOBTRAIL_DATABASE_URL": "postgresql://ours"})
    assert ours.database_url == "postgresql://ours"
    assert Settings.from_env({"JOBTRAIL_HOME": "/a b"}).home == Path("/a b")


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("JOBTRAIL_API_PORT", "eighty", "'eighty' does not fit"),
        ("JOBTRAIL_PARTITIONS", "0", "greater than or equal to 1"),
        ("JOBTRAIL_DATABSE_URL", "postgresql://h", "no such setting"),
        ("JOBTRAIL_KAFKA_PLUGIN_LIBRARY_PATHS", "x.so", "plugin.library.paths is not passed on"),
        ("JOBTRAIL_KAFKA_SASL_KERBEROS_KINIT_CMD", "sh -c id", "is not passed on"),
        ("JOBTRAIL_KAFKA_SSL_ENGINE_LOCATION", "x.so", "is not passed on"),
        ("JOBTRAIL_KAFKA_ENABLE_IDEMPOTENCE", "false", "is not passed on"),
    ],
)
def test_a_mistake_names_its_variable(variable: str, text: str, says: str) -> None:
    with pytest.raises(SettingError, match=says) as caught:
        Settings.from_env({variable: text})
    assert str(caught.value).startswith(variable)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("JOBTRAIL_DATABSE_URL", "JOBTRAIL_DATABASE_URL"),
        ("JOBTRAIL_API_TOKEN", "JOBTRAIL_API_TOKENS"),
        ("JOBTRAIL_KAFKA_BOOTSTRAP_SERVER", "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS"),
        ("JOBTRAIL_KAFKA_SASL_USER", "JOBTRAIL_KAFKA_SASL_USERNAME"),
    ],
)
def test_an_unknown_variable_is_told_the_nearest_one_alone(variable: str, near: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.from_env({variable: "x"})
    assert str(caught.value).endswith(f"; the nearest that there is: {near}")
    assert str(caught.value).count("JOBTRAIL_") == 2


def test_security_settings_reach_the_kafka_clients() -> None:
    read = Settings.from_env(
        {"JOBTRAIL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "JOBTRAIL_KAFKA_SSL_CA_LOCATION": "/ca.pem"}
    )
    assert read.kafka_client == {"security.protocol": "SASL_SSL", "ssl.ca.location": "/ca.pem"}


def test_settings_reach_another_process_as_they_are() -> None:
    """What is unset stays so; what cannot be a default of that process is said."""
    given = Settings.from_env(
        {
            "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": "k:1",
            "DATABASE_URL": "postgresql://p/x",
            "JOBTRAIL_HOME": "/srv/a b",
            "JOBTRAIL_KAFKA_SASL_PASSWORD": "pw",
            "JOBTRAIL_BATCH_SIZE": "7",
        }
    ).model_copy(update={"api_port": 0})
    assert Settings.from_env(given.environ()) == given
    assert "JOBTRAIL_SPOOL" not in given.environ()


def test_what_kubernetes_sets_for_a_service_of_our_name_is_left_alone() -> None:
    read = Settings.from_env(
        {
            "JOBTRAIL_API_PORT": "tcp://10.0.0.7:8700",
            "JOBTRAIL_API_PORT_8700_TCP_ADDR": "10.0.0.7",
            "JOBTRAIL_SERVICE_HOST": "10.0.0.7",
            "JOBTRAIL_SERVICE_PORT_HTTP": "8700",
        }
    )
    assert read.api_port == 8700

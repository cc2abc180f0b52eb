"""JOBTRAIL_KAFKA_* for a client that is not librdkafka: what aiokafka takes of them, Faust's and ours.

Security is taken whole or refused: a setting that was passed over could leave a connection open to others.
Tuning that has no counterpart is passed over.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jobtrail.errors import SettingError
from jobtrail.settings import KAFKA_PREFIX, Settings

log = logging.getLogger("jobtrail")

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROTOCOLS: Final = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
#: Security that this client can do.
_SECURITY: Final = frozenset(
    {
        "security.protocol",
        *("sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password"),
        *("ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location", "ssl.certificate.pem"),
        *("ssl.key.location", "ssl.key.pem", "ssl.key.password"),
        *("ssl.cipher.suites", "ssl.crl.location", "ssl.endpoint.identification.algorithm"),
    }
)
#: Tuning → Faust's name, and what turns our unit into its.
_TUNING: Final[Mapping[str, tuple[str, float]]] = {
    "session.timeout.ms": ("broker_session_timeout", 1000),
    "max.poll.interval.ms": ("broker_max_poll_interval", 1000),
    "linger.ms": ("producer_linger", 1000),
}
#: Seconds until a worker that died has lost its partitions.
SESSION_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Security:
    """Who a client of aiokafka is, and whom it trusts."""

    #: Given where there is SASL.
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    #: Given where there is TLS.
    context: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How a client of Faust is to be."""

    #: Faust's names; durations in seconds.
    tuning: Mapping[str, Any]
    security: Security


def client_settings(settings: Settings) -> ClientSettings:
    """What JOBTRAIL_KAFKA_* says. Raises SettingError for security that this client cannot do."""
    given = settings.kafka_client
    security = security_of(given)
    tuning: dict[str, Any] = {"broker_session_timeout": SESSION_TIMEOUT}
    for name, (theirs, unit) in _TUNING.items():
        if name in given:
            tuning[theirs] = _number(name, given[name]) / unit
    tuning["broker_heartbeat_interval"] = tuning["broker_session_timeout"] / 3
    if passed_by := sorted(given.keys() - _SECURITY - _TUNING.keys() - {"client.id", "compression.type"}):
        log.info("analytics does without %s", ", ".join(map(_variable, passed_by)))
    return ClientSettings(tuning, security)


def security_of(given: Mapping[str, str]) -> Security:
    """Of the settings of a client of librdkafka. Raises SettingError for what aiokafka cannot do."""
    for name in given:
        if name.startswith(("sasl.", "ssl.", "security.")) and name not in _SECURITY:
            raise SettingError(
                _variable(name), "`jobtrail analytics` cannot do this", f"use one of {', '.join(MECHANISMS)}"
            )
    protocol = given.get("security.protocol", "plaintext").lower()
    if protocol not in PROTOCOLS:
        raise SettingError(_variable("security.protocol"), repr(protocol), f"one of {', '.join(PROTOCOLS)}")
    context = tls_context(given) if protocol.endswith("ssl") else None
    if not protocol.startswith("sasl"):
        return Security(context=context)
    name = "sasl.mechanism" if "sasl.mechanism" in given else "sasl.mechanisms"
    mechanism = given.get(name, "GSSAPI").upper()
    if mechanism not in MECHANISMS:
        raise SettingError(
            _variable(name),
            f"`jobtrail analytics` cannot do {mechanism}",
            f"use one of {', '.join(MECHANISMS)}",
        )
    return Security(mechanism, given.get("sasl.username"), given.get("sasl.password"), context)


def tls_context(given: Mapping[str, str]) -> ssl.SSLContext:
    """TLS as librdkafka would do it. Raises SettingError for a file that cannot be used."""
    context = ssl.create_default_context()
    if given.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    with _naming("ssl.ca.location", "ssl.ca.pem"):
        if "ssl.ca.location" in given or "ssl.ca.pem" in given:
            context = _bare(check_hostname=context.check_hostname)
            context.load_verify_locations(given.get("ssl.ca.location"), cadata=given.get("ssl.ca.pem"))
    with _naming("ssl.crl.location"):
        if "ssl.crl.location" in given:
            context.load_verify_locations(given["ssl.crl.location"])
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    with _naming("ssl.cipher.suites"):
        if "ssl.cipher.suites" in given:
            context.set_ciphers(given["ssl.cipher.suites"])
    with _naming("ssl.certificate.location", "ssl.certificate.pem", "ssl.key.location", "ssl.key.pem"):
        _load_certificate(context, given)
    return context


def _bare(*, check_hostname: bool) -> ssl.SSLContext:
    """Trusts nobody yet, unlike the default, which trusts the system's authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = check_hostname
    return context


def _load_certificate(context: ssl.SSLContext, given: Mapping[str, str]) -> None:
    if "ssl.certificate.location" not in given and "ssl.certificate.pem" not in given:
        return
    with contextlib.ExitStack() as stack:

        def path(name: str) -> str | None:
            if f"ssl.{name}.location" in given:
                return given[f"ssl.{name}.location"]
            if f"ssl.{name}.pem" not in given:
                return None
            # Python's ssl reads certificates and keys from files only; this one is its owner's alone.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="jobtrail-"))
            file = Path(folder) / f"{name}.pem"
            file.touch(mode=0o600)
            file.write_text(given[f"ssl.{name}.pem"])
            return str(file)

        # A password that is missing must not be asked for at the terminal.
        context.load_cert_chain(
            path("certificate") or "", path("key"), password=given.get("ssl.key.password", "")
        )


@contextlib.contextmanager
def _naming(*names: str) -> Any:
    try:
        yield
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        variables = " or ".join(map(_variable, names))
        raise SettingError(
            variables, str(error) or type(error).__name__, "it must be PEM that fits"
        ) from None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SettingError(_variable(name), repr(text), "a number of milliseconds") from None


def _variable(name: str) -> str:
    return KAFKA_PREFIX + name.replace(".", "_").upper()

"""Schemas by the ids of a Confluent schema registry, for messages in its framing."""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from fastavro.schema import SchemaParseException, UnknownType

from jobtrail.codec import SchemaById
from jobtrail.errors import BadMessageError, ServerAwayError, SettingError
from jobtrail.settings import Settings
from jobtrail.wire import header_of

REGISTRY_SETTING: Final = "JOBTRAIL_SCHEMA_REGISTRY_URL"
#: Seconds that the registry has for one answer.
ANSWER_TIMEOUT: Final = 5.0
#: Most bytes of an answer.
LARGEST_ANSWER: Final = 1_000_000
#: Seconds before it is asked again for an id that it did not know.
REFUSAL_HOLDS: Final = 60.0


def registry_of(settings: Settings) -> SchemaById | None:
    """The registry of the settings, if one is set. Raises SettingError for an address that is none."""
    return RegistrySchemas(settings.schema_registry_url) if settings.schema_registry_url else None


class RegistrySchemas:
    """Asks the registry once for each id: what an id means never changes."""

    def __init__(self, url: str) -> None:
        """`url` may hold user and password: https://user:password@host."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingError(REGISTRY_SETTING, "is no http(s) address", "write https://user:password@host")
        host = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        self._known: dict[int, str] = {}
        #: Id → (when to ask again, by the monotonic clock; why it is none).
        self._refused: dict[int, tuple[float, BadMessageError]] = {}

    def __call__(self, schema_id: int) -> str:
        """The text of a schema.

        Raises BadMessageError (unknown_schema) for an id that the registry does not know or that is no Avro,
        ServerAwayError where it does not answer as a registry.
        """
        again, refusal = self._refused.get(schema_id, (0.0, None))
        if refusal is not None and time.monotonic() < again:
            raise refusal
        if schema_id not in self._known:
            try:
                self._known[schema_id] = _checked(schema_id, self._fetch(schema_id))
            except BadMessageError as error:
                self._refused[schema_id] = time.monotonic() + REFUSAL_HOLDS, error
                raise
        return self._known[schema_id]

    def _fetch(self, schema_id: int) -> str:
        request = urllib.request.Request(  # noqa: S310  # http or https, see above
            f"{self._url}/schemas/ids/{schema_id}", headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT) as answer:  # noqa: S310  # as above
                found = json.loads(answer.read(LARGEST_ANSWER))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.HTTPStatus.NOT_FOUND:
                    raise BadMessageError(
                        "unknown_schema", f"the schema registry at {self._url} knows no schema {schema_id}"
                    ) from None
                raise self._away(f"HTTP {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._away(str(error) or type(error).__name__) from None
        if not isinstance(found, Mapping) or not isinstance(found.get("schema"), str):
            raise self._away("its answer holds no schema")
        return str(found["schema"])

    def _away(self, detail: str) -> ServerAwayError:
        return ServerAwayError("The schema registry", self._url, REGISTRY_SETTING, detail)


def _checked(schema_id: int, text: str) -> str:
    try:
        header_of(json.loads(text))
    except (ValueError, TypeError, LookupError, SchemaParseException, UnknownType) as error:
        detail = f"the registry's schema {schema_id} is no Avro schema by itself: {error}"
        raise BadMessageError("unknown_schema", detail) from None
    return text

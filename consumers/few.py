"""A few messages to events, one by one: what the decoder and the gate do for many, without columns.

A call that works on columns takes 60 to 100 µs however short they are, and a batch needs a hundred of them:
as long as 300 messages take here.
"""

from __future__ import annotations

from typing import Final

from jobtrail import codec
from jobtrail.consumers.decode import BROKER_AT, OFFSET, PARTITION, Decoded, Decoder, Messages
from jobtrail.consumers.records import Records
from jobtrail.errors import BadMessageError
from jobtrail.events import Failure
from jobtrail.producers.scrub import shapes

#: Up to so many it is faster.
FEW: Final = 150


def read_few(decoder: Decoder, messages: Messages) -> Decoded:
    """Good events as rows, and dead letters for the rest. Raises ServerAwayError as the decoder does."""
    records = messages if isinstance(messages, Records) else messages.records()
    found = Decoded()
    for row, value in enumerate(records.values):
        try:
            event_type, event = decoder.read(value)
            codec.build(event_type, event)
            codec.check_key(event_type, event[event_type.key_field], records.keys[row])
        except BadMessageError as error:
            found.bad.append(records.dead_letter(row, error.reason, error.detail))
        else:
            if event_type is Failure:
                event.update(shapes.fields(event))
            event[PARTITION] = records.partitions[row]
            event[OFFSET] = records.offsets[row]
            event[BROKER_AT] = 1000 * records.broker_ms[row]
            found.few.setdefault(event_type, []).append(event)
    return found

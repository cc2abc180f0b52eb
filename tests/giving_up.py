"""Lets a Kafka client give up for good, as librdkafka does when it and the broker no longer agree."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, cimpl

from jobtrail.producers.lasting import LastingProducer

WHERE = pytest.mark.skipif(
    sys.platform != "linux", reason="finds the client's library as its Linux wheel has it"
)


def give_up(producer: LastingProducer) -> None:
    """By librdkafka's own trigger for tests, for which Python has no name."""
    (library,) = (Path(cimpl.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka*.so*")
    end = ctypes.CDLL(str(library)).rd_kafka_test_fatal_error
    end.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    client = ctypes.c_void_p.from_address(id(producer.now) + object.__basicsize__)
    assert end(client, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, b"of a test") == 0

"""Reads messages with Apache Avro's own BinaryMessageDecoder; runs in a process of its own.

Arguments: the Java library, the class path, the folder of the schemas. In: a JSON list of base64 messages.
Out: a JSON list of what Avro's Java decoder made of them, each as [full name of the record, its JSON].
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import jpype


def main() -> None:
    library, class_path, folder = sys.argv[1:]
    jpype.startJVM(library, classpath=class_path.split(":"), convertStrings=True)
    schema_class = jpype.JClass("org.apache.avro.Schema")
    generic_data = jpype.JClass("org.apache.avro.generic.GenericData").get()
    decoder_class = jpype.JClass("org.apache.avro.message.BinaryMessageDecoder")
    fingerprint_of = jpype.JClass("org.apache.avro.SchemaNormalization").parsingFingerprint64
    decoders = {}
    for file in Path(folder).glob("*.avsc"):
        schema = schema_class.Parser().parse(file.read_text())
        decoder = decoder_class(generic_data, schema)
        decoders[fingerprint_of(schema) & 0xFFFF_FFFF_FFFF_FFFF] = decoder
    read = []
    for text in json.load(sys.stdin):
        message = base64.b64decode(text)
        record = decoders[int.from_bytes(message[2:10], "little")].decode(message)
        read.append([record.getSchema().getFullName(), str(record)])
    json.dump(read, sys.stdout)


if __name__ == "__main__":
    main()

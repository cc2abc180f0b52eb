"""`jobtrail run` and `jobtrail tap`: thin over `jobtrail.producers`."""

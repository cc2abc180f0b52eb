"""In: from the caller to Kafka."""

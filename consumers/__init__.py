"""Through: messages of Kafka become columns, are checked, and move the read models on."""

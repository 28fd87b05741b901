"""Exactly-once delivery from and to Kafka or files; knows nothing of astronomy."""

"""Kafka to Kafka, exactly once, by Kafka's own transactions."""

from broker.deliver.kafka.member import Member, claim_member
from broker.deliver.kafka.notes import KafkaNotes
from broker.deliver.kafka.sink import KafkaSink
from broker.deliver.kafka.source import KafkaSource

__all__ = ["KafkaNotes", "KafkaSink", "KafkaSource", "Member", "claim_member"]

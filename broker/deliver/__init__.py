"""Exactly-once delivery from and to Kafka or files; knows nothing of astronomy.

One loop drives any `Step` between any `Source` and any `Sink`::

    from broker.deliver.types import Bounds, Source, Sink, Intake, Commit
    from broker.deliver.loop import run, stop_on_signals, Totals
    from broker.deliver.deadletters import Limits
    from broker.deliver.files import FileSource, FileSink
    from broker.deliver.kafka import KafkaNotes, KafkaSource, KafkaSink, claim_member

    run(source, step, sink, *, metrics, bounds=Bounds(max_alerts, max_bytes, max_wait_s), limits=None | Limits(...),
        primary=frozenset(topics.all(s) for s in SURVEYS), member="files", stop=threading.Event(), drain_s=30.0,
        notes=None | KafkaNotes(config, topics, group), at=lambda number: None) -> Totals(batches, received, ...)

    FileSource(packets: Iterable[FilePacket])            # broker.core.batch.FilePacket(path, record, value)
    FileSink(directory, primary=frozenset(...))          # annotations/, dead_letters/, manifest.jsonl, one writer
    KafkaSource(config, topics=["ztf_{date}_programid1"], group="tocsin", nights=2, metrics=metrics)
    KafkaSink(config, transactional_id, topics=Topics(prefix), registry=None, resume=False)
    claim_member(group, cache_dir, name=None) -> Member  # .name, .transactional_id(group); holds a slot until .close()

``config`` is `broker.core.config.Kafka.librdkafka()`. With `FileSource` and ``KafkaSink(resume=True)`` the progress of
a replay is read back from the ledger topic. The ledger is recounted by `broker.deliver.recount`; dead letters are a
source of packets again by `broker.deliver.retry`.
"""

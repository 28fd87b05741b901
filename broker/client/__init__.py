"""Subscribe to the classified streams: five lines of Python.

::

    from broker.client import subscribe

    with subscribe("tocsin.ztf.class.snia", brokers="localhost:9092", from_="earliest") as alerts:
        for alert in alerts:
            print(alert["objectId"], alert["classifiers"])
"""

from broker.client.subscription import Received, Subscription, subscribe

__all__ = ["Received", "Subscription", "subscribe"]

"""Subscribe to the classified streams: five lines of Python.

::

    from broker.client import probabilities, subscribe

    with subscribe("tocsin.ztf.class.snia", brokers="localhost:9092", from_="earliest") as alerts:
        for alert in alerts:
            print(alert["objectId"], probabilities(alert))

`probabilities` are those to go by, by class id, for classes as common as in the survey; `branches` their sums over the
taxonomy, `even` what they would be if all classes were as common, `chosen` the classifier's whole entry.
"""

from broker.client.subscription import Received, Subscription, subscribe
from broker.core.reading import branches, chosen, even, probabilities

__all__ = ["Received", "Subscription", "branches", "chosen", "even", "probabilities", "subscribe"]

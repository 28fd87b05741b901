"""Raw histories to clean light curves: merge and summary."""

from broker.lightcurve.merge import Dropped, merge
from broker.lightcurve.summary import Summary, summarize

__all__ = ["Dropped", "Summary", "merge", "summarize"]

"""Moved to `broker.core.taxonomy` (the client and the command line show names too); import it from there."""

from broker.core.taxonomy import BRANCHES, BY_ID, BY_PLASTICC, CLASS_IDS, CLASSES, COMMON, RARE, AstroClass, ancestors

__all__ = ["BRANCHES", "BY_ID", "BY_PLASTICC", "CLASSES", "CLASS_IDS", "COMMON", "RARE", "AstroClass", "ancestors"]

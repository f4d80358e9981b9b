"""Sanitisation: a hospital leaves suspected records out before it trains."""

from __future__ import annotations

from fedrobust.audit.examination import DEFAULT, audit, auditors_of
from fedrobust.data.records import Records
from fedrobust.federation import Behaviour

__all__ = ["Sanitize", "methods_of"]

#: Settings' words for no methods, and for those that an audit uses by default.
_NONE, _USUAL = "none", "audit"

#: A hospital with fewer records keeps all of them: so few tell nothing about each other.
_FEWEST = 20


class Sanitize(Behaviour):
    """Leaves the records out that the methods of an audit suspect, among the hospital's own alone.

    It comes last in a hospital's chain: the contamination is there before, and whoever contaminates the
    records need not know of it.

    Parameters
    ----------
    methods : str
        As `auditors_of` takes them.
    """

    def __init__(self, methods: str) -> None:
        """Keep the methods."""
        self.methods = methods

    def transform_records(self, records: Records) -> Records:
        """Return the records that nothing is held against; all, if they are few or none would be left."""
        from fedrobust.audit.subject import TrainedSubject  # Late: it imports torch.

        if len(records) < _FEWEST:
            return records
        subject = TrainedSubject(records, int(self.rng.integers(2**62)))
        kept = audit(subject, auditors_of(self.methods)).clean
        return records.take(kept) if 0 < len(kept) < len(records) else records


def methods_of(setting: str) -> str:
    """Return the methods that the setting `sanitize` stands for, checked; an empty text for none.

    Raises
    ------
    UserError
        If a method is unknown or an option does not fit.
    """
    if setting == _NONE:
        return ""
    methods = DEFAULT if setting == _USUAL else setting
    auditors_of(methods)
    return methods

"""What all records share: they are frozen, strict about types, and open to further keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from fedrobust.results.files import plain

__all__ = ["Record", "Role"]

#: What is true of a hospital; an atypical one is benign, but unlike the others.
Role = Literal["malicious", "atypical", "honest"]


class Record(BaseModel):
    """A record of a file: frozen, strict about types, open to further keys."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    @classmethod
    def of(cls, values: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """Return a record of Python or NumPy values; NaN and infinities become None, as in the file."""
        return cls.model_validate(plain({**(values or {}), **more}), strict=False)

    def as_json(self) -> dict[str, Any]:
        """Return what the file holds, as JSON's dictionaries and lists."""
        return dict(plain(self))

"""A hospital's own data in a real federation: another source in place of its part of the simulated partition."""

from __future__ import annotations

from collections.abc import Sequence

from fedrobust.data.records import Records
from fedrobust.data.sources import prepare
from fedrobust.errors import UserError
from fedrobust.settings import Settings

__all__ = ["check_fit", "own_records", "own_settings"]


def own_settings(settings: Settings, data: str, data_root: str | None = None) -> Settings:
    """Return the run's settings with a hospital's own source, which it shares with nobody.

    Parameters
    ----------
    settings : Settings
        The run's.
    data : str
        A data source, as for `Settings.data`.
    data_root : str, optional
        Its folder; the run's if there is none.
    """
    own = {"data": data, "data_root": data_root or settings.data_root}
    return settings.model_copy(update={**own, "clients": 1, "malicious": 0, "partition": "iid"})


def own_records(settings: Settings, own: Settings) -> Records:
    """Return all training records of a hospital's own source.

    A file that publishes training images alone is used whole. Of any other source, and of the federation's own, it is
    the training part that `split` makes, so that no image which the server tests on is trained on.

    Parameters
    ----------
    settings, own : Settings
        The run's, and what `own_settings` returned.

    Raises
    ------
    UserError
        If the source cannot be read or split.
    """
    data = prepare(own)
    published = data.records.parts
    same = (own.data, own.data_root) == (settings.data, settings.data_root)
    if published is not None and not same and set(published.tolist()) == {"train"}:
        return data.records
    return data.records.take(data.split.train)


def check_fit(own: Settings, classes: Sequence[str], shape: Sequence[int]) -> None:
    """Compare a hospital's own data with the federation's.

    Parameters
    ----------
    own : Settings
        What `own_settings` returned.
    classes : sequence of str
        The federation's class names, in label order.
    shape : sequence of int
        The federation's (channels, height, width).

    Raises
    ------
    UserError
        If the classes or the image shape differ.
    """
    records = prepare(own).records
    mine, names = list(records.images.shape[1:]), list(records.classes)
    if names != list(classes):
        raise UserError(
            f"node config data '{own.data}': its classes {names} differ from the federation's {list(classes)}; "
            "a file names its classes in the array 'classes'"
        )
    if mine != list(shape):
        raise UserError(
            f"node config data '{own.data}': its image shape {mine} differs from the federation's {list(shape)}; "
            "give images that fit, or set the run's image-size"
        )

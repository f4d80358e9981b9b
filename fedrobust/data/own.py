"""A hospital's own data in a real federation, in place of its part of the simulated partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedrobust.data.records import Records
from fedrobust.data.sources import prepare
from fedrobust.data.spec import IID, DataSpec
from fedrobust.errors import UserError
from fedrobust.plugins import PluginSpec

__all__ = ["check_fit", "own_data_spec", "own_records"]


def own_data_spec(federation: DataSpec, source: str, root: str | None = None) -> DataSpec:
    """Return the specification of a hospital's own source, which it shares with nobody.

    Parameters
    ----------
    federation : DataSpec
        The run's.
    source : str
        A data source, as for `DataSpec.source`.
    root : str, optional
        Its folder; the run's if there is none.
    """
    return replace(
        federation,
        source=PluginSpec.parse(source),
        root=root or federation.root,
        hospitals=1,
        partition=IID,
        site_tests=False,
    )


def own_records(federation: DataSpec, own: DataSpec) -> Records:
    """Return all training records of a hospital's own source.

    A file that publishes training images alone is used completely. Of any other source, and of the
    federation's own, it is the training part that `split` makes, so that no image which the server tests on
    is trained on.

    Parameters
    ----------
    federation, own : DataSpec
        The run's, and what `own_data_spec` returned.

    Raises
    ------
    UserError
        If the source cannot be read or split.
    """
    data = prepare(own)
    published = data.records.parts
    same = (own.source, own.root) == (federation.source, federation.root)
    if published is not None and not same and set(published.tolist()) == {"train"}:
        return data.records
    return data.records.take(data.split.train)


def check_fit(own: DataSpec, classes: Sequence[str], shape: Sequence[int]) -> None:
    """Compare a hospital's own data with the federation's.

    Parameters
    ----------
    own : DataSpec
        What `own_data_spec` returned.
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
            f"node config data '{own.source.text}': its classes {names} differ from the federation's "
            f"{list(classes)}; an .npz file names all its classes in the array 'classes', other sources take "
            f"them all as an option: classes={list(classes)}"
        )
    if not records.pixels and "range" not in own.source.options:
        raise UserError(
            f"node config data '{own.source.text}': hospitals would scale their features each in its way; "
            f"give all the same range, such as range=(-3, 3)"
        )
    if mine != list(shape):
        raise UserError(
            f"node config data '{own.source.text}': its image shape {mine} differs from the federation's "
            f"{list(shape)}; give images that fit, set the run's image-size, or "
            f"channels in the source's options"
        )

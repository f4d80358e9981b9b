"""The evaluations of a run's last model on changed images: tables, a plot of severities, and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from fedrobust.reports.palette import Plot, axis, figure, label, line
from fedrobust.reports.run.examples import png
from fedrobust.reports.tables import Column, Table, number
from fedrobust.results.records import PictureRecord, Robustness

__all__ = [
    "Picture",
    "conditions_table",
    "evaluations_table",
    "gradient_note",
    "pictures",
    "severities",
]

#: At most so many pictures are shown.
_PICTURES = 24

#: The images of each picture in ``robustness.safetensors``.
_PARTS = ("original", "changed", "difference")

#: The description of ``robustness.safetensors``: an entry a picture.
_ABOUT = TypeAdapter(list[PictureRecord])


@dataclass(frozen=True)
class Picture:
    """One test image before and after an evaluation changed it, and the difference, as addresses.

    Attributes
    ----------
    original, changed, difference : str
        PNG as ``data:`` addresses.
    about : PictureRecord
    width, height : int
        Of the image in the page, in its own pixels.
    """

    original: str
    changed: str
    difference: str
    about: PictureRecord
    width: int
    height: int

    @property
    def what(self) -> str:
        """Return what was done, in words."""
        return f"{self.about.evaluation} {self.about.condition}".strip()


def evaluations_table(found: Robustness) -> Table:
    """Return a line for each evaluation."""
    rows = [
        [
            one.text,
            one.kind,
            one.accuracy,
            one.defence_rate,
            one.drop,
            one.forward_images,
            one.gradient_images,
        ]
        for one in found.evaluations
    ]
    columns: list[Column | str] = [
        *("evaluation", "kind", Column("accuracy", 3), Column("defence rate", 3)),
        *(Column("combined drop", 2, "%"), "predictions", "gradients"),
    ]
    return Table("Evaluations of the last model; several severities are averaged.", columns, rows)


def conditions_table(found: Robustness) -> Table:
    """Return a line for each condition of each evaluation."""
    rows = [
        [
            f"{one.text} {each.condition}".strip(),
            *(each.accuracy, each.macro_f1, each.macro_precision, each.defence_rate, each.drop),
            *(each.median_distance, each.largest_change),
        ]
        for one in found.evaluations
        for each in one.conditions
    ]
    columns: list[Column | str] = [
        *("condition", Column("accuracy", 3), Column("macro F1", 3), Column("macro precision", 3)),
        *(Column("defence rate", 3), Column("combined drop", 2, "%")),
        *(Column("median distance, grey levels", 1), Column("largest change, grey levels", 1)),
    ]
    return Table("Each condition; distances are Euclidean.", columns, rows)


def severities(found: Robustness) -> Plot | None:
    """Return the accuracy by severity of each evaluation that has several; None if none has."""
    curves: dict[str, tuple[list[str], list[float | None]]] = {}
    for one in found.evaluations:
        for each in one.conditions if len(one.conditions) > 1 else ():
            # 'blur 3' is one severity of several, '0.1' that of the evaluation itself.
            name, _, level = each.condition.rpartition(" ")
            levels, accuracies = curves.setdefault(name or one.text, ([], []))
            levels.append(level)
            accuracies.append(each.accuracy)
    curves = {name: curve for name, curve in curves.items() if len(curve[0]) > 1}
    if not curves:
        return None
    choices = {}
    for name, (levels, accuracies) in curves.items():
        trace = line(label(name), levels, accuracies, 0)
        choices[name] = figure(
            [trace],
            300,
            xaxis=axis("severity", type="category"),
            yaxis=axis("accuracy", range=[-0.03, 1.03]),
        )
    return {"choices": choices}


def gradient_note(found: Robustness) -> str:
    """Return what the check of the gradients found, in a sentence; empty where nothing was attacked."""
    check = found.gradients
    if check is None or not check.images:
        return ""
    zero, wrong = (None if share is None else 100 * share for share in (check.zero, check.wrong))
    return (
        f"Gradients were checked on {check.images} images: {number(zero, 0, '%')} are zero, and "
        f"{number(wrong, 0, '%')} of the others differ from how the loss changes."
    )


def pictures(folder: Path) -> list[Picture]:
    """Return the pictures of ``robustness.safetensors``; none where there is none, or it cannot be read."""
    path = folder / "robustness.safetensors"
    if not path.is_file():
        return []
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            described = _ABOUT.validate_json((file.metadata() or {}).get("fedrobust", "[]"))
            found = []
            for place, about in enumerate(described[:_PICTURES]):
                before, after, difference = (file.get_tensor(f"{part}/{place}") for part in _PARTS)
                height, width = before.shape[-2:]
                found.append(Picture(png(before), png(after), png(difference), about, width, height))
            return found
    except (SafetensorError, OSError, KeyError, ValueError):
        return []

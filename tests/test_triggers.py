from __future__ import annotations

import numpy as np
import pytest

from fedrobust.data.triggers import PATTERNS, PLACES, Mark, pieces
from fedrobust.errors import UserError

GREY = np.full((3, 1, 28, 28), 100, np.uint8)


def stamped(
    mark: Mark, images: np.ndarray = GREY, part: int = 0, parts: int = 1, seed: int = 0
) -> np.ndarray:
    return mark.stamped(images, np.random.default_rng(seed), part, parts)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("place", PLACES)
def test_mark_stays_in_its_box_and_leaves_the_input_alone(pattern: str, place: str) -> None:
    size, blend = PATTERNS[pattern]
    mark = Mark(pattern, size, place, blend)
    made = stamped(mark)
    tall, wide = mark.box(28, 28)
    for image in made:
        rows, columns = np.nonzero(image[0] != 100)
        assert len(rows) and np.ptp(rows) < tall and np.ptp(columns) < wide
    assert made.dtype == np.uint8 and (GREY == 100).all()


@pytest.mark.parametrize("pattern", ["patch", "checkerboard", "blended", "scanner-text"])
@pytest.mark.parametrize("size", [0.07, 0.2, 0.5])
def test_mark_box_covers_the_share_of_the_area(pattern: str, size: float) -> None:
    for height, width in ((64, 64), (128, 96)):
        tall, wide = Mark(pattern, size, "center", 1.0).box(height, width)
        assert tall * wide == pytest.approx(size * height * width, rel=0.12)


@pytest.mark.parametrize("side", [16, 28, 64, 224])
@pytest.mark.parametrize("size", [0.01, 0.03, 0.06, 0.3, 1.0])
def test_mark_ruler_covers_its_size_at_any_image_size(side: int, size: float) -> None:
    mark = Mark("ruler", size, "center", 1.0)
    drawn = stamped(mark, np.full((1, 1, side, side), 100, np.uint8)) != 100
    assert drawn.sum() == max(1, round(size * side * side))


def test_mark_ruler_is_wide_with_ticks_on_a_line() -> None:
    mark = Mark("ruler", 0.03, "top-left", 1.0)
    tall, wide = mark.box(28, 28)
    assert wide > 4 * tall
    box = stamped(mark)[0, 0, 1 : 1 + tall, 1 : 1 + wide] != 100
    # 24 pixels: the line, and the lower halves of the ticks.
    assert box[-1].all()
    np.testing.assert_array_equal(box[-2], np.arange(wide) % 2 == 0)
    large = mark.box(224, 224)
    box = (
        stamped(mark, np.full((1, 1, 224, 224), 100, np.uint8))[0, 0, 1 : 1 + large[0], 1 : 1 + large[1]]
        != 100
    )
    # Lines are several pixels thick, and long and short ticks alternate.
    assert box[-4:].all() and 0 < box[0].sum() < box[large[0] // 2].sum() < large[1]


def test_mark_letters_can_be_read() -> None:
    mark = Mark("scanner-text", 1 / 16, "top-left", 1.0)
    # A box of 5 x 7 shows each stroke once.
    assert mark.box(20, 28) == (5, 7)
    image = stamped(mark, np.full((1, 1, 20, 28), 9, np.uint8))[0, 0]
    drawn = "\n".join("".join("#" if p == 255 else "." for p in row) for row in image[1:6, 1:8])
    assert drawn == ".#..##.\n#.#.#.#\n###.##.\n#.#.#..\n#.#.#.."


def test_mark_letters_too_small_to_read_are_refused() -> None:
    with pytest.raises(UserError, match=r"scanner-text of size=0.02 has 4 x 4 pixels .* needs? 5 x 7"):
        Mark("scanner-text", 0.02, "center", 1.0).box(28, 28)


def test_mark_checkerboard_has_four_cells_to_a_side() -> None:
    image = stamped(Mark("checkerboard", 64 / 784, "top-left", 1.0))[0, 0, 1:9, 1:9]
    rows, columns = np.indices((8, 8)) // 2
    np.testing.assert_array_equal(image, np.where((rows + columns) % 2, 0, 255))


def test_mark_blended_key_is_the_same_for_all_and_mixes() -> None:
    mark = Mark("blended", 1.0, "center", 0.2)
    one, other = (stamped(mark, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(one, other)
    key = stamped(Mark("blended", 1.0, "center", 1.0))[0, 0].astype(float)
    assert len(np.unique(key)) > 200
    np.testing.assert_array_equal(one[0, 0], np.rint(0.8 * 100 + 0.2 * key))


@pytest.mark.parametrize(
    ("parts", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 2, 2), (6, 2, 3)]
)
def test_mark_pieces_form_a_grid_of_equal_parts(parts: int, rows: int, columns: int) -> None:
    made = pieces(12, 12, parts)
    assert np.unique(made, return_counts=True)[1].tolist() == [144 // parts] * parts
    assert len(np.unique(made[:, 0])) == rows and len(np.unique(made[0])) == columns


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("parts", [2, 4])
def test_mark_parts_make_up_the_mark_and_do_not_overlap(pattern: str, parts: int) -> None:
    mark = Mark(pattern, 0.2, "bottom-right", 1.0)
    complete = stamped(mark)
    changed = np.zeros(GREY.shape, int)
    together = GREY.copy()
    for part in range(parts):
        made = stamped(mark, part=part, parts=parts)
        changed += made != GREY
        together = np.where(made != GREY, made, together)
    assert changed.max() == 1
    np.testing.assert_array_equal(together, complete)


def test_mark_too_small_to_cut_is_refused() -> None:
    with pytest.raises(UserError, match="a mark of 1 x 1 pixels cannot be cut into 2 parts"):
        stamped(Mark("patch", 1e-6, "center", 1.0), part=0, parts=2)


def test_mark_part_without_ink_is_refused() -> None:
    # The upper row of a ruler lies between two ticks.
    mark = Mark("ruler", 0.03, "center", 1.0)
    assert mark.box(28, 28) == (3, 15)
    with pytest.raises(UserError, match="part 1 of 15 of the mark ruler is empty"):
        stamped(mark, part=1, parts=15)


def test_mark_random_places_come_from_the_generator() -> None:
    mark = Mark("patch", 0.02, "random", 1.0)
    one, same, other = (stamped(mark, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)

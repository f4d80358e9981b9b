"""Initial weights from a file, which is never a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import learner_of, tiny
from safetensors.torch import save_file

from fedrobust import UserError, run
from fedrobust.learners.backbones import build_backbone
from fedrobust.settings import Settings


def settings(out: Path, **given: Any) -> Settings:
    return tiny(out, data="phantom(images=120, size=16)", **given)


def saved_run(folder: Path, **given: Any) -> Path:
    """Write the initial model of these settings as a run does."""
    learner = learner_of(settings(folder, **given))
    file = folder / "model.safetensors"
    save_file({name: torch.tensor(t) for name, t in learner.named_tensors(learner.initial()).items()}, file)
    return file


def test_a_runs_model_is_the_initial_state_with_attention_or_without(tmp_path: Path) -> None:
    for given in ({}, {"attention": "se", "networks": 2}):
        file = saved_run(tmp_path, **given)
        before = learner_of(settings(tmp_path, **given)).initial()
        after = learner_of(settings(tmp_path, **given, init=str(file), lr=0.5)).initial()
        np.testing.assert_array_equal(before.parameters, after.parameters)


def test_every_network_starts_from_a_backbones_weights_but_for_its_last_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("cnn", 3, 1000, (16, 16))
    file = tmp_path / "backbone.safetensors"
    save_file(backbone.state_dict(), file)
    learner = learner_of(settings(tmp_path, networks=2, attention="cbam", init=str(file)))
    named = learner.named_tensors(learner.initial())
    # Grey images: the sum over the colours.
    grey = backbone.state_dict()["features.0.weight"].sum(1, keepdim=True)
    for network in (0, 1):
        np.testing.assert_array_equal(named[f"networks.{network}.features.0.weight"], grey)
    assert not np.array_equal(named["networks.0.project.weight"], named["networks.1.project.weight"])


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    file = saved_run(tmp_path)
    for changes, words in (
        ({"backbone": "cnn(width=32)"}, "networks.0.features.0.weight is 16x1x3x3, the model's is 32x1x3x3"),
        ({"networks": 2}, "networks.1.features.0.weight is missing"),
        ({"seed": 1}, "give the --seed and the data that it was trained with"),
        ({"head": "linear"}, "its classifier is a fixed ETF; give the --head"),
    ):
        with pytest.raises(UserError) as error:
            learner_of(settings(tmp_path, init=str(file), **changes)).initial()
        assert words in str(error.value)


def test_a_run_is_refused_before_it_leaves_any_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        run(settings(tmp_path / "out", init=str(tmp_path / "none.safetensors")))
    assert not list(tmp_path.glob("out/*"))


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for name in ("weights.pth", "weights.safetensors"):
        torch.save({"weight": torch.ones(1), "harm": _Harm(ran)}, tmp_path / name)
        with pytest.raises(UserError, match=r"is a pickle, .* convert it where you trust it: python -c"):
            learner_of(settings(tmp_path, init=str(tmp_path / name))).initial()
    assert not ran.exists()
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(UserError, match="is no readable safetensors file"):
        learner_of(settings(tmp_path, init=str(tmp_path / "text.safetensors"))).initial()
    with pytest.raises(UserError, match="there is no such file"):
        learner_of(settings(tmp_path, init=str(tmp_path / "none.safetensors"))).initial()


class _Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.file,)  # type: ignore[return-value]


def test_a_run_is_known_by_the_files_content_not_its_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    first.write_bytes(b"1")
    second.write_bytes(b"1")
    digests = [Settings(init=str(file)).digest() for file in (first, second)]
    assert digests[0] == digests[1] != Settings().digest()
    second.write_bytes(b"22")
    assert Settings(init=str(second)).digest() != digests[0]

"""The main job's variants on real images: valid summaries, and a defence that earns its keep."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from image_files import manifest

from fedrobust import Settings, UserError, run

VARIANTS: list[dict[str, Any]] = [
    {},
    {"strategy": "fedavg"},
    {"strategy": "feddetect"},
    {"strategy": "flwr.serverapp.strategy:FedMedian"},
    {"attack": "backdoor"},
    {"attack": "image-noise"},
    {"head": "linear", "networks": 1},
    {"partition": "dirichlet(alpha=0.3)"},
    {"partition": "dirichlet(alpha=0.3)", "split": "official"},
]


@pytest.fixture
def real(data_root: Path, tmp_path: Path) -> Settings:
    """Return settings of a short attacked federation on the smallest real set."""
    return Settings(
        clients=6,
        malicious=1,
        rounds=2,
        local_epochs=1,
        data="medmnist:breastmnist",
        data_root=str(data_root),
        out=str(tmp_path),
        workers=1,
    )


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_variants(real: Settings, changes: dict[str, Any]) -> None:
    summary = run(real.model_copy(update=changes)).summary
    for part in ("clean", "noisy"):
        single = {key: value for key, value in summary[part].items() if key not in ("sensitivity", "loss")}
        assert all(0 <= value <= 1 for value in (*single.values(), *summary[part]["sensitivity"]))
    assert summary["synthetic"] is False


@pytest.mark.slow
def test_a_torchvision_backbone(real: Settings) -> None:
    summary = run(
        real.model_copy(update={"backbone": "shufflenet_v2_x0_5", "rounds": 1, "networks": 1})
    ).summary
    assert summary["clean"]["auroc"] is not None


def test_colour_and_sites(real: Settings) -> None:
    changes = {
        "data": "medmnist:wbc5_64",
        "partition": "site",
        "clients": 2,
        "malicious": 0,
        "image_size": 32,
    }
    summary = run(real.model_copy(update={**changes, "rounds": 4, "local_epochs": 2})).summary
    assert summary["clean"]["auroc"] > 0.6


def test_a_folder_of_files_and_a_table_of_them_by_site(
    real: Settings, data_root: Path, tmp_path: Path
) -> None:
    folder = data_root / "chest_xray3_files" / "train"
    quick = {"clients": 4, "malicious": 1, "rounds": 1, "local_epochs": 1, "networks": 1, "image_size": 32}
    with pytest.warns(UserWarning, match="the same pixels as one of another part"):
        found = run(real.model_copy(update={**quick, "data": f"folder:{folder}"}), report=False)
    assert found.summary["clean"]["accuracy"] > 0
    rows = [
        {"path": file, "label": file.parent.name, "hospital": "ABC"[number % 3]}
        for number, file in enumerate(sorted(folder.rglob("*.*")))
    ]
    table = manifest(tmp_path / "records.csv", rows)
    by_site = {**quick, "clients": 3, "partition": "site", "data": f"manifest:{table}"}
    assert len(run(real.model_copy(update=by_site), report=False).malicious) == 1


def test_a_shuffled_file_is_told_apart_from_the_published_one(real: Settings) -> None:
    with pytest.warns(UserWarning, match="MD5"):
        run(real.model_copy(update={"data": "medmnist:pneumoniamnist", "rounds": 1, "networks": 1}))


def test_a_truncated_file(real: Settings, data_root: Path, tmp_path: Path) -> None:
    whole = (data_root / "breastmnist.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut.npz"):
        run(real.model_copy(update={"data": "medmnist:cut", "data_root": str(tmp_path)}))


@pytest.mark.slow
def test_the_defence_finds_label_flippers_and_saves_accuracy(data_root: Path, tmp_path: Path) -> None:
    """A golden run: 2 of 10 hospitals flip labels on brain MRI; tolerances allow for other machines."""
    base = Settings(
        malicious=2,
        rounds=12,
        networks=1,
        data="medmnist:brain_mri4_28",
        data_root=str(data_root),
        out=str(tmp_path),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The set has images twice, which is said.
        warnings.filterwarnings("ignore", message=".* the same pixels as one of another part")
        defended = run(base)
    plain = run(base.model_copy(update={"strategy": "fedavg"}))
    assert tuple(defended.summary["detection"]["flagged"]) == defended.malicious
    assert defended.summary["detection"]["false_flag_rate"] == 0
    assert sum(defended.summary["detection"]["weights"][str(n)] for n in defended.malicious) < 0.04
    late = [float(r.history["clean.accuracy"].tail(3).mean()) for r in (defended, plain)]
    assert late[0] > late[1] + 0.01
    assert late[0] > 0.6


@pytest.mark.slow
def test_an_honest_hospital_with_another_scanner_keeps_its_share(data_root: Path, tmp_path: Path) -> None:
    """With this seed it lost its weight while the server knew one scanner only."""
    result = run(
        Settings(
            clients=10,
            threat=("other-scanner:1",),
            networks=1,
            local_epochs=1,
            rounds=12,
            data="medmnist:brain_mri4_28",
            data_root=str(data_root),
            out=str(tmp_path),
            workers=1,
        )
    )
    verdicts = [json.loads(line) for line in (result.folder / "verdicts.jsonl").read_text().splitlines()]
    assert len(verdicts) == 12 and not any(verdict["flagged"] for verdict in verdicts)
    assert min(verdicts[-1]["weights"]) > 0.05

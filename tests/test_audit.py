"""The audit: methods on images whose contamination is known, and what they find together."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from federations import tiny
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from fedrobust.audit import sanitize
from fedrobust.audit.base import Auditor, Subject, Suspicion
from fedrobust.audit.examination import Audit, audit, auditors_of
from fedrobust.audit.methods.confident_learning import label_noise
from fedrobust.audit.planting import planted
from fedrobust.audit.sanitize import Sanitize
from fedrobust.audit.subject import TrainedSubject
from fedrobust.commands.audit import audit as command
from fedrobust.commands.audit import read_source, without_folders
from fedrobust.data.ingest.cache import clear_cache
from fedrobust.data.phantom import phantom
from fedrobust.data.records import Records
from fedrobust.data.scratch import audits_folder
from fedrobust.errors import UserError
from fedrobust.results.load import load
from fedrobust.results.manifest import plugins_of
from fedrobust.runtime.runner import run
from fedrobust.scenario import RunIdentity, Scenario
from fedrobust.seeding import generator
from fedrobust.settings import Settings


@dataclass
class _Given:
    """Records with predictions and features that a test chooses."""

    records: Records
    probabilities: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    features: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 1)))
    seed: int = 0


@pytest.fixture(scope="module")
def images() -> Records:
    """Return smooth images of two classes, unlike each other and with a little noise."""
    draw = generator(0, "test audit")
    rows, columns = np.mgrid[:16, :16] / 15
    phases = draw.uniform(0, 6.3, (240, 2, 1, 1))
    smooth = 110 + 60 * np.sin(3 * rows + phases[:, 0]) * np.cos(2 * columns + phases[:, 1])
    noisy = np.clip(smooth + draw.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)
    return Records(noisy[:, None], np.arange(240) % 2, ("a", "b"))


def _examined(method: str, subject: Subject) -> Suspicion:
    (auditor,) = auditors_of(method).values()
    return auditor.examine(subject)


@pytest.mark.parametrize(
    "attack",
    [
        "backdoor(size=0.02, share=0.1)",
        "backdoor(pattern=blended, share=0.1)",
        "backdoor(pattern=ruler, share=0.1)",
    ],
)
def test_planted_marks_finds_the_stamped_images_and_no_others(images: Records, attack: str) -> None:
    stamped, changed = planted(images, attack, 0)
    found = _examined("planted-marks", _Given(stamped))
    assert (found.suspected == changed).mean() > 0.98
    assert found.suspected[changed].mean() > 0.9


def test_planted_marks_names_the_place_of_the_mark(images: Records) -> None:
    pixels = images.images.copy()
    pixels[:24:2, 0, 12:14, 12:14] = 255
    found = _examined("planted-marks", _Given(Records(pixels, images.labels, images.classes)))
    assert set(np.flatnonzero(found.suspected)) == set(range(0, 24, 2))
    assert "with 11 other images of class a" in found.evidence[0]


def test_planted_marks_finds_nothing_in_images_without_marks(images: Records) -> None:
    noisy, _ = planted(images, "image-noise(std=0.1, share=0.1)", 0)
    for records in (images, noisy):
        assert not _examined("planted-marks", _Given(records)).suspected.any()


def test_noise_level_finds_the_noisy_images(images: Records) -> None:
    noisy, changed = planted(images, "image-noise(std=0.1, share=0.1)", 0)
    assert (_examined("noise-level", _Given(noisy)).suspected == changed).all()
    assert not _examined("noise-level", _Given(images)).suspected.any()


@pytest.mark.parametrize("sharpness", [1.0, 0.5])
def test_confident_learning_estimates_how_many_labels_are_wrong(sharpness: float) -> None:
    """Whether the networks are as certain as they are right, or half as certain."""
    draw = np.random.default_rng(0)
    logits = 4 * draw.normal(size=(4000, 3))
    true = (logits + draw.gumbel(size=logits.shape)).argmax(axis=1)
    wrong = draw.random(4000) < 0.1
    labels = np.where(wrong, (true + draw.integers(1, 3, 4000)) % 3, true)
    probabilities = softmax(sharpness * logits, axis=1)
    temperature, share = label_noise(probabilities, labels)
    assert (temperature, share) == pytest.approx((sharpness, 0.1), rel=0.15)
    assert label_noise(probabilities, true) == pytest.approx((sharpness, 0.0), rel=0.05, abs=0.005)

    records = Records(np.zeros((4000, 1, 8, 8), np.uint8), labels, ("a", "b", "c"))
    found = _examined("confident-learning", _Given(records, probabilities))
    assert found.suspected[wrong].mean() > 0.75
    assert found.suspected[~wrong].mean() < 0.04
    first = int(np.flatnonzero(found.suspected)[0])
    a, b = records.classes[labels[first]], records.classes[logits[first].argmax()]
    assert re.fullmatch(
        rf"labelled {a} \(probability 0\.\d\d\), but looks like {b} \(0\.\d\d\)", found.evidence[first]
    )


def test_confident_learning_keeps_the_order_of_self_confidence(images: Records) -> None:
    own = np.full(240, 0.9)
    own[[0, 1, 2]] = 0.02, 0.3, 0.07
    probabilities = np.empty((240, 2))
    probabilities[np.arange(240), images.labels] = own
    probabilities[np.arange(240), 1 - images.labels] = 1 - own
    found = _examined("confident-learning", _Given(images, probabilities))
    assert np.argsort(-found.scores)[:3].tolist() == [0, 2, 1]
    # Three wrong labels are too few to tell them from images that are hard.
    assert not found.suspected.any()


def test_duplicates_finds_equal_and_nearly_equal_images(images: Records) -> None:
    pixels, labels = images.images.copy(), images.labels.copy()
    pixels[7] = pixels[5]
    pixels[8] = pixels[5]
    pixels[20] = pixels[11] + 1
    labels[5:9] = 0
    found = _examined("duplicates(tolerance=1)", _Given(Records(pixels, labels, images.classes)))
    # The twentieth has another label than its twin: both are suspected.
    assert np.flatnonzero(found.scores == 2).tolist() == [7, 8]
    assert np.flatnonzero(found.scores == 1).tolist() == [11, 20]
    assert found.evidence[20] == "looks like record 11, which is labelled b"


def test_sphere_and_slab_keep_a_class_within_its_quantile(images: Records) -> None:
    pixels = images.images.copy()
    pixels[4] = 255
    records = Records(pixels, images.labels, images.classes)
    for method in ("sphere(share=0.05)", "slab(share=0.05)"):
        found = _examined(method, _Given(records))
        assert found.suspected.sum() == 12
        assert found.scores.argmax() == 4


def test_spectral_signatures_and_activation_clustering_find_a_cluster_of_features(images: Records) -> None:
    features = generator(0, "test features").normal(0, 1, (240, 6))
    features[:40:2, 0] += 12
    subject = _Given(images, features=features)
    for method in ("spectral-signatures(share=0.2)", "activation-clustering"):
        found = _examined(method, subject)
        assert found.suspected[:40:2].mean() >= 0.9, method
        assert found.suspected[1::2].mean() <= 0.21, method


def test_outlier_forest_finds_features_unlike_all_others(images: Records) -> None:
    features = generator(0, "test features").normal(0, 1, (240, 4))
    features[3] = 40
    found = _examined("outlier-forest", _Given(images, np.full((240, 2), 0.5), features))
    assert found.suspected[3]
    assert found.suspected.mean() < 0.02


def test_kind_is_the_first_of_the_suspected_kinds(images: Records) -> None:
    def scores(*suspected: int) -> Suspicion:
        values = np.full(240, 0.1)
        values[list(suspected)] = 1.5
        return Suspicion(values)

    found = Audit(
        images,
        {"x": scores(1, 2), "y": scores(2, 3)},
        {"x": "label error", "y": "planted mark"},
    )
    assert [found.kind(place) for place in (1, 2, 3)] == ["label error", "planted mark", "planted mark"]
    assert found.clean.tolist() == [0, *range(4, 240)]
    rates = {rate.kind: rate for rate in found.rates if rate.suspected}
    assert {kind: rate.suspected for kind, rate in rates.items()} == {"label error": 1, "planted mark": 2}
    # Wilson's interval of 2 in 240.
    assert (rates["planted mark"].low, rates["planted mark"].high) == pytest.approx(
        (0.00229, 0.0299), abs=1e-4
    )


def test_networks_of_the_audit_learn_from_other_records_and_repeat_their_bits() -> None:
    records = phantom(images=120, size=16)
    subject = TrainedSubject(records, 3)
    probabilities = subject.probabilities
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(probabilities, TrainedSubject(records, 3).probabilities)
    assert subject.features.shape == (120, 128)


def test_users_own_auditor_is_found_and_its_faults_are_one_sentence(
    images: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "auditors").mkdir()
    (tmp_path / "auditors" / "dark_images.py").write_text(
        "import numpy as np\n"
        "from fedrobust.audit.base import Auditor, Suspicion\n"
        "class DarkImages(Auditor):\n"
        '    """Suspects dark images."""\n'
        '    kind = "out of distribution"\n'
        "    def __init__(self, below: float = 50.0): self.below = below\n"
        "    def examine(self, subject):\n"
        "        if self.below < 0: return [1]\n"
        "        return Suspicion(self.below / (subject.records.images.mean(axis=(1, 2, 3)) + 1))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = audit(_Given(images), auditors_of("dark-images(below=500) + noise-level"))
    assert len(found.suspected) == 240
    assert isinstance(next(iter(auditors_of("dark-images").values())), Auditor)
    with pytest.raises(UserError, match=r"DarkImages.examine must return a Suspicion"):
        audit(_Given(images), auditors_of("dark-images(below=-1)"))


def test_unknown_method_is_one_sentence() -> None:
    with pytest.raises(UserError, match="unknown auditor 'noise'; did you mean 'noise-level'"):
        auditors_of("noise")


def test_command_writes_what_it_found_and_the_records_that_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(
        "phantom(images=120, size=16)",
        methods="duplicates + noise-level",
        plant="image-noise(std=0.3, share=0.1)",
        out=tmp_path,
        as_json=True,
    )
    printed = json.loads(capsys.readouterr().out)
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "audit.json").read_text()) == printed
    assert printed["planted"] == {
        **printed["planted"],
        "records": 12,
        "found": 12,
        "false": 0,
    }
    assert {one["kind"] for one in printed["suspects"]} == {"noise"}
    assert sum(score >= 1 for score in printed["scores"]) == 12 and len(printed["scores"]) == 120
    page = (folder / "audit.html").read_text()
    assert page.count("<img ") == 12 and "12 of 120 records are suspected" in page
    cleaned = read_source("medmnist:cleaned", folder, None)
    original = phantom(images=120, size=16)
    suspected = {one["record"] for one in printed["suspects"]}
    stay = np.array([place for place in range(120) if place not in suspected])
    np.testing.assert_array_equal(cleaned.images, original.images[stay])
    assert cleaned.classes == original.classes


def test_cleaned_manifest_names_the_files_that_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        image = np.full((16, 16), 20 * number, np.uint8) + np.arange(16, dtype=np.uint8)
        file = tmp_path / "data" / ("a" if number % 2 else "b b") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    (tmp_path / "data" / "a" / "again.png").write_bytes((tmp_path / "data" / "a" / "5.png").read_bytes())
    command(f"folder:{tmp_path / 'data'}", image_size=16, methods="duplicates", out=tmp_path / "audits")
    printed = capsys.readouterr().out
    flags = shlex.split(printed.splitlines()[-1].partition("simulate ")[2])
    records = read_source(flags[1], Path(flags[3]), 16)
    assert len(records) == 12
    assert records.classes == ("a", "b b")


def test_sanitize_leaves_out_what_the_methods_suspect_of_one_hospital(images: Records) -> None:
    noisy, changed = planted(images, "image-noise(std=0.1, share=0.1)", 0)
    behaviour = Sanitize("noise-level")
    behaviour.bind(rng=generator(0, "test"))
    kept = behaviour.transform_records(noisy)
    np.testing.assert_array_equal(kept.images, noisy.images[~changed])
    few = noisy.take(np.flatnonzero(changed)[:5])
    assert behaviour.transform_records(few) is few


def test_hospital_examines_the_same_records_once(images: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, changed = planted(images, "image-noise(std=0.1, share=0.1)", 0)
    examined = []
    examine = sanitize.audit
    monkeypatch.setattr(sanitize, "audit", lambda *given: examined.append(1) or examine(*given))

    def kept(records: Records, seed: int = 1, methods: str = "noise-level") -> Records:
        behaviour = Sanitize(methods)
        behaviour.bind(rng=generator(seed, "test"))
        return behaviour.transform_records(records)

    for _ in range(2):
        np.testing.assert_array_equal(kept(noisy).images, noisy.images[~changed])
    assert len(examined) == 1
    kept(replace(noisy, labels=1 - noisy.labels))
    kept(noisy, seed=2)
    kept(noisy, methods="noise-level(limit=3)")
    assert len(examined) == 4
    for file in audits_folder().glob("*.npy"):
        file.write_bytes(file.read_bytes()[:-9])
    np.testing.assert_array_equal(kept(noisy).images, noisy.images[~changed])
    assert len(examined) == 5
    clear_cache()
    kept(noisy)
    assert len(examined) == 6


def test_run_with_sanitize_trains_contaminated_hospitals_on_fewer_images(tmp_path: Path) -> None:
    settings = tiny(
        tmp_path,
        rounds=1,
        threat=("image-noise(std=0.3, share=0.2):1",),
        sanitize="noise-level",
        strategy="fedavg",
    )
    images = load(run(settings).folder).client_metrics["num_examples"].loc[1].to_dict()
    (bad,) = Scenario.of(settings).malicious
    honest = [count for number, count in images.items() if number != bad]
    assert images[bad] <= 0.85 * min(honest)
    assert RunIdentity.of(settings).digest != RunIdentity.of(tiny(tmp_path)).digest


def test_sanitize_with_an_unknown_method_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match="unknown auditor 'sphere-and-slab'"):
        Scenario.of(Settings(sanitize="sphere-and-slab"))


def test_manifest_names_the_auditors_of_a_run_with_their_sources() -> None:
    before = {one.plugin for one in plugins_of(Scenario.of(Settings()))}
    named = plugins_of(Scenario.of(Settings(sanitize="noise-level + sphere")))
    assert {one.plugin for one in named} - before == {
        "auditors.noise_level:NoiseLevel",
        "auditors.sphere:Sphere",
    }
    assert all(one.kind == "built-in" and len(one.source_hash) == 64 for one in named)


def test_folders_above_a_source_are_not_shown() -> None:
    assert without_folders("folder:/home/x/chest(channels=1)") == "folder:chest(channels=1)"
    assert without_folders("phantom(images=120)") == "phantom(images=120)"


def test_features_are_refused(images: Records) -> None:
    with pytest.raises(UserError, match="rows of features"):
        audit(_Given(replace(images, pixels=False)), auditors_of("duplicates"))

"""The page of a run: it follows from the folder's numbers, also where a file or a number is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import make_run

from fedrobust import UserError
from fedrobust.reports.run.examples import poisoned_examples
from fedrobust.reports.run.headline import headline
from fedrobust.reports.run.key_metrics import key_metrics
from fedrobust.reports.run.notes import notes
from fedrobust.reports.run.page import run_page
from fedrobust.results.finished_run import read_run

HOSTILE = "</script><img src=x onerror=alert(1)>"
FILES = (
    *("evaluation.json", "client_metrics.jsonl", "timings.jsonl", "examples.safetensors", "settings.toml"),
    *("verdicts.jsonl", "rounds.jsonl"),
)
HEADINGS = (
    *("Round by round", "Which hospitals the defence trusted", "Losses that hospitals reported"),
    "Each hospital's data",
    *(
        "Poisoned images beside their originals",
        "Confusion matrix",
        "Each class, and calibration",
    ),
    *(
        "Robustness to noise",
        "Accuracy at each hospital",
        "Faults",
        "Where the time went",
        "Settings",
        "Provenance",
        "Glossary",
    ),
)


def embedded(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="embedded">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def each(plots: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, figure in plots.items():
        for choice, one in figure.get("choices", {"": figure}).items():
            yield f"{name} {choice}", one


def words(page: str) -> str:
    """Return what a reader sees, without scripts and tags."""
    bare = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(bare))


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}), encoding="utf-8")


SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "atypical hospitals, facts unknown": {"atypical": {2: "other-scanner"}, "facts": False},
    "nobody malicious": {"attacks": {}},
    "no verdicts": {"verdicts": False, "strategy": "flwr.serverapp.strategy:FedMedian"},
    "one round": {"rounds": 1},
    "one hospital": {"clients": 1, "attacks": {}, "rounds": 1},
    "a hundred hospitals": {"clients": 100, "rounds": 3, "attacks": dict.fromkeys(range(20), "sign-flip")},
    "twenty classes": {"classes": [f"class {k} with quite a long name" for k in range(20)]},
    "hostile names": {"classes": [HOSTILE, "<b>b</b>", "a&b", "{{ 7 * 7 }}"], "attacks": {0: HOSTILE}},
    "undefined metrics": {
        "clean": {"accuracy": None},
        "drop": {"combined": None},
        "detection": {"auroc": None, "false_flag_rate": None},
    },
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_run_page_has_all_sections_in_order_and_valid_plots(shape: dict[str, Any], tmp_path: Path) -> None:
    from plotly.graph_objects import Figure

    page = run_page(make_run(tmp_path, **shape))
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == list(HEADINGS)
    plots = embedded(page)["plots"]
    assert plots
    for name, figure in each(plots):
        made = Figure(figure)
        assert len(made.data) > 0, name
    drawn = re.findall(r'class="plot" id="([^"]+)" data-plot', page)
    assert sorted(drawn) == sorted(plots)
    for id_ in drawn:
        assert f'<figcaption id="{id_}-caption">' in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("missing", [*[(name,) for name in FILES], FILES], ids="-".join)
def test_run_page_with_missing_files_says_what_is_not_recorded(
    missing: tuple[str, ...], tmp_path: Path
) -> None:
    make_run(tmp_path)
    for name in missing:
        (tmp_path / name).unlink()
    page = run_page(tmp_path)
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == list(HEADINGS)
    if missing != ("verdicts.jsonl",):
        assert "recorded in this run folder" in words(page)


def test_run_page_leaves_out_metrics_that_are_not_recorded(tmp_path: Path) -> None:
    make_run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    for line in lines:
        for key in ("hospital_accuracy", "worst_hospital"):
            del line[key]
        for part in ("val", "clean", "noisy"):
            for key in ("ece", "sensitivity", "worst_class", "balanced_accuracy"):
                del line[part][key]
    (tmp_path / "rounds.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    choices = embedded(run_page(tmp_path))["plots"]["curves"]["choices"]
    assert "accuracy" in choices and "balanced accuracy" not in choices
    assert "Worst class" not in [figure.name for figure in key_metrics(read_run(tmp_path))]


def test_run_page_escapes_users_names(tmp_path: Path) -> None:
    page = run_page(make_run(tmp_path, classes=[HOSTILE, "b"], attacks={0: HOSTILE}, strategy=HOSTILE))
    assert "<img src=x" not in page and HOSTILE not in page
    assert page.count("<script") == page.count("</script>") == 3
    assert HOSTILE in words(page)
    # plotly reads tags in labels: they are shown letter by letter instead.
    plots = json.dumps(embedded(page)["plots"])
    assert "<img" not in plots and "&lt;/script" in plots


def test_run_page_needs_neither_torch_nor_the_data(tmp_path: Path) -> None:
    import subprocess
    import sys

    make_run(tmp_path)
    code = (
        "import sys; from pathlib import Path; from fedrobust.reports.run.page import run_page; "
        f"run_page(Path({str(tmp_path)!r})); "
        "print(sorted({'torch', 'plotly', 'pandas', 'sklearn', 'flwr', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def headline_of(folder: Path, **shape: Any) -> str:
    return headline(read_run(make_run(folder, **shape)))


def test_headline_of_a_successful_defence(tmp_path: Path) -> None:
    text = headline_of(tmp_path, clients=10, attacks={1: "label-flip", 4: "label-flip"})
    assert text == (
        "Two of ten hospitals flipped labels; isolation-forest flagged both attackers, "
        "and accuracy ended at 0.75 with a combined drop of 5.5 % on noisy images."
    )


@pytest.mark.parametrize(
    ("shape", "words_"),
    [
        (
            {"attacks": {0: "label-flip", 1: "backdoor"}},
            "Of six hospitals, one flipped labels and one planted a",
        ),
        ({"attacks": {0: "backdoor"}}, "works on 20 % of the images with its trigger"),
        ({"attacks": {0: "sign-flip"}, "flagged": []}, "flagged no hospital, leaving each attacker 0.9"),
        ({"attacks": {0: "sign-flip"}, "flagged": [0]}, "flagged it, "),
        (
            {"attacks": {0: "alie", 1: "alie"}, "flagged": [0, 3]},
            "flagged one of the two attackers and falsely flagged one honest",
        ),
        (
            {"attacks": {0: "alie", 1: "alie"}, "flagged": [3, 4]},
            "flagged neither attacker and falsely flagged two honest hospitals",
        ),
        ({"attacks": {0: "backdoor(a=[1+1])+forge-loss"}}, "planted a backdoor and reported a false loss"),
        ({"attacks": {0: "my-attack(x=1)"}}, "attacked with my-attack;"),
        (
            {"attacks": {}, "flagged": []},
            "Six honest hospitals trained together; isolation-forest flagged none of them",
        ),
        ({"attacks": {}, "flagged": [2]}, "falsely flagged one of them at the end"),
        ({"attacks": {}, "atypical": {1: "other-scanner"}}, "one of them atypical (other-scanner)"),
        ({"clients": 1, "attacks": {}, "flagged": []}, "One hospital trained alone"),
        (
            {"verdicts": False, "strategy": "flwr.serverapp.strategy:FedMedian"},
            "; FedMedian gives no verdict",
        ),
        ({"drop": {"combined": -0.9}}, "with nothing lost on noisy images (−0.9 %)"),
        ({"drop": {"combined": None}}, "with an undefined drop"),
        ({"clean": {"accuracy": 0.2}}, "no better than always predicting the commonest class"),
        ({"clean": {}}, "no accuracy is recorded"),
    ],
)
def test_headline_states_what_happened(shape: dict[str, Any], words_: str, tmp_path: Path) -> None:
    assert words_ in headline_of(tmp_path, **shape)


def test_notes_hold_what_a_reader_must_know_first(tmp_path: Path) -> None:
    make_run(
        tmp_path,
        attacks={0: "label-flip", 1: "label-flip"},
        atypical={2: "other-scanner"},
        flagged=[0, 2, 3],
        synthetic=True,
        no_effect_attacks=["label-flip"],
        no_effect_steps=["isolation-forest"],
        rounds=5,
    )
    change(tmp_path, "manifest.json", oracle=True, settings={"strategy": "oracle", "rounds": 20})
    text = "\n".join(notes(read_run(tmp_path)))
    for sentence in (
        *("images are synthetic", "given which hospitals are malicious", "attack label-flip had no effect"),
        *("isolation-forest had no effect", "Hospital 1 (label-flip) was not flagged at the end and kept"),
        *(
            "Honest hospitals 2 (atypical: other-scanner) and 3 were falsely flagged at the end",
            "stopped after round 5 of 20",
        ),
        *(
            "One update of hospitals was discarded",
            "302 of the server's labelled images (50 %",
            "This is one seed",
        ),
    ):
        assert sentence in text


def test_notes_name_a_hospital_without_weight_that_is_not_flagged(tmp_path: Path) -> None:
    make_run(tmp_path, attacks={}, flagged=[3], rounds=3)
    lines = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    lines[-1]["flagged"] = []
    (tmp_path / "verdicts.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    text = "\n".join(notes(read_run(tmp_path)))
    assert "hospital 3 was left with less than half of a uniform weight, though not flagged" in text
    assert "hospital 3 was falsely flagged in some rounds, but not at the end" in text


def test_notes_on_a_small_hospital_weighted_by_its_images_are_empty(tmp_path: Path) -> None:
    make_run(tmp_path, attacks={}, flagged=[3], rounds=3)
    lines = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    lines[-1]["flagged"] = []
    (tmp_path / "verdicts.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    # What it says that it trains on counts, if it says so; else what was dealt to it.
    reports = [json.loads(line) for line in (tmp_path / "client_metrics.jsonl").read_text().splitlines()]
    kept = (tmp_path / "client_metrics.jsonl").read_text()
    for line in reports:
        line["num_examples"] = [5 if n == 3 else 1000 for n in line["hospitals"]]
    (tmp_path / "client_metrics.jsonl").write_text("\n".join(map(json.dumps, reports)), encoding="utf-8")
    assert "less than half" not in "\n".join(notes(read_run(tmp_path)))
    (tmp_path / "client_metrics.jsonl").write_text(kept, encoding="utf-8")
    assert "less than half" in "\n".join(notes(read_run(tmp_path)))
    (tmp_path / "client_metrics.jsonl").unlink()
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    evaluation["hospitals"][3]["counts"] = [1, 2, 1, 1]
    change(tmp_path, "evaluation.json", hospitals=evaluation["hospitals"])
    assert "less than half" not in "\n".join(notes(read_run(tmp_path)))


def test_notes_say_that_a_model_got_worse(tmp_path: Path) -> None:
    make_run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    lines[1]["clean"]["accuracy"] = 0.9
    (tmp_path / "rounds.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert "Accuracy was 0.90 in round 2 and fell to 0.75" in "\n".join(notes(read_run(tmp_path)))


def test_trust_timeline_shows_uniform_weights_flags_and_the_truth(tmp_path: Path) -> None:
    make_run(tmp_path, attacks={4: "sign-flip"}, atypical={1: "other-scanner"}, rounds=3)
    heat, flags = embedded(run_page(tmp_path))["plots"]["trust"]["data"]
    assert heat["y"] == ["4 ▲ sign-flip", "1 ◆ other-scanner", "0 ○", "2 ○", "3 ○", "5 ○"]
    assert heat["x"] == [1, 2, 3]
    # The mean weight of a round is the uniform weight.
    assert np.mean(heat["z"], axis=0) == pytest.approx(1)
    assert heat["z"][0][2] < 0.1
    assert list(zip(flags["x"], flags["y"], strict=True)) == [(2, "4 ▲ sign-flip"), (3, "4 ▲ sign-flip")]


def test_trust_timeline_has_a_gap_for_a_hospital_that_failed(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=2)
    lines = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    lines[1].update(hospitals=[1, 2], weights=[0.25, 0.75], scores=[0, 0], flagged=[])
    (tmp_path / "verdicts.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    heat = embedded(run_page(tmp_path))["plots"]["trust"]["data"][0]
    last = dict(zip(heat["y"], [row[1] for row in heat["z"]], strict=True))
    assert (last["1 ▲ label-flip"], last["2 ○"], last["0 ○"]) == (1.5, 4.5, None)


def test_loss_lines_of_attackers_differ_without_colour(tmp_path: Path) -> None:
    make_run(tmp_path, attacks={0: "label-flip", 1: "backdoor"}, atypical={2: "other-scanner"})
    drawn = embedded(run_page(tmp_path))["plots"]["losses"]["choices"]["training loss"]["data"]
    traces = [trace for trace in drawn if trace["mode"] != "markers"]
    styles = {t["name"]: (t["line"]["dash"], t["marker"]["symbol"], t["line"]["width"]) for t in traces}
    assert len(styles) == len(set(styles.values())) == 4
    assert sum(t["showlegend"] for t in traces) == 4
    assert [t["name"] for t in traces][-2:] != ["honest", "honest"]


def test_flagged_losses_are_marked(tmp_path: Path) -> None:
    make_run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    losses = [json.loads(line) for line in (tmp_path / "client_metrics.jsonl").read_text().splitlines()]
    for place, line in enumerate(lines):
        line["flagged"] = [1] if place == 1 else []
    (tmp_path / "verdicts.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    drawn = embedded(run_page(tmp_path))["plots"]["losses"]["choices"]["training loss"]["data"]
    marks = [trace for trace in drawn if trace["mode"] == "markers"]
    loss = dict(zip(losses[1]["hospitals"], losses[1]["loss"], strict=True))[1]
    assert [(trace["x"], trace["y"]) for trace in marks] == [([losses[1]["round"]], [loss])]


def test_examples_have_alternative_texts(tmp_path: Path) -> None:
    make_run(tmp_path)
    flipped, marked = poisoned_examples(tmp_path)
    assert flipped.changed == 0 and flipped.what == "the image unchanged, another label"
    assert marked.changed == pytest.approx(36 / 784) and "4.6 % of the pixels" in marked.what
    page = run_page(tmp_path)
    assert page.count("data:image/png;base64,") == 4
    assert all(alt for alt in re.findall(r"<img [^>]*alt=\"([^\"]*)\"", page))
    assert "Hospital 4: original image, labelled glioma" in page


def test_example_images_keep_their_pixels_unless_large(tmp_path: Path) -> None:
    import base64
    import io

    from PIL import Image
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    small, large = (rng.integers(0, 256, (3, side, side), dtype=np.uint8) for side in (8, 600))
    about = [{"hospital": 0, "attack": "a", "before": "x", "after": "x"}] * 2
    tensors = {
        f"{kind}/{i}": image for kind in ("original", "poisoned") for i, image in enumerate((small, large))
    }
    save_file(tensors, tmp_path / "examples.safetensors", metadata={"fedrobust": json.dumps(about)})
    images = [
        Image.open(io.BytesIO(base64.b64decode(example.original.partition(",")[2])))
        for example in poisoned_examples(tmp_path)
    ]
    assert np.array_equal(np.moveaxis(np.asarray(images[0]), -1, 0), small)
    assert images[1].size == (256, 256)


def test_examples_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "examples.safetensors").write_bytes(b"nonsense")
    assert poisoned_examples(tmp_path) == []
    assert run_page(tmp_path)


def test_data_section_leaves_out_what_the_server_does_not_know(tmp_path: Path) -> None:
    make_run(tmp_path, attacks={})
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    evaluation["hospitals"][2].update(counts=None, images=None, missing=None)
    change(tmp_path, "evaluation.json", hospitals=evaluation["hospitals"])
    bars = embedded(run_page(tmp_path))["plots"]["held"]["choices"]["images"]["data"][0]
    assert bars["x"] == ["0 ○", "1 ○", "3 ○", "4 ○", "5 ○"]


def test_data_section_says_the_share_of_missing_facts(tmp_path: Path) -> None:
    text = words(run_page(make_run(tmp_path / "a")))
    assert "train part: sex 25.0 % and view 0.0 %; val part: sex 25.0 %" in text
    assert "sex missing" in text
    text = words(run_page(make_run(tmp_path / "b", facts=False)))
    assert "gives neither the sex nor the view" in text and "sex missing" not in text


def test_run_page_has_settings_and_command_to_copy(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a run")
    page = run_page(folder)
    assert 'strategy = "isolation-forest"' in words(page)
    assert "python -m fedrobust simulate --config 'a run/settings.toml'" in words(page)
    assert page.count("data-copy=") == 2


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/home/someone/images", 'data-root = "images" # a folder on the machine of this run'),
        ("../images", 'data-root = "../images"'),
        ("C:\\\\Users\\\\someone\\\\images", 'data-root = "images" # a folder on the machine of this run'),
    ],
)
def test_run_page_names_no_folder_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, shown: str
) -> None:
    folder = make_run(tmp_path / "run")
    file = folder / "settings.toml"
    file.write_text(
        f'data-root = "{given}"\nout = "{tmp_path}"\n{file.read_text(encoding="utf-8")}', encoding="utf-8"
    )
    page = run_page(folder)
    assert shown in words(page)
    assert str(tmp_path) not in page and "someone" not in page
    monkeypatch.chdir(tmp_path)
    assert "--config run/settings.toml" in words(run_page(Path("run")))


def test_tables_of_many_rounds_are_shortened(tmp_path: Path) -> None:
    make_run(tmp_path, clients=40, rounds=60, attacks={}, flagged=[])
    page = run_page(tmp_path)
    assert "Weights in uniform weights (1/n), ✕ flagged (10 of 60 rounds)" in words(page)
    assert "round 1 " in words(page) and "round 60 " in words(page)
    assert len(page) - len(run_page(make_run(tmp_path / "b", clients=40, rounds=10, attacks={}))) < 500_000


def test_run_page_of_another_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the folder of a finished run"):
        run_page(tmp_path)
    make_run(tmp_path)
    (tmp_path / "rounds.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"rounds\.jsonl: line 1, not JSON"):
        run_page(tmp_path)


@pytest.mark.parametrize(
    ("file", "key", "value", "sentence"),
    [
        ("summary.json", "clients", "three", r"summary\.json: clients: input should be a valid integer"),
        ("summary.json", "detection", {"flagged": [1.5]}, r"summary\.json: detection\.flagged\.0: input"),
        ("manifest.json", "malicious", None, r"manifest\.json: malicious: input should be a valid array"),
        ("evaluation.json", "classes", 3, r"evaluation\.json: classes: input should be a valid array"),
        (
            "manifest.json",
            "format",
            1,
            r"has format 1, and this version reads format \d; run the settings again",
        ),
    ],
)
def test_run_page_with_wrong_types_or_another_format_is_one_sentence(
    tmp_path: Path, file: str, key: str, value: object, sentence: str
) -> None:
    change(make_run(tmp_path), file, **{key: value})
    with pytest.raises(UserError, match=sentence) as error:
        run_page(tmp_path)
    assert "\n" not in str(error.value)


def test_run_page_without_a_format_is_refused(tmp_path: Path) -> None:
    manifest = json.loads((make_run(tmp_path) / "manifest.json").read_text())
    del manifest["format"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"this run folder has no format number, and this version reads format"
    ):
        run_page(tmp_path)


def test_headline_with_failed_attackers_says_the_attack_never_ran(tmp_path: Path) -> None:
    make_run(tmp_path, clients=5, attacks={4: "my-attack"}, flagged=[])
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    for line in lines:
        line["faults"] = [{"hospital": 4, "reason": "ValueError"}]
    (tmp_path / "rounds.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    run = read_run(tmp_path)
    assert headline(run).startswith(
        "The attack 'my-attack' never ran, as the malicious hospital failed in every round; accuracy ended"
    )
    assert "Hospital 4 failed in every round and had no part in the model." in notes(run)


def test_key_metrics_with_a_baseline_start_with_lost_to_the_attack(tmp_path: Path) -> None:
    baseline = {"run": "clean-seed0-aaaa", "clean": {"accuracy": 0.87}}
    make_run(tmp_path, lost_to_attack={"accuracy": 0.12}, baseline=baseline)
    first = key_metrics(read_run(tmp_path))[0]
    assert (first.name, first.value) == ("Lost to the attack", "12.0 points")
    assert first.beside == "accuracy 0.870 without attackers"
    assert "12.0 points below the run without attackers" in headline(read_run(tmp_path))


def test_page_shows_no_folders_above_a_source() -> None:
    from fedrobust.reports.run.page import _shareable

    shown = _shareable('data = "manifest:/home/ann/study/a.csv(label=x)"')
    assert shown == 'data = "manifest:a.csv(label=x)"  # on the machine of this run'
    for kept in ('data = "folder:study/xray"', 'data = "medmnist:mine"', 'data = "((("'):
        assert _shareable(kept) == kept


def test_key_metrics_say_that_the_worst_hospital_is_atypical(tmp_path: Path) -> None:
    make_run(tmp_path, attacks={0: "sign-flip"}, atypical={2: "other-scanner"})
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    lines[-1].update(hospital_accuracy=[0.1, 0.8, 0.4, 0.8, 0.8, 0.8], worst_hospital=0.4)
    (tmp_path / "rounds.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    metrics = {metric.name: metric for metric in key_metrics(read_run(tmp_path))}
    assert metrics["Worst honest hospital"].beside == "hospital 2, atypical: accuracy on its mix of classes"


def test_headline_with_all_hospitals_failed_says_so_first(tmp_path: Path) -> None:
    why = "all hospitals failed in every round, so the model is untrained; hospital 0: no reply in 5 s"
    run = read_run(make_run(tmp_path, failed=True, failure=why, diverged=True))
    assert headline(run) == "All six hospitals failed in every round, so the model is untrained."
    assert notes(run)[:2] == [
        f"A{why[1:]}.",
        "Training diverged: the loss of the last model is not a finite number.",
    ]


def test_command_of_a_deployed_run_names_its_data(tmp_path: Path) -> None:
    deployment = {"tls": True, "supernode_keys": True, "own_data": {"0": "medmnist:a"}}
    change(make_run(tmp_path / "run"), "manifest.json", deployment=deployment)
    page = words(run_page(tmp_path / "run"))
    command = "python -m fedrobust deploy-local --config run/settings.toml --node-data 0=medmnist:a"
    assert command in page

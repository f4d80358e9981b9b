"""The documentation runs: each page's files are written as printed, each of its commands is run, smaller."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.serverapp.strategy import Strategy
from image_files import study

from fedrobust.commands.list_plugins import catalogue
from fedrobust.federation import Defence, PreAggregation, Repair
from fedrobust.plugins import find
from fedrobust.settings import Settings

TOP = Path(__file__).resolve().parents[1]
PAGES = [
    TOP / "README.md",
    *sorted((TOP / "docs").glob("*.md")),
    TOP / "experiments" / "README.md",
    TOP / "CONTRIBUTING.md",
]
#: Added to every simulation of the documentation, so that its commands take seconds; a later flag wins.
SMALL = ["--rounds", "1", "--local-epochs", "1", "--networks", "1", "--workers", "1", "--image-size", "16"]


#: Flags in the pages that are of Flower's, Ray's, mypy's and pip's.
OF_OTHERS = {
    "--address",
    "--federation-config",
    "--no-deps",
    "--no-index",
    "--only-binary",
    "--require-hashes",
    "--run-config",
    "--strict",
    "--trusted-entities",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    own = re.compile(r"(fedrobust|python3? -m fedrobust|make simulate)\b")
    return [line.split("   #")[0].strip() for line in lines if own.match(line)]


def python(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )


#: Imports once what takes long, then runs each command in a fork; prints what a failing one writes.
IN_FORKS = """
import atexit, json, os, sys, traceback
import sklearn.ensemble
import fedrobust.engines.preload
import fedrobust.reports.writing
from fedrobust.commands.program import main
from fedrobust.runtime import runner

# The worker of a run is a process that imports torch: one of a fork's own would be most of its time.
run = runner.run
runner.run = lambda *a, **b: run(*a, **{**b, "isolate": False})
failed = []
for folder, arguments in json.load(open("calls.json")):
    with open("output", "w+") as output:
        child = os.fork()
        if not child:
            os.chdir(folder)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            code = 1
            try:
                main(arguments)
            except SystemExit as leave:
                code = int(leave.code or 0)
            except BaseException:
                traceback.print_exc()
            # Taking a fork of so large a process apart takes longer than most commands.
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        if os.waitpid(child, 0)[1]:
            failed.append([folder, arguments, open("output").read()])
json.dump(failed, open("failed.json", "w"))
"""


def write_files(page: Path, folder: Path) -> None:
    """Write the page's plug-ins and suites as printed."""
    for block in blocks(page, "python") + blocks(page, "toml"):
        name = re.match(r"# ((?:strategies/|clients/|experiments/|evaluations/)\w+\.(?:py|toml))\n", block)
        if name:
            (folder / name[1]).parent.mkdir(exist_ok=True)
            (folder / name[1]).write_text(block)


def calls(page: Path) -> list[list[str]]:
    """Return the arguments of each of the page's commands, smaller."""
    root = os.environ.get("FEDROBUST_DATA_ROOT")
    made: list[list[str]] = []
    for command in commands(page):
        words = shlex.split(command)
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (TOP / "Makefile").read_text(), re.MULTILINE), command
            continue
        if "--data-root" in words:
            if not root:
                continue
            words[words.index("--data-root") + 1] = root
        small = [] if "fedrobust list" in command else [*SMALL, "--out", "out"]
        if "features:" in command:
            small.remove("--image-size")
            small.remove("16")
        if any(word.startswith("synthesis") for word in words):
            # Its learner has no pair of networks, and what judges its images trains on all of them.
            del small[small.index("--networks") : small.index("--networks") + 2]
            small += ["--data", "phantom(images=480, size=16)"]
        if words[1] in ("cache", "check"):
            small = []
        if words[1] in ("audit", "describe"):
            small = ["--image-size", "16", "--out", "out"]
            few = {"phantom": "phantom(images=240)", "medmnist:pneumoniamnist": "medmnist:breastmnist"}
            words = [few.get(word, word) for word in words]
        if small and "--data" not in words and words[1] not in ("audit", "describe"):
            small += ["--data", "phantom(images=480, size=16)"]
        if "deploy-local" in words:
            # tests/test_deploy.py has a federation of three; here one hospital has data of its own.
            small += ["--clients", "2"]
        if "benchmark" in words:
            # Suites are run by tests of their own; here the command and its file must be right.
            small = ["--dry-run"]
        arguments = words[1:] if words[0] == "fedrobust" else words[2:]
        arguments[0] = arguments[0].removeprefix("fedrobust.")
        made.append([*arguments, *small])
    return made


@pytest.mark.slow
def test_commands_of_all_pages_run_as_printed(tmp_path: Path) -> None:
    all_calls = []
    for page in PAGES:
        folder = tmp_path / page.relative_to(TOP).with_suffix("").as_posix().replace("/", "-")
        folder.mkdir()
        write_files(page, folder)
        if page.name == "data.md":
            study(folder / "study")
        all_calls += [(folder.name, arguments) for arguments in calls(page)]
    assert {"README", "docs-attacks", "docs-engines", "docs-plugins"} <= {folder for folder, _ in all_calls}
    (tmp_path / "calls.json").write_text(json.dumps(all_calls))
    done = python(["-c", IN_FORKS], tmp_path)
    assert done.returncode == 0, done.stderr
    failed = json.loads((tmp_path / "failed.json").read_text())
    assert not failed, "\n".join(f"{folder}: {arguments}\n{output}" for folder, arguments, output in failed)


#: Calls the page's ServerApp over its ClientApp in one process.
ON_A_LOCAL_GRID = """
from flwr.app import Context, RecordDict

from fedrobust.engines.local import LocalGrid
from tiny.client_app import app as client
from tiny.server_app import app as server

empty = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})
server(LocalGrid(client, 8), empty)
"""


@pytest.fixture
def flower_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the app of docs/flower.md as printed; every file names itself in its first line."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    page = TOP / "docs" / "flower.md"
    for block in blocks(page, "python") + blocks(page, "toml"):
        name = re.match(r"# (\S+)\n", block)
        assert name, block
        (tmp_path / name[1]).parent.mkdir(exist_ok=True)
        (tmp_path / name[1]).write_text(block)
    return tmp_path


def printed(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr + done.stdout
    return [line for line in done.stdout.splitlines() if re.match(r"round \d|accuracy by", line)]


def test_flower_app_prints_what_its_page_says(flower_app: Path) -> None:
    (flower_app / "local.py").write_text(ON_A_LOCAL_GRID)
    (expected,) = blocks(TOP / "docs" / "flower.md", "text")
    assert printed(python(["local.py"], flower_app)) == expected.splitlines()


def test_flower_app_with_server_images_flags_the_attackers(flower_app: Path) -> None:
    server = flower_app / "tiny" / "server_app.py"
    given, call = (
        'fedrobust.strategy("nnm | multi-krum(f=2)"',
        'fedrobust.strategy("fltrust", server=ServerPoints())',
    )
    assert call in (TOP / "docs" / "flower.md").read_text() and given in server.read_text()
    text = server.read_text().replace(given, call[:-1])
    server.write_text(
        text.replace("import fedrobust\n", "import fedrobust\nfrom tiny.server_points import ServerPoints\n")
    )
    (flower_app / "local.py").write_text(ON_A_LOCAL_GRID)
    lines = printed(python(["local.py"], flower_app))
    assert all("flagged [1, 4]" in line for line in lines[:3])


@pytest.mark.slow
def test_flower_app_in_flower_simulation_prints_what_its_page_says(flower_app: Path) -> None:
    (expected,) = blocks(TOP / "docs" / "flower.md", "text")
    assert printed(python(["run.py"], flower_app)) == expected.splitlines()


def test_flower_app_file_is_valid_for_flower(flower_app: Path) -> None:
    from flwr.cli.config_utils import load_and_validate

    config, warnings = load_and_validate(flower_app / "pyproject.toml", check_module=True)
    assert config["tool"]["flwr"]["app"]["publisher"] == "me" and not warnings


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    (block,) = [b for b in blocks(TOP / "README.md", "python") if "Settings(" in b]
    small = "Settings(local_epochs=1, rounds=1, networks=1, workers=1, data='phantom(images=240, size=16)', "
    text = block.replace("run(Settings(", f"run({small}")
    (tmp_path / "script.py").write_text(text)
    done = python(["script.py"], tmp_path)
    assert done.returncode == 0, done.stderr


def test_links_between_pages_have_targets() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_strategy_of_the_readme_has_at_most_12_lines() -> None:
    (block,) = [b for b in blocks(TOP / "README.md", "python") if b.startswith("# strategies/my_mean.py")]
    assert len(block.splitlines()) - 1 <= 12


def test_plug_ins_of_their_page_are_one_file_each_of_at_most_20_lines() -> None:
    files = [b.splitlines() for b in blocks(TOP / "docs" / "plugins.md", "python")]
    assert all(re.match(r"# (strategies|clients|evaluations)/\w+\.py$", lines[0]) for lines in files)
    assert {lines[0].split("/")[0] for lines in files} == {"# strategies", "# clients", "# evaluations"}
    assert max(len(lines) for lines in files) <= 20


def test_flags_and_make_targets_of_the_pages_exist() -> None:
    ours = {"--" + name.replace("_", "-") for name in Settings.model_fields} | OF_OTHERS
    for source in [*(TOP / "fedrobust").rglob("*.py"), *(TOP / "benchmarks").glob("*.py")]:
        ours |= set(re.findall(r'(?<=["/])--[a-z-]+(?=["/])', source.read_text()))
    targets = set(re.findall(r"^([a-z-]+)[.\w]*:", (TOP / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text()
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= ours, page.name
        assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets, page.name


def defence_rows() -> dict[str, str]:
    """Return the options' cell of each strategy's row in docs/defences.md."""
    page = (TOP / "docs" / "defences.md").read_text()
    found = re.findall(r"^\| `([\w-]+)` \|[^|]*\|([^|]*)\|", page, re.MULTILINE)
    assert len(found) == len(dict(found))
    return dict(found)


def test_page_of_the_defences_has_every_one() -> None:
    assert set(defence_rows()) == set(catalogue()["strategy"])


@pytest.mark.parametrize("name", sorted(defence_rows()))
def test_options_and_defaults_of_a_defence_are_those_of_the_code(name: str) -> None:
    cell = defence_rows()[name]
    takes = inspect.signature(
        find(name, "strategies", (Defence, PreAggregation, Repair, Strategy), "strategy")
    ).parameters
    written = dict(re.findall(r"`(\w+)`(?: = ([^,|]+))?", cell))
    # Another page may have them.
    assert written.keys() <= takes.keys() and (written.keys() == takes.keys() or "](" in cell)
    for option, value in written.items():
        default, value = takes[option].default, value.strip()
        if isinstance(default, bool):
            assert value == str(default).lower(), option
        elif isinstance(default, int | float):
            assert float(value) == default, option
        elif isinstance(default, str):
            assert value == default, option
        else:
            # None, or nothing: the page says in words what that stands for.
            assert not re.fullmatch(r"[\d.e-]+", value), option


def test_pages_link_the_glossary_and_wrap_at_100_columns() -> None:
    for page in [*PAGES, TOP / "CHANGELOG.md"]:
        if page.parent.name == "docs" and page.name != "glossary.md":
            assert "](glossary.md)" in page.read_text(), page.name
        fence = False
        for line in page.read_text().splitlines():
            fence ^= line.startswith("```")
            # Tables and code are not wrapped; a link or an inline command may be longer than a line.
            whole = len(re.sub(r"^\s*(?:[-*]|\d+\.)\s+", "", line).split()) == 1 or "`" in line
            assert fence or line.startswith(("|", "    ")) or whole or len(line) <= 100, (
                f"{page.name}: {line}"
            )


def test_install_block_of_the_readme_comes_before_its_first_command() -> None:
    first = blocks(TOP / "README.md", "bash")[0].splitlines()
    assert first[:2] == ["python3 -m venv .venv", "source .venv/bin/activate"]
    (install,) = [line for line in first if line.startswith("pip install")]
    assert install == "pip install -c constraints.txt -e ." and (TOP / "constraints.txt").is_file()
    assert [line.split()[0] for line in first[3:]] == ["fedrobust"]


#: Words of an earlier vocabulary, which no page uses.
OLD_WORDS = r"""
    wronged|accused|accuses|oddness|anew|reckon(?:s|ed)? with|fair shares?|dose|twins?|contenders?|goes on
    |go on|(?:odd|Odd) (?:hospital|one)|to the same bits|turns from|Nobody (?:was|is)|whose word|spreads above
"""


def test_pages_use_the_words_of_the_glossary() -> None:
    for page in PAGES:
        found = re.findall(
            rf"\b(?:{''.join(OLD_WORDS.split(chr(10))).replace(' ' * 4, '')})\b", page.read_text()
        )
        assert not found, f"{page.name}: {found}"

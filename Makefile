# Two commands for a fresh machine: `make simulate` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA_ROOT ?= $(or $(FEDROBUST_DATA_ROOT),../shared/data)
STAMP := $(VENV)/.installed

.PHONY: install simulate test test-reliability lint reproduce-detection reproduce-matrix reproduce-generalisation reproduce-experiments reproduce-learner reproduce-robustness reproduce-audit reproduce-newest reproduce-claims clean audit

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "fedrobust needs Python 3.11 or newer; name one with: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

simulate: $(STAMP)
	$(BIN)/python -m fedrobust.simulate --clients 10 --malicious 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Three processes keep two cores busy, as tests of processes and time limits wait.
test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# docs/reliability.md: injects each fault for real; at most 25 minutes on 2 cores.
test-reliability: $(STAMP)
	$(BIN)/python -m benchmarks.reliability

# docs/detection-results.md, on real images: about 15 minutes on 2 cores.
reproduce-detection: $(STAMP)
	$(BIN)/python benchmarks/detection.py --data-root $(DATA_ROOT)

# docs/matrix.md, every attack against every defence, on real images: about 20 minutes on 2 cores.
reproduce-matrix: $(STAMP)
	$(BIN)/python benchmarks/matrix.py --data-root $(DATA_ROOT)

# docs/generalisation.md, eleven methods on data, threats and seeds that nothing was tuned on. The whole grid takes days;
# stopped at any time, its runs are a balanced sample. See the script's --parts, --budget and other selectors.
reproduce-generalisation: $(STAMP)
	$(BIN)/python benchmarks/generalisation.py --data-root $(DATA_ROOT)

# docs/learner-results.md, the learner's parts against a linear baseline: about an hour and a half on 1 core. It can be
# stopped and started again.
reproduce-learner: $(STAMP)
	$(BIN)/python benchmarks/learner.py --data-root $(DATA_ROOT)

# docs/audit-results.md, what the audit finds of known contamination, on real images: about 15 minutes on 1 core. It can
# be stopped and started again.
reproduce-audit: $(STAMP)
	$(BIN)/python -m benchmarks.audit --data-root $(DATA_ROOT)

# The tables of experiments/README.md, on real images: about an hour on 2 cores. It can be stopped and started again.
reproduce-experiments: $(STAMP)
	for suite in ablation detection defences; do \
		$(BIN)/python -m fedrobust.benchmark $$suite --data-root $(DATA_ROOT) || exit 1; done

# Robustness of the model itself, ensembles included: noise, corruptions and evasion attacks on real images, about
# an hour on 2 cores. It can be stopped and started again.
reproduce-robustness: $(STAMP)
	$(BIN)/python -m benchmarks.model_robustness --data-root $(DATA_ROOT)

# docs/newest.md, the newest attacks against the newest defences, with all of ten hospitals and with ten of forty a
# round, on real images, with two of the suites' three seeds. It can be stopped and started again.
reproduce-newest: $(STAMP)
	$(BIN)/python -m benchmarks.newest --seeds 1,4 --data-root $(DATA_ROOT)

# docs/claims.md, whether a time limit and a slower server cost attackers their strength: about 10 minutes on 2
# cores. It can be stopped and started again.
reproduce-claims: $(STAMP)
	$(BIN)/python -m benchmarks.claims --data-root $(DATA_ROOT)

# What a release is installed from: every version with the hashes of its files, for all systems.
constraints-hashed.txt: pyproject.toml constraints.txt
	$(BIN)/uv pip compile pyproject.toml --extra download -c constraints.txt --universal --python-version 3.11 \
		--generate-hashes --no-annotate --default-index https://pypi.org/simple \
		--custom-compile-command "make $@" --quiet -o $@

# What this environment holds, in CycloneDX's format.
sbom.cdx.json: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt cyclonedx-bom
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml -o $@

# Known vulnerabilities of the pinned versions. It asks the package index, and fails on what it cannot look up.
audit: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip-audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints-hashed.txt

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache

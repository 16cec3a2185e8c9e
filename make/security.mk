# Dependencies: advisories and lists of components. The long form of the fuzz tests. See docs/security.md.
PIP_AUDIT := pip-audit==2.10.1
CYCLONEDX := cyclonedx-bom==7.5.0
LOCKS := requirements.lock $(wildcard images/*/requirements.lock)
EXAMPLES ?= 2000
SBOM ?= dist/sbom

.PHONY: audit
audit: $(UV) ## Ask the advisory database about every pinned dependency (needs a network).
	@failed=0; for lock in $(LOCKS); do echo "$$lock"; \
	  $(UV) tool run --from $(PIP_AUDIT) pip-audit --requirement $$lock --require-hashes --disable-pip --strict --progress-spinner off || failed=1; \
	  done; exit $$failed

.PHONY: sbom
sbom: $(UV) ## A CycloneDX list of components per image, from its lock: SBOM/IMAGE.json.
	@mkdir -p $(SBOM)
	@for image in $(IMAGES); do \
	  $(UV) tool run $(UV_TOOL_FLAGS) --from $(CYCLONEDX) cyclonedx-py requirements images/$$image/requirements.lock \
	    --pyproject pyproject.toml --output-reproducible --of JSON -o $(SBOM)/$$image.json || exit 1; \
	  echo "$(SBOM)/$$image.json"; done

.PHONY: fuzz
fuzz: $(INSTALLED) ## Look for new cases in every property and fuzz test (EXAMPLES=2000 of each fuzz test).
	NLSIM_FUZZ_EXAMPLES=$(EXAMPLES) OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m hypothesis --hypothesis-profile=search $(PYTEST_ARGS)

ATHERIS := atheris==3.0.0
SECONDS ?= 60

.PHONY: fuzz-guided
fuzz-guided: $(INSTALLED) ## The fuzz tests of parsers, led by coverage (atheris): SECONDS=60 for each, or for TESTS.
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --target .cache/atheris $(ATHERIS)
	PYTHONPATH=.cache/atheris $(BIN)/python tests/fuzz/guided.py $(SECONDS) $(TESTS)

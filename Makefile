# Everything below needs a Python of 3.11 or newer (with venv and headers), a C compiler and make;
# the rest is set up in environments beside this file. `make` alone prints what there is.

# The interpreter: a command or a path. Without it the best one found, see tools/pythons.
PYTHON ?=
# Further options for pytest, for example TESTFLAGS="-k wheel -x", for `make bench` and for `make demo-tiers`.
TESTFLAGS ?=
BENCHFLAGS ?=
DEMOFLAGS ?=
# What has a long form; TESTFLAGS for `make soak` name other tests or fewer.
SOAKED := tests/models tests/stress tests/whitebox

# The suite runs in so many processes, each with servers of its own.
WORKERS ?= auto

VENV := .venv$(if $(PYTHON),-$(subst /,_,$(patsubst /%,%,$(PYTHON))))
PY := $(VENV)/bin/python
QUIET_PIP := --disable-pip-version-check --no-input -qq

.DEFAULT_GOAL := help
.PHONY: help run demo-tiers test bench soak debug asan docs lint clean build
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "  (make test PYTHON=python3.12 picks the interpreter; TESTFLAGS, BENCHFLAGS and DEMOFLAGS are passed on)"

# --- environments ------------------------------------------------------------------------------

# $(call make_venv,FOLDER): an environment with what pyproject.toml wants for building.
define make_venv
	@command -v "$${CC:-cc}" >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || \
	    { echo "no C compiler: set CC, or install one (on Debian: gcc, libc6-dev)" >&2; exit 1; }
	found=$$(tools/pythons $(PYTHON) | head -n 1) && [ -n "$$found" ] && "$${found#* }" -m venv --clear $(1)
	$(1)/bin/python -m pip install $(QUIET_PIP) --upgrade pip
	$(1)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	    >$(1)/build-requires.txt
	$(1)/bin/python -m pip install $(QUIET_PIP) -r $(1)/build-requires.txt
	@touch $@
endef

.venv%/.made: tools/pythons
	$(call make_venv,.venv$*)

.venv/.made: tools/pythons
	$(call make_venv,.venv)

# The package installed in place, with the extra of that name: bench-quick, bench, test, dev.
$(VENV)/.with-%: $(VENV)/.made pyproject.toml
	$(PY) -m pip install $(QUIET_PIP) --no-build-isolation --editable '.[$*]'
	@touch $@

# setup.py knows what is out of date; a second in vain is cheaper than a second list of sources here.
build: $(VENV)/.made
	$(PY) setup.py -q build_ext --inplace

# --- what users run ----------------------------------------------------------------------------

run: $(VENV)/.with-bench-quick build ## set up, then the quick microbenchmarks (under two minutes)
	$(PY) -m fastcache bench --quick $(BENCHFLAGS)

demo-tiers: $(VENV)/.with-redis build ## four processes over one Redis or SQLite, invalidating each other
	$(PY) -m fastcache demo tiers $(DEMOFLAGS)

test: servers $(VENV)/.with-test build ## set up (servers too, where permitted), then the whole suite
	$(PY) -m pytest -n $(WORKERS) --maxprocesses=4 --dist=worksteal $(TESTFLAGS)

.PHONY: servers
servers:
	@tools/servers

bench: $(VENV)/.with-bench build ## the full microbenchmarks against every peer; report in build/
	$(PY) -m fastcache bench --json build/bench.json --report build/bench.html $(BENCHFLAGS)

soak: $(VENV)/.with-test build ## the long forms of the tests
	FASTCACHE_SOAK=1 $(PY) -m pytest --timeout=0 -o faulthandler_timeout=0 $(or $(TESTFLAGS),$(SOAKED))

# --- builds that check themselves, each in its own environment ---------------------------------

# Not in place: build/lib* goes first, since it keeps modules that were removed or renamed since.
define install_copy
	rm -rf build/lib*
	$(1)/bin/python -m pip install $(QUIET_PIP) --no-build-isolation '.[test]'
	$(1)/bin/python -m pip install $(QUIET_PIP) --no-build-isolation --no-deps --force-reinstall .
endef

debug: export FASTCACHE_DEBUG := 1
debug: .venv-debug/.made ## the suite on a debug build: assertions, invariants after each test
	$(call install_copy,.venv-debug)
	tools/test-installed $(CURDIR)/.venv-debug/bin/python build/run-debug $(TESTFLAGS)

asan: export FASTCACHE_DEBUG := 1
asan: export FASTCACHE_SANITIZE := address,undefined
asan: .venv-asan/.made ## the suite under AddressSanitizer and UndefinedBehaviorSanitizer (gcc)
	@libasan=$$(gcc -print-file-name=libasan.so 2>/dev/null); case "$$libasan" in /*) ;; *) \
	    echo "*** SKIPPED: make asan needs gcc with libasan and libubsan (on Debian: libgcc-*-dev)" >&2; exit 0 ;; esac; \
	set -e; $(MAKE) --no-print-directory install-asan; \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
	LD_PRELOAD="$$libasan $$(gcc -print-file-name=libubsan.so)" \
	tools/test-installed $(CURDIR)/.venv-asan/bin/python build/run-asan --timeout=1200 -o faulthandler_timeout=1500 $(TESTFLAGS)

.PHONY: install-asan
install-asan:
	$(call install_copy,.venv-asan)

# --- upkeep ------------------------------------------------------------------------------------

docs: .venv-docs/.with-docs ## the documentation, to build/docs; a warning is an error
	.venv-docs/bin/python -m sphinx -q -W --keep-going -n -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

.venv-docs/.with-docs: .venv-docs/.made pyproject.toml
	.venv-docs/bin/python -m pip install $(QUIET_PIP) --no-build-isolation '.[docs]'
	@touch $@

lint: $(VENV)/.with-dev build ## ruff, mypy --strict, and the stubs against the binary
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict
	$(PY) -m mypy.stubtest fastcache._core --mypy-config-file pyproject.toml

clean: ## remove all that was built, and the environments
	rm -rf build dist .venv* *.egg-info .pytest_cache .hypothesis .benchmarks .mypy_cache .ruff_cache
	find fastcache tests bench -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	find fastcache \( -name '*.so' -o -name '*.pyd' \) -delete

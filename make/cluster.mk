# Images, chart, submission, tests on a cluster.  See docs/cluster.md.
CONFIG ?= configs/tiny.yaml
NAMESPACE ?= nlsim
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' nlsim/__init__.py)
TAG ?= $(VERSION)
DOCKER ?= docker
# e.g. --build-arg BASE=… for another base image, --network=host behind a proxy
DOCKER_FLAGS ?=
HELM ?= helm
HELM_VERSION ?= v3.19.0
IMAGES := cpu model vllm
RENDERED := charts/nlsim/files/workflowtemplates
SHIPPED := $(addprefix configs/,article.yaml blog.yaml tiny.yaml)

.PHONY: images
images: image-cpu image-model ## Build the stage images (TAG=…, DOCKER_FLAGS=…); image-vllm and image-store by themselves.

image-%: ## Build one image: image-cpu, image-model, image-vllm, image-store.
	DOCKER_BUILDKIT=1 $(DOCKER) build $(DOCKER_FLAGS) --target $* -t nlsim-$*:$(TAG) \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) .

.PHONY: push
push: ## Push the images to REGISTRY=registry.example.org/team.
	@test -n "$(REGISTRY)" || { echo "push: set REGISTRY, e.g. REGISTRY=ghcr.io/you"; exit 2; }
	@for image in $(IMAGES); do \
	  $(DOCKER) image inspect nlsim-$$image:$(TAG) >/dev/null 2>&1 || { echo "nlsim-$$image:$(TAG) is not built; left out"; continue; }; \
	  $(DOCKER) tag nlsim-$$image:$(TAG) $(REGISTRY)/nlsim-$$image:$(TAG) && $(DOCKER) push $(REGISTRY)/nlsim-$$image:$(TAG) || exit 1; done

.PHONY: smoke-images
smoke-images: ## Run each built image once, as a cluster would: no privileges, nothing writable but /tmp, no network.
	@for image in $(IMAGES); do \
	  $(DOCKER) image inspect nlsim-$$image:$(TAG) >/dev/null 2>&1 || { echo "nlsim-$$image:$(TAG) is not built; left out"; continue; }; \
	  bash images/$$image/smoke.sh $(DOCKER) nlsim-$$image:$(TAG) || exit 1; done

.PHONY: locks
locks: $(UV) ## Pin the images' dependencies anew, in step with requirements.lock.
	bash images/lock.sh $(UV)

.PHONY: run-stage
run-stage: ## One shard in its container: STAGE=simulate RUN=runs/tiny|s3://… INDEX=0 [IMAGE=model].
	@test -n "$(STAGE)" -a -n "$(RUN)" || { echo "run-stage: set STAGE and RUN, e.g. STAGE=index RUN=runs/tiny INDEX=0"; exit 2; }
	@bash images/run-stage.sh $(DOCKER) "$(STAGE)" "$(RUN)" "$(or $(INDEX),0)" "$(IMAGE)" "$(TAG)"

.PHONY: render
render: $(INSTALLED) ## Write anew what is rendered and committed: the chart's WorkflowTemplates, tests/argo/golden.
	@rm -f $(RENDERED)/*.yaml
	@for config in $(SHIPPED); do $(BIN)/nlsim render $$config --to $(RENDERED) || exit 1; done
	@NLSIM_REGENERATE=1 $(BIN)/pytest -q -p no:randomly tests/argo/test_golden.py

.PHONY: check-render
check-render: render ## Fail when they are not what argo/ renders.
	git diff --exit-code -- $(RENDERED) tests/argo/golden

$(HOME)/.cache/nlsim/bin/helm:
	@command -v go >/dev/null || { echo "neither helm nor go is here: install helm 3"; exit 2; }
	GOBIN=$(HOME)/.cache/nlsim/bin CGO_ENABLED=0 go install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

.PHONY: helm
helm: $(if $(shell command -v $(HELM)),,$(HOME)/.cache/nlsim/bin/helm)

chart-lint: HELM := $(if $(shell command -v $(HELM)),$(HELM),$(HOME)/.cache/nlsim/bin/helm)
.PHONY: chart-lint
chart-lint: helm ## Lint the chart and render it with every values file of charts/nlsim/ci.
	$(HELM) lint --strict charts/nlsim
	@for values in charts/nlsim/ci/*.yaml; do \
	  $(HELM) template nlsim charts/nlsim -f $$values --kube-version 1.34 --api-versions argoproj.io/v1alpha1 >/dev/null \
	  && echo "$$values renders" || exit 1; done

SUBMIT = $(BIN)/nlsim submit $(CONFIG) --run "$(RUN)" $(if $(CLUSTER),--cluster $(CLUSTER)) --namespace $(NAMESPACE) \
  $(if $(ENGINE),--engine $(ENGINE)) $(if $(WATCH),--follow) $(if $(CONTEXT),--context $(CONTEXT)) $(SUBMIT_ARGS)

.PHONY: submit-simulation
submit-simulation: $(INSTALLED) ## Submit CONFIG=… RUN=s3://bucket/prefix [WATCH=1 ENGINE=job CLUSTER=file NAMESPACE=… CONFIRM=1].
	@test -n "$(RUN)" || { echo "submit: set RUN=s3://bucket/prefix"; exit 2; }
	@$(SUBMIT)

.PHONY: submit-article submit-blog
submit-article submit-blog: submit-%: ## The same with configs/article.yaml or configs/blog.yaml.
	@$(MAKE) --no-print-directory submit-simulation CONFIG=configs/$*.yaml

.PHONY: watch
watch: ## Watch a workflow (NAME=…, the latest by default), then say how it ended.
	argo watch -n $(NAMESPACE) $(or $(NAME),@latest) && argo wait -n $(NAMESPACE) $(or $(NAME),@latest)

# A cluster for tests: anything that leaves KUBECONFIG and NLSIM_TEST_S3_ENDPOINT[_FROM_PODS] set. By default kind.
E2E_UP ?= kind create cluster --name nlsim
E2E_DOWN ?= kind delete cluster --name nlsim
E2E_LOAD ?= kind load docker-image --name nlsim

.PHONY: e2e-up
e2e-up: ## Start a cluster for tests (E2E_UP='command').
	$(E2E_UP)

.PHONY: e2e-load
e2e-load: ## Hand the built images to the test cluster (E2E_LOAD='command').
	$(E2E_LOAD) nlsim-cpu:$(TAG) nlsim-model:$(TAG)

.PHONY: e2e
e2e: $(INSTALLED) ## The cluster tests against KUBECONFIG, with the images TAG; the Argo part where a controller runs.
	NLSIM_TEST_TAG=$(TAG) $(BIN)/pytest -m cluster -p no:randomly tests/cluster $(PYTEST_ARGS)

.PHONY: e2e-down
e2e-down: ## Delete that cluster.
	$(E2E_DOWN)

.PHONY: docs
docs: $(INSTALLED) ## The documentation site, in site/ (open site/index.html).
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

.PHONY: notebooks
notebooks: $(INSTALLED) ## Run the notebooks of docs/notebooks anew and keep what they print.
	$(BIN)/python docs/notebooks/execute.py

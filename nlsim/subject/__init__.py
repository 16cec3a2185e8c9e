"""The model under study: hookpoints, capture with early exit, patching."""

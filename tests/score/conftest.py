"""An embedding model for tests."""

from pathlib import Path

import pytest
from score.word_vectors import save_word_vectors


@pytest.fixture(scope="session")
def embedding_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model of a few words, see `word_vectors`."""
    path = tmp_path_factory.mktemp("embedding")
    save_word_vectors(path)
    return path

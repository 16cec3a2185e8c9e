"""The planted model does what its explanations say."""

import numpy as np
import pytest
import torch

from nlsim.coders.config import CoderConfig
from nlsim.coders.evaluate import losses, usage
from nlsim.coders.load import load_coder
from nlsim.coders.planted import LATENTS, Planted
from nlsim.corpus.config import CorpusConfig, FilesSource, RowBudgets
from nlsim.corpus.documents import open_documents
from nlsim.corpus.rows import build_rows
from nlsim.corpus.splits import Split
from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    Planted().write(folder, texts=120)
    subject = Subject.load(SubjectConfig(model=str(folder / "subject")))
    source = FilesSource(paths=(str(folder / "text.jsonl"),))
    corpus = CorpusConfig(source=source, rows=RowBudgets(train=0, explain=60, score=8, calibrate=4, evaluate=20))
    rows = build_rows(open_documents(source), subject.tokenizer, corpus)
    return subject, load_coder(CoderConfig(path=str(folder / "coder.safetensors"))), rows


def test_tokens_are_words(planted):
    subject, _, _ = planted
    ids = subject.tokenizer("the red wolf runs", add_special_tokens=False).input_ids
    assert [Planted.tokens[i] for i in ids] == ["the", "red", "wolf", "runs"]


def test_codes_are_what_the_explanations_say(planted):
    subject, coder, rows = planted
    active = np.zeros(len(LATENTS))
    for row in range(20):
        length = int(rows.length[row])
        captured = subject.capture(rows.tokens[row : row + 1], rows.length[row : row + 1], coder.meta.hookpoint)
        codes = coder.encode(captured.input_BTD[0, :length])
        found = torch.zeros(length, len(LATENTS)).scatter_add_(1, codes.index_NK, codes.value_NK).numpy()
        truth = Planted().truth(rows.tokens[row, :length])
        np.testing.assert_allclose(found[1:], truth[1:], atol=2e-5)
        active += truth[1:].sum(0)
    assert (active > 0).all(), "every latent occurs in the texts"


def test_the_coder_is_perfect_and_its_latents_matter(planted):
    subject, coder, rows = planted
    held, last = rows.of(Split.EXPLAIN), rows.of(Split.EVALUATE)
    used = usage(subject, coder, rows.tokens[held], rows.length[held])
    assert used.fvu < 1e-8
    assert used.fvu_zero > 1  # without latents it says nothing, which is worse than the mean
    assert 0 < used.l0 < 4
    lost = losses(subject, coder, rows.tokens[last], rows.length[last], rows.document[last], used.mean_M)
    assert abs(lost.excess["coder"].value) < 1e-4
    assert lost.recovered.value == pytest.approx(1, abs=1e-3)
    assert lost.excess["zero"].low > 0.3
    assert 0.1 < lost.excess["mean"].value <= lost.excess["zero"].value + 0.05


def test_explanations_name_the_words_they_are_about():
    for latent in LATENTS:
        assert latent.explanation.endswith(".")
        assert len(latent.likelier) < len(Planted.tokens) / 2
        assert latent.active(latent.words[0], latent.after[0] if latent.after else None)
        assert not latent.active("fog" if latent.words[0] != "fog" and "fog" not in latent.words else "soup", "of")

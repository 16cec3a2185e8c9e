"""Encode and decode against explicit dense formulas; bounded memory; bad input."""

import pytest
import torch
from coders.dense import dense_acts, dense_output, random_coder
from hypothesis import given, settings
from hypothesis import strategies as st

from nlsim.coders import sparse
from nlsim.coders.activation import largest
from nlsim.coders.coder import Codes
from nlsim.coders.load import check_fit
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError


def densified(codes: Codes, width: int) -> torch.Tensor:
    dense_NM = torch.zeros(len(codes.value_NK), width)
    return dense_NM.scatter_add_(1, codes.index_NK, codes.value_NK)


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "relu", "jumprelu", "groupmax"])
@pytest.mark.parametrize(
    ("kind", "skip", "bias"), [("sae", False, True), ("transcoder", False, False), ("transcoder", True, False)]
)
def test_encode_and_decode_follow_the_definitions(activation, kind, skip, bias):
    coder = random_coder(activation, kind=kind, skip=skip, input_bias=bias, d_out=6 if kind == "sae" else 4)
    x_ND = torch.randn(33, 6, generator=torch.Generator().manual_seed(1))
    codes = coder.encode(x_ND)
    z_NM = dense_acts(coder, x_ND)
    torch.testing.assert_close(densified(codes, coder.meta.width), z_NM)
    torch.testing.assert_close(coder.decode(codes, x_ND), dense_output(coder, z_NM, x_ND))
    torch.testing.assert_close(coder.decode_dense(z_NM, x_ND), dense_output(coder, z_NM, x_ND))


@pytest.mark.parametrize("activation", ["topk", "relu", "jumprelu", "groupmax"])
def test_codes_are_sorted_non_negative_and_in_range(activation):
    coder = random_coder(activation)
    codes = coder.encode(torch.randn(20, 6))
    assert (codes.value_NK >= 0).all()
    assert (codes.value_NK[:, :-1] >= codes.value_NK[:, 1:]).all()
    assert ((codes.index_NK >= 0) & (codes.index_NK < coder.meta.width)).all()
    assert codes.value_NK.dtype == torch.float32
    assert codes.index_NK.dtype == torch.int64


def test_fewer_positive_pre_activations_than_k_leave_absent_latents():
    coder = random_coder("topk", k=5)
    coder.tensors["encoder_bias_M"] = torch.full((40,), -1e6)
    coder.tensors["encoder_bias_M"][7] = 1e6
    codes = coder.encode(torch.randn(3, 6))
    assert ((codes.value_NK > 0).sum(1) == 1).all()
    assert (codes.index_NK[:, 0] == 7).all()


@given(st.integers(1, 24), st.integers(0, 2**31), st.sampled_from([0, 1, 3]))
@settings(max_examples=30, deadline=None)
def test_two_step_search_finds_the_largest(k, seed, levels):
    """`levels` > 0 makes many values equal: then the values must agree and the latents must have them."""
    acts_NM = torch.randn(5, 64 * 4 * 24, generator=torch.Generator().manual_seed(seed))
    if levels:
        acts_NM = acts_NM.clamp(-1, 1).mul(levels).round()
    found = largest(acts_NM, k)
    torch.testing.assert_close(found.value_NK, acts_NM.topk(k, dim=1).values)
    torch.testing.assert_close(acts_NM.gather(1, found.index_NK), found.value_NK)
    assert all(len(set(row.tolist())) == k for row in found.index_NK)


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "jumprelu"])
def test_the_code_of_a_vector_depends_on_nothing_else(activation, monkeypatch):
    """Not on its neighbours (BatchTopK reads with a fixed threshold), nor on where chunks are cut."""
    coder = random_coder(activation)
    x_ND = torch.randn(50, 6, generator=torch.Generator().manual_seed(3))
    whole = densified(coder.encode(x_ND), coder.meta.width)
    monkeypatch.setattr(sparse, "CHUNK_BYTES", {"cpu": 4 * coder.meta.width * 7})
    torch.testing.assert_close(densified(coder.encode(x_ND), coder.meta.width), whole)
    single = torch.cat([densified(coder.encode(x_ND[i : i + 1]), coder.meta.width) for i in range(50)])
    torch.testing.assert_close(single, whole)


def test_encode_never_holds_more_than_a_chunk(monkeypatch):
    """The largest [rows, width] matrix made while encoding stays within CHUNK_BYTES whatever the number of rows."""
    coder = random_coder("topk", width=2048)
    monkeypatch.setattr(sparse, "CHUNK_BYTES", {"cpu": 1 << 20})
    rows = []
    original = SparseCoder.pre_activations

    def watched(self, x_ND):
        rows.append(len(x_ND))
        return original(self, x_ND)

    monkeypatch.setattr(SparseCoder, "pre_activations", watched)
    coder.encode(torch.randn(1000, 6))
    assert sum(rows) == 1000
    assert max(rows) * 2048 * 4 <= 1 << 20


def test_half_precision_input_is_computed_in_float32():
    """Mistake 14: one precision, float32, for caching and for evaluation."""
    coder = random_coder("topk", skip=True)
    x_ND = torch.randn(9, 6).bfloat16()
    low, high = coder.encode(x_ND), coder.encode(x_ND.float())
    assert torch.equal(low.index_NK, high.index_NK)
    assert torch.equal(low.value_NK, high.value_NK)
    assert coder.decode(low, x_ND).dtype == torch.float32
    assert torch.equal(coder.decode(low, x_ND), coder.decode(high, x_ND.float()))


def test_no_vectors_give_no_codes():
    coder = random_coder("jumprelu")
    assert coder.encode(torch.zeros(0, 6)).value_NK.shape == (0, 0)
    assert random_coder("topk").encode(torch.zeros(0, 6)).value_NK.shape == (0, 5)


def test_wrong_input_width_is_a_data_error():
    with pytest.raises(DataError, match=r"reads vectors of 6 components.*\(3, 7\)"):
        random_coder().encode(torch.zeros(3, 7))
    with pytest.raises(DataError, match=r"maps 6 components to 6, but layers\.0\.mlp maps 6 to 8"):
        check_fit(random_coder().meta, 6, 8)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_a_data_error(bad):
    coder = random_coder()
    x_ND = torch.zeros(3, 6)
    x_ND[1, 2] = bad
    with pytest.raises(DataError, match="not finite"):
        coder.encode(x_ND)
    with pytest.raises(DataError, match="encoder_MD has values that are not finite"):
        SparseCoder(coder.meta, {**coder.tensors, "encoder_MD": torch.full((40, 6), bad)})


def test_weights_that_do_not_belong_to_the_metadata_are_a_data_error():
    coder = random_coder(skip=True)
    without = {name: tensor for name, tensor in coder.tensors.items() if name != "skip_OD"}
    with pytest.raises(DataError, match="no skip_OD"):
        SparseCoder(coder.meta, without)
    with pytest.raises(DataError, match="decoder_MO is 3×6, not 40×6"):
        SparseCoder(coder.meta, {**coder.tensors, "decoder_MO": torch.zeros(3, 6)})
    with pytest.raises(DataError, match="do not go with it: surprise"):
        SparseCoder(coder.meta, {**coder.tensors, "surprise": torch.zeros(3)})
    with pytest.raises(DataError, match="keeps k = 41 of 40"):
        SparseCoder(coder.meta.model_copy(update={"k": 41}), coder.tensors)
    with pytest.raises(DataError, match="k is not given"):
        SparseCoder(coder.meta.model_copy(update={"k": None}), coder.tensors)

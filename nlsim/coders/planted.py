"""A language model whose latents are known: every weight is set by hand, so that exact explanations of them exist.

A one-block GPT-2 over some fifty words. Embeddings are one-hot, the only attention head copies the previous word, and
each unit of the MLP is one planted latent: 1 where the present word, and for some the word before it, is of a given
set, else 0. What a latent writes makes some next words likelier. Texts are sampled from the model. LayerNorms see
vectors with a fixed number of ones, so that they only shift and scale by constants.

The coder that goes with it is the MLP itself: without error, and with nothing left to explain.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlsim.coders.coder import CoderMeta
from nlsim.coders.file import write_coder
from nlsim.coders.sparse import SparseCoder

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

BOS, UNKNOWN = "<|bos|>", "<|unknown|>"
GROUPS = {
    "animals": "cat dog horse bird fish wolf",
    "colours": "red blue green white black",
    "numbers": "two three four five six",
    "foods": "bread rice apple cheese soup",
    "places": "river forest mountain city village",
    "weather": "rain snow wind storm fog",
    "verbs": "runs sleeps eats sings swims hides",
    "small": "the a of in and then near",
}
WORDS = tuple(word for group in GROUPS.values() for word in group.split())
POSITIONS = 64
CONTRAST = 60.0  # attention score of the previous position; e^-60 is 0 beside 1 in float32
PUSH = 5.0  # what a latent adds to the logits of the words it makes likelier, about


class PlantedLatent(NamedTuple):
    """A latent with its exact explanation."""

    explanation: str
    words: tuple[str, ...]
    """The present word must be one of these."""
    after: tuple[str, ...]
    """The word before must be one of these; empty: any."""
    likelier: tuple[str, ...]
    """Next words that it makes likelier."""

    def active(self, word: str, before: str | None) -> bool:
        """Whether it is active at `word`; `before` is None after BOS."""
        return word in self.words and (not self.after or before in self.after)


def _group(name: str, likelier: str) -> PlantedLatent:
    words = tuple(GROUPS[name].split())
    return PlantedLatent(f"Words that are {name}: {', '.join(words)}.", words, (), _words(likelier))


def _word(word: str, likelier: str) -> PlantedLatent:
    return PlantedLatent(f'The word "{word}".', (word,), (), _words(likelier))


def _pair(words: str, after: str, explanation: str, likelier: str) -> PlantedLatent:
    return PlantedLatent(explanation, _words(words), _words(after), _words(likelier))


def _words(names: str) -> tuple[str, ...]:
    """Words, names of groups standing for all of theirs."""
    return tuple(word for name in names.split() for word in GROUPS.get(name, name).split())


LATENTS = (
    _group("animals", "verbs"),
    _group("colours", "animals foods"),
    _group("numbers", "animals foods"),
    _group("foods", "and then"),
    _group("places", "and of the"),
    _group("weather", "then near and"),
    _group("verbs", "in near and"),
    _word("the", "places weather colours"),
    _word("a", "colours animals"),
    _word("storm", "hides"),
    _word("wolf", "the a"),
    _word("then", "the a numbers"),
    _pair("animals", "red", 'An animal right after the word "red".', "sings swims"),
    _pair("city", "the", 'The word "city" right after the word "the".', "sleeps"),
    _pair("foods", "numbers", "A food right after a number.", "of"),
    _pair("verbs", "animals", "A verb right after an animal.", "in"),
    _pair("near", "weather", 'The word "near" right after a kind of weather.', "mountain"),
    _pair("and", "places", 'The word "and" right after a place.', "colours"),
)


class Planted:
    """The model, its tokenizer, its coder and texts."""

    tokens = (BOS, UNKNOWN, *WORDS)

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """One token per word, the space before it included."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        spelled = [token if token in (BOS, UNKNOWN) else f"Ġ{token}" for token in self.tokens]
        tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(spelled)}, unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([BOS, UNKNOWN])
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, unk_token=UNKNOWN)

    @cached_property
    def model(self) -> "GPT2LMHeadModel":
        """The residual stream is [this word | word before | position | latents], all but the last one-hot."""
        from transformers import GPT2Config, GPT2LMHeadModel

        v, m = len(self.tokens), len(LATENTS)
        d = 2 * v + POSITIONS + m
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=v,
                n_positions=POSITIONS,
                n_embd=d,
                n_layer=1,
                n_head=1,
                n_inner=m,
                activation_function="relu",
                layer_norm_epsilon=1e-12,
                bos_token_id=0,
                eos_token_id=0,
                tie_word_embeddings=False,
            )
        ).eval()
        place = slice(2 * v, 2 * v + POSITIONS)
        block = model.transformer.h[0]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
            model.transformer.wte.weight[:, :v] = torch.eye(v)
            model.transformer.wpe.weight[:, place] = torch.eye(POSITIONS)
            query_DD, key_DD, value_DD = block.attn.c_attn.weight.split(d, dim=1)  # views; Conv1D keeps [in, out]
            before_PP = torch.eye(POSITIONS).roll(-1, 1)  # position p asks for p - 1
            before_PP[0] = torch.eye(POSITIONS)[0]  # BOS for itself
            size = _spread(2, d)  # what the LayerNorm divided by
            query_DD[place, place] = before_PP * size * CONTRAST * d**0.5
            key_DD[place, place] = torch.eye(POSITIONS) * size
            value_DD[:v, :v] = torch.eye(v) * size
            block.attn.c_attn.bias[2 * d : 2 * d + v] = 2 / d  # the LayerNorm's shift, for the copied word
            block.attn.c_proj.weight[:v, v : 2 * v] = torch.eye(v)
            encoder_MD, bias_M = self._encoder(d)
            block.mlp.c_fc.weight.copy_(encoder_MD.T)
            block.mlp.c_fc.bias.copy_(bias_M)
            block.mlp.c_proj.weight[:, 2 * v + POSITIONS :] = torch.eye(m)
            model.lm_head.weight[:, 2 * v + POSITIONS :] = self._pushes() * _spread(3, d)
        model.config.name_or_path = "planted"
        return model

    @cached_property
    def coder(self) -> SparseCoder:
        """The MLP as a TopK transcoder; at no token are more than k latents active."""
        d, m = self.model.config.n_embd, len(LATENTS)
        encoder_MD, bias_M = self._encoder(d)
        decoder_MO = torch.zeros(m, d)
        decoder_MO[:, -m:] = torch.eye(m)
        meta = CoderMeta(
            kind="transcoder", hookpoint="h.0.mlp", d_in=d, d_out=d, width=m, activation="topk", k=4, subject="planted"
        )
        tensors = {
            "encoder_MD": encoder_MD,
            "encoder_bias_M": bias_M,
            "decoder_MO": decoder_MO,
            "decoder_bias_O": torch.zeros(d),
        }
        return SparseCoder(meta, tensors)

    def truth(self, tokens_T: NDArray[np.integer]) -> NDArray[np.float32]:
        """[T, latents] activations at each token of a row that starts with BOS, by the explanations alone."""
        words = [self.tokens[int(token)] for token in tokens_T]
        before = [None, *words[:-1]]
        return np.array(
            [[float(p.active(word, last)) for p in LATENTS] for word, last in zip(words, before, strict=True)],
            np.float32,
        )

    @torch.no_grad()
    def texts(self, count: int, seed: int = 0) -> list[str]:
        """Texts of 60 words, sampled from the model at temperature 1."""
        generator = torch.Generator().manual_seed(seed)
        ids_BT = torch.zeros(count, 1, dtype=torch.int64)
        for _ in range(60):
            logits_BV = self.model(input_ids=ids_BT).logits[:, -1].clone()
            logits_BV[:, :2] = -torch.inf
            ids_BT = torch.cat([ids_BT, torch.multinomial(logits_BV.softmax(1), 1, generator=generator)], 1)
        return [" ".join(self.tokens[token] for token in row[1:]) for row in ids_BT.tolist()]

    def write(self, folder: Path, texts: int = 300, seed: int = 0) -> None:
        """`subject/` and `coder.safetensors` for a run's configuration, `text.jsonl` for its corpus, and the exact
        explanations as `explanations.json`."""
        self.model.save_pretrained(folder / "subject")
        self.tokenizer.save_pretrained(folder / "subject")
        write_coder(self.coder, folder / "coder.safetensors")
        lines = [json.dumps({"text": text}) for text in self.texts(texts, seed)]
        (folder / "text.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        table = {str(latent): planted.explanation for latent, planted in enumerate(LATENTS)}
        (folder / "explanations.json").write_text(json.dumps(table, indent=1), encoding="utf-8")

    def _encoder(self, d: int) -> tuple[Tensor, Tensor]:
        """Weights on the MLP's normed input that give 1 where a latent is active and -1 or less elsewhere."""
        v = len(self.tokens)
        weight_MD = torch.zeros(len(LATENTS), d)
        bias_M = torch.zeros(len(LATENTS))
        for latent, planted in enumerate(LATENTS):
            weight_MD[latent, [self.tokens.index(word) for word in planted.words]] = 2.0
            weight_MD[latent, [v + self.tokens.index(word) for word in planted.after]] = 2.0
            bias_M[latent] = -3.0 if planted.after else -1.0
        # LayerNorm: (x - 3/d) / spread, as three components are 1
        return weight_MD * _spread(3, d), bias_M + weight_MD.sum(1) * 3 / d

    def _pushes(self) -> Tensor:
        """[tokens, latents] what each latent adds to the logits."""
        push_VM = torch.zeros(len(self.tokens), len(LATENTS))
        for latent, planted in enumerate(LATENTS):
            push_VM[[self.tokens.index(word) for word in planted.likelier], latent] = PUSH
        return push_VM


def _spread(ones: int, d: int) -> float:
    """Standard deviation of d components of which some are 1 and the others 0."""
    share = ones / d
    return float((share * (1 - share)) ** 0.5)

"""A very small transformer decoder in NumPy, with random weights that are the same everywhere.

Two layers of sliding-window attention with rotary positions (as in Llama) over bytes. Nobody
trained it: so that its babble has the shape of words, the statistics of a few sentences are added
to its output. Double precision, so that an answer does not depend on what else is in the batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["ASSISTANT", "END", "START", "VOCABULARY", "Cache", "Decoder"]

Array = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.intp]

# Bytes are tokens 0 to 255.
START, ASSISTANT, END, VOCABULARY = 256, 257, 258, 259
WINDOW: Final = 128
_LAYERS, _HEADS, _HEAD = 2, 4, 16
_WIDTH, _INNER = _HEADS * _HEAD, 192
_SEED = 20261122
_NEVER = -1e9
_STRENGTH = 0.35
_TEXT = b"""\
this is a small engine and it knows very little. it was made to test servers that sign what they
say. the answer that you read was made one letter at a time, as the large ones make theirs, but
there is no meaning in it. a machine may be real and the answer wrong, or the answer fine and the
machine not what it seems. who wants to know asks for evidence and looks at it with care. then the
letters come in, the key has signed them all, and what was said is what was sent. nothing more was
promised, and nothing less will do. trust is good when there is something that it can rest on.
"""
_SENTENCE_END, _SPACE = b". "
_END_SHARE = 0.3


@dataclass(slots=True)
class _Layer:
    """The weights of one layer."""

    qkv: Array
    out: Array
    up: Array
    down: Array


class Cache:
    """Keys and values of the last tokens of many sequences, in rows without gaps.

    Args:
        rows: How many sequences fit.
    """

    def __init__(self, rows: int) -> None:
        shape = (_LAYERS, rows, _HEADS, WINDOW, _HEAD)
        self.keys: Array = np.zeros(shape)
        self.values: Array = np.zeros(shape)
        self.positions: Tokens = np.zeros(rows, dtype=np.intp)

    def move(self, source: int, target: int) -> None:
        """Move a row, so that the used ones stay together."""
        for part in (self.keys, self.values):
            part[:, target] = part[:, source]
        self.positions[target] = self.positions[source]


class Decoder:
    """The model. Its methods give the logits of the next token."""

    def __init__(self) -> None:
        random = np.random.default_rng(_SEED)

        def weights(rows: int, columns: int) -> Array:
            found: Array = random.standard_normal((rows, columns)) / np.sqrt(rows)
            return found

        self._embedding = random.standard_normal((VOCABULARY, _WIDTH))
        self._layers = [
            _Layer(
                qkv=weights(_WIDTH, 3 * _WIDTH),
                out=weights(_WIDTH, _WIDTH),
                up=weights(_WIDTH, _INNER),
                down=weights(_INNER, _WIDTH),
            )
            for _ in range(_LAYERS)
        ]
        self._output = weights(_WIDTH, VOCABULARY)
        self._prior = _Prior()
        self._frequencies = 10000.0 ** (-np.arange(_HEAD // 2) / (_HEAD // 2))

    def digest(self) -> str:
        """SHA-256 of all weights, in hex."""
        found = hashlib.sha256(
            self._embedding.tobytes() + self._output.tobytes() + self._prior.tobytes()
        )
        for layer in self._layers:
            for part in (layer.qkv, layer.out, layer.up, layer.down):
                found.update(part.tobytes())
        return found.hexdigest()

    def prefill(self, tokens: Tokens, cache: Cache, row: int) -> Array:
        """Read a prompt of at most ``WINDOW`` tokens into a row of the cache.

        Args:
            tokens: The prompt; at least two.
            cache: Where its keys and values go.
            row: Which row.

        Returns:
            The logits of the token that follows.
        """
        count = len(tokens)
        positions = np.arange(count)
        future = positions[None, :] > positions[:, None]
        x = self._embedding[tokens]
        for index, layer in enumerate(self._layers):
            q, k, v = self._heads(_norm(x) @ layer.qkv, positions)
            cache.keys[index, row, :, :count] = k.transpose(1, 0, 2)
            cache.values[index, row, :, :count] = v.transpose(1, 0, 2)
            scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(_HEAD)
            scores[:, future] = _NEVER
            mixed = np.einsum("hqk,khd->qhd", _softmax(scores), v)
            x = self._finish(x, mixed.reshape(count, _WIDTH), layer)
        cache.positions[row] = count
        found: Array = self._logits(x[-1:], tokens[None, -2:])[0]
        return found

    def step(self, recent: Tokens, cache: Cache) -> Array:
        """Read one more token of each of the first sequences in the cache.

        Args:
            recent: Their last two tokens, of which the second is read now; as many rows as there
                are sequences in use.
            cache: The keys and values so far.

        Returns:
            One row of logits a sequence.
        """
        count = len(recent)
        rows = np.arange(count)
        positions = cache.positions[:count]
        place = positions % WINDOW
        unused = np.arange(WINDOW)[None, :] > positions[:, None]
        x = self._embedding[recent[:, 1]]
        for index, layer in enumerate(self._layers):
            q, k, v = self._heads(_norm(x) @ layer.qkv, positions)
            keys, values = cache.keys[index, :count], cache.values[index, :count]
            keys[rows, :, place] = k
            values[rows, :, place] = v
            scores = (keys @ q[..., None])[..., 0] / np.sqrt(_HEAD)
            scores = np.where(unused[:, None, :], _NEVER, scores)
            mixed = (_softmax(scores)[:, :, None, :] @ values)[:, :, 0]
            x = self._finish(x, mixed.reshape(count, _WIDTH), layer)
        cache.positions[:count] += 1
        return self._logits(x, recent)

    def _heads(self, qkv: Array, positions: Tokens) -> tuple[Array, Array, Array]:
        """Cut into heads, and turn queries and keys by their positions."""
        q, k, v = qkv.reshape(len(qkv), 3, _HEADS, _HEAD).transpose(1, 0, 2, 3)
        angles = positions[:, None] * self._frequencies
        cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
        half = _HEAD // 2

        def turn(x: Array) -> Array:
            a, b = x[..., :half], x[..., half:]
            return np.concatenate([a * cosine - b * sine, a * sine + b * cosine], axis=-1)

        return turn(q), turn(k), v

    @staticmethod
    def _finish(x: Array, mixed: Array, layer: _Layer) -> Array:
        """The rest of a layer: attention's output, then the feed-forward part."""
        x = x + mixed @ layer.out
        inner = _norm(x) @ layer.up
        result: Array = x + np.maximum(inner, 0) @ layer.down
        return result

    def _logits(self, x: Array, recent: Tokens) -> Array:
        return _STRENGTH * (_norm(x) @ self._output) + self._prior.of(recent)


def _norm(x: Array) -> Array:
    found: Array = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)
    return found


def _softmax(x: Array) -> Array:
    exponents = np.exp(x - x.max(axis=-1, keepdims=True))
    found: Array = exponents / exponents.sum(axis=-1, keepdims=True)
    return found


class _Prior:
    """How often a byte follows two others in a few sentences, as logarithms."""

    def __init__(self) -> None:
        text = _TEXT.replace(b"\n", b" ")
        letters = sorted(set(text))
        # Whatever the sentences do not have, the start of an answer too, counts as a space.
        self._symbol = np.full(VOCABULARY, letters.index(_SPACE), dtype=np.intp)
        self._symbol[letters] = np.arange(len(letters))
        size = len(letters)
        single = np.zeros(VOCABULARY)
        pairs = np.zeros((size, VOCABULARY))
        triples = np.zeros((size, size, VOCABULARY))
        for first, second, third in zip(text, text[1:], text[2:], strict=False):
            one, two = self._symbol[first], self._symbol[second]
            # An answer may end where a sentence does.
            end = _END_SHARE if second == _SENTENCE_END else 0.0
            for follower, weight in ((third, 1 - end), (END, end)):
                single[follower] += weight
                pairs[two, follower] += weight
                triples[one, two, follower] += weight
        with np.errstate(divide="ignore"):
            mixed = sum(
                share * part / np.maximum(part.sum(axis=-1, keepdims=True), 1)
                for share, part in ((0.02, single), (0.18, pairs[None]), (0.8, triples))
            )
            self._logarithms: Array = np.maximum(np.log(mixed), _NEVER)

    def of(self, recent: Tokens) -> Array:
        """The logarithms after the last two tokens of each sequence."""
        one, two = self._symbol[recent[:, 0]], self._symbol[recent[:, 1]]
        found: Array = self._logarithms[one, two]
        return found

    def tobytes(self) -> bytes:
        """For the digest of the weights."""
        return self._logarithms.tobytes()

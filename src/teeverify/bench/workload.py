"""What is asked: prompts of given lengths, and answers of given lengths."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from teeverify.errors import ConfigurationError

__all__ = [
    "CLASSES",
    "FIRST_TOKEN",
    "MIXTURES",
    "Ask",
    "Lengths",
    "Workload",
    "parse_workload",
    "words_of",
]

_MAX_LINES = 100_000
_LONGEST = 2048
# Common short words, so that a word is about a token in most vocabularies. The number of tokens
# that a prompt has is measured with the first answer (``Workload.calibrated``), not assumed.
_WORDS = (  # noqa: SIM905 -- a list of a hundred strings says less
    "the of and to in is was he for it with as his on be at by had not are but from or have an "
    "they which one you were her all she there would their we him been has when who will more no "
    "if out so said what up its about into than them can only other new some could time these two "
    "may then do first any my now such like our over man me even most made after also did many"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request: its messages, and how many tokens the answer should have."""

    messages: tuple[dict[str, str], ...]
    output_tokens: int

    def body(self, model: str) -> bytes:
        """The request's bytes, streamed, with the usage asked for.

        ``ignore_eos`` is vLLM's: dummy weights would end an answer anywhere.
        """
        return json.dumps(
            {
                "model": model,
                "messages": list(self.messages),
                "max_tokens": self.output_tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of a prompt and of its answer."""

    prompt: int
    output: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A source of requests.

    Attributes:
        name: Its name in tables.
        about: One line on what it is.
        draw: Gives the lengths of a request; ``None`` where the requests are the user's own.
        own: The user's own requests.
        words_per_token: How many words of ours make a token of the model's vocabulary.
        template_tokens: Tokens of the chat template around them.
        headline: The metric that its overhead is about, where the load does not settle that.
    """

    name: str
    about: str
    draw: Callable[[random.Random], Lengths] | None = None
    own: tuple[Ask, ...] = ()
    words_per_token: float = 1.0
    template_tokens: float = 0.0
    headline: str | None = None

    def asks(self, seed: str) -> Iterator[Ask]:
        """Requests without end. Equal seeds give equal lengths and equal prompts.

        Args:
            seed: Text before the first ``/`` settles lengths and words, all of it their order: two
                targets are asked with the same words in another order, which are as many tokens,
                and the prefix cache of an engine that stands behind both helps neither.
        """
        # Not for secrets.
        shared = random.Random(seed.partition("/")[0])  # noqa: S311
        own = random.Random(seed)  # noqa: S311
        at = shared.randrange(len(self.own)) if self.own else 0
        while True:
            if self.draw is None:
                yield self.own[at % len(self.own)]
                at += 1
                continue
            drawn = self.draw(shared)
            count = max(1, round((drawn.prompt - self.template_tokens) * self.words_per_token))
            words = shared.choices(_WORDS, k=count)
            own.shuffle(words)
            content = " ".join(words)
            yield Ask(messages=({"role": "user", "content": content},), output_tokens=drawn.output)

    def calibrated(self, *, words: tuple[int, int], tokens: tuple[int, int]) -> Workload:
        """The same workload, for a vocabulary that makes so many tokens of so many words.

        Args:
            words: Words of two prompts.
            tokens: Tokens that the endpoint counted in them, its template's included.
        """
        slope = (tokens[1] - tokens[0]) / (words[1] - words[0])
        if slope <= 0:
            return self
        return replace(
            self,
            words_per_token=1 / slope,
            template_tokens=max(0.0, tokens[0] - slope * words[0]),
        )


def words_of(count: int, seed: int) -> Ask:
    """A request of so many words, whose answer is one token."""
    text = " ".join(random.Random(seed).choices(_WORDS, k=count))  # noqa: S311 -- no secret
    return Ask(messages=({"role": "user", "content": text},), output_tokens=1)


def _fixed(prompt: int, output: int) -> Callable[[random.Random], Lengths]:
    return lambda _random: Lengths(prompt=prompt, output=output)


def _exponential(prompt: float, output: float) -> Callable[[random.Random], Lengths]:
    def draw(source: random.Random) -> Lengths:
        def one(mean: float) -> int:
            return min(_LONGEST, max(4, math.ceil(source.expovariate(1 / mean))))

        return Lengths(prompt=one(prompt), output=one(output))

    return draw


# The length classes of arXiv 2409.03992, table 3: prompt and answer together have at most 100, at
# most 500, and 501 to 1,500 tokens.
CLASSES = {
    "short": Workload(name="short", about="50 tokens in, 50 out", draw=_fixed(50, 50)),
    "medium": Workload(name="medium", about="300 tokens in, 200 out", draw=_fixed(300, 200)),
    "long": Workload(name="long", about="700 tokens in, 300 out", draw=_fixed(700, 300)),
}

# An answer's first token is one figure of a whole answer: short answers say it more often. The
# second token shows that the first did not wait for the end of the answer.
FIRST_TOKEN = Workload(
    name="first token", about="100 tokens in, 2 out", draw=_fixed(100, 2), headline="ttft"
)

# Mean lengths: Kwon et al., Efficient Memory Management for Large Language Model Serving with
# PagedAttention (SOSP 2023), figure 11. An exponential distribution is what a mean alone fixes.
MIXTURES = {
    "sharegpt": Workload(
        name="sharegpt",
        about="exponential lengths with ShareGPT's means, 161 tokens in and 338 out",
        draw=_exponential(161.31, 337.99),
    ),
    "alpaca": Workload(
        name="alpaca",
        about="exponential lengths with Alpaca's means, 19 tokens in and 58 out",
        draw=_exponential(19.31, 58.45),
    ),
}

_NAMED = {"ttft": FIRST_TOKEN, **CLASSES, **MIXTURES}


def parse_workload(text: str) -> Workload:
    """A workload by name (``short``, ``ttft``), lengths (``128+32``) or file of JSON lines.

    Raises:
        ConfigurationError: Neither.
    """
    if text in _NAMED:
        return _NAMED[text]
    prompt, plus, output = text.partition("+")
    if plus and _is_length(prompt) and _is_length(output):
        return Workload(
            name=text,
            about=f"{prompt} tokens in, {output} out",
            draw=_fixed(int(prompt), int(output)),
        )
    if Path(text).is_file():
        return _own(Path(text))
    raise ConfigurationError(
        f"no workload {text!r}",
        id="usage.bench",
        want=f"{', '.join(_NAMED)}, lengths such as 128+32, or a file of JSON lines",
    )


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < len(text) < 7 and int(text) > 0  # noqa: PLR2004


def _own(path: Path) -> Workload:
    asks = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number > _MAX_LINES:
                break
            if line.strip():
                asks.append(_own_line(path, number, line))
    if not asks:
        raise ConfigurationError(f"{path.name} holds no request", id="usage.bench")
    return Workload(name=path.stem, about=f"{len(asks)} requests of {path.name}", own=tuple(asks))


def _own_line(path: Path, number: int, line: bytes) -> Ask:
    try:
        given = json.loads(line)
        prompt, messages = given.get("prompt"), given.get("messages")
        if isinstance(prompt, str) and messages is None:
            messages = [{"role": "user", "content": prompt}]
        tokens = given["max_tokens"]
        if not isinstance(messages, list) or not messages or not isinstance(tokens, int):
            raise TypeError
        return Ask(messages=tuple(dict(each) for each in messages), output_tokens=tokens)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConfigurationError(
            f"line {number} of {path.name} is no request",
            id="usage.bench",
            want='{"messages": [...], "max_tokens": N} or {"prompt": "...", "max_tokens": N}',
        ) from None

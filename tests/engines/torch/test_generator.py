"""The torch generator: what it does beyond what every generator promises; see tests/engines/test_generators.py."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from support import language_models
from support.generators import PROMPTS, finish, generator, ids, of_transformers, start

from langchain_localhf.engines.generation.settings import Settings
from langchain_localhf.errors import EngineError, InputError, UnsupportedModelError
from langchain_localhf.loading import load_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_localhf.engines.base import Generator
    from langchain_localhf.engines.generation.generation import Answer, Generation

torch_generator = partial(generator, "torch")


def submit(family: str, prompts: Sequence[str], **settings: Any) -> list[Generation]:
    """Starts an answer for each prompt."""
    return start(torch_generator(family), prompts, **settings)


def answers(family: str, prompts: Sequence[str], **settings: Any) -> list[Answer]:
    """The finished answers, one for each prompt."""
    return finish(torch_generator(family), prompts, **settings)


def test_texts_of_an_encoder_and_a_decoder_are_those_of_transformers_alone_and_in_a_batch() -> None:
    """Neither the batch nor its padding changes a token."""
    expected = [of_transformers("t5", prompt, max_new_tokens=30) for prompt in PROMPTS]
    assert [ids(answer) for answer in answers("t5", PROMPTS, max_new_tokens=30)] == expected
    assert [ids(answers("t5", [prompt], max_new_tokens=30)[0]) for prompt in PROMPTS] == expected


@pytest.mark.parametrize(
    "settings",
    [{"no_repeat_ngram_size": 1}, {"encoder_repetition_penalty": 1.5}, {"bad_words_ids": [[175], [388]]}],
    ids=str,
)
def test_settings_that_look_at_the_prompt_see_no_padding(settings: dict[str, Any]) -> None:
    """A penalty for repeating counts the prompt's own tokens only."""
    expected = [of_transformers("qwen2", prompt, max_new_tokens=15, **settings) for prompt in PROMPTS]
    found = [ids(answer) for answer in answers("qwen2", PROMPTS, max_new_tokens=15, **settings)]
    assert found == [tokens[: len(own)] for tokens, own in zip(expected, found, strict=True)]
    assert all(found)


def test_an_answer_that_nothing_ends_has_its_full_length() -> None:
    """Also where the model's own end comes by."""
    free = answers("qwen2", ["The quick"], max_new_tokens=20, eos_token_id=[])[0]
    end = ids(free)[5]
    engine = torch_generator("qwen2")
    before, engine._own_end_ids = engine._own_end_ids, [end]  # type: ignore[attr-defined]
    try:
        (answer,) = answers("qwen2", ["The quick"], max_new_tokens=20, eos_token_id=[])
    finally:
        engine._own_end_ids = before  # type: ignore[attr-defined]
    assert (ids(answer), answer.finish_reason) == (ids(free), "length")


def test_a_stop_string_that_is_a_special_token_ends_an_answer() -> None:
    """Though special tokens never show in the text."""
    engine = torch_generator("qwen2")
    assert engine.token_text(1) == "<|im_start|>"
    (answer,) = answers("qwen2", ["The quick"], max_new_tokens=4, sequence_bias={(1,): 99.0}, stop=["<|im_start|>"])
    assert (answer.text, answer.finish_reason, len(answer.tokens)) == ("", "stop", 1)


def spied(engine: Generator, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the batches that the model will run."""
    shapes: list[tuple[int, ...]] = []
    model = engine._model  # type: ignore[attr-defined]
    original = type(model).generate

    def counting(self: object, **inputs: Any) -> Any:
        shapes.append(tuple(inputs["input_ids"].shape))
        return original(self, **inputs)

    monkeypatch.setattr(type(model), "generate", counting)
    return shapes


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "mistral"])
def test_rows_that_are_over_leave_the_batch(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others go on as if they had been alone, also where a model sees the last tokens only."""
    lengths = (3, 30, 9, 14)
    alone = [
        ids(answers(family, [prompt], max_new_tokens=length)[0])
        for prompt, length in zip(PROMPTS, lengths, strict=True)
    ]
    engine = torch_generator(family)
    shapes = spied(engine, monkeypatch)
    together = engine.submit(
        [
            Settings.read(engine, {"max_tokens": length}).request(engine, engine.read_prompt(prompt))
            for prompt, length in zip(PROMPTS, lengths, strict=True)
        ]
    )
    assert [ids(generation.answer()) for generation in together] == alone
    assert [rows for rows, _ in shapes] == [4, 2, 1]


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "mistral", "t5"])
def test_prompts_of_unlike_lengths_begin_apart_and_go_on_together(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same tokens, also where the cache of the model cannot be padded."""
    prompts = ["a", "word " * 60, "The quick", "ships " * 150]
    alone = [ids(answers(family, [prompt], max_new_tokens=8)[0]) for prompt in prompts]
    engine = torch_generator(family)
    shapes = spied(engine, monkeypatch)
    assert [ids(answer) for answer in answers(family, prompts, max_new_tokens=8)] == alone
    longest = len(engine.read_prompt(prompts[-1]).token_ids)
    if family != "t5":
        assert [rows for rows, _ in shapes] == [2, 1, 1, 4]
        assert shapes[-1] == (4, longest + 1)
    assert [ids(answer) for answer in answers(family, prompts, max_new_tokens=8, eos_token_id=alone[0][0])] == [
        tokens[: tokens.index(alone[0][0]) + 1] if alone[0][0] in tokens else tokens for tokens in alone
    ]


def test_requests_that_arrive_while_the_model_is_busy_share_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come while the model is busy are its next batch."""
    shapes = spied(torch_generator("llama"), monkeypatch)
    (first,) = submit("llama", PROMPTS[:1], max_new_tokens=100)
    pieces = iter(first)
    next(pieces)  # now the model is busy
    others = [submit("llama", [prompt], max_new_tokens=8)[0] for prompt in PROMPTS[1:]]
    assert all(other.answer().text for other in others)
    assert [rows for rows, _ in shapes] == [1, len(others)]


def test_batch_size_is_the_most_that_runs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches keep to it, and hold prompts of similar length."""
    engine = load_generator(str(language_models.folder("llama")), task="text-generation", batch_size=2).generator
    shapes = spied(engine, monkeypatch)
    settings = Settings.read(engine, {"max_tokens": 3})
    for generation in engine.submit([settings.request(engine, engine.read_prompt(prompt)) for prompt in PROMPTS]):
        generation.answer()
    lengths = sorted(len(engine.read_prompt(prompt).token_ids) for prompt in PROMPTS)
    assert sorted(shapes) == [(2, lengths[1]), (2, lengths[3])]  # sorted by length, so little is padded


@pytest.mark.parametrize(
    "prompts", [PROMPTS, (PROMPTS[0], "word " * 60, PROMPTS[2], PROMPTS[3])], ids=["like", "unlike"]
)
def test_what_one_prompt_breaks_is_not_the_others_fault(
    prompts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that the model fails on fails alone, in the batch of the others or in one of its own."""
    engine = torch_generator("gpt2")
    model = engine._model  # type: ignore[attr-defined]
    original = type(model).generate
    broken = engine.read_prompt(prompts[1]).token_ids

    def failing(self: object, **inputs: Any) -> Any:
        if any(row[-len(broken) :] == list(broken) for row in inputs["input_ids"].tolist()):
            msg = "index out of range in self"
            raise IndexError(msg)
        return original(self, **inputs)

    alone = [ids(answers("gpt2", [prompt], max_new_tokens=5)[0]) for prompt in prompts]
    monkeypatch.setattr(type(model), "generate", failing)
    generations = submit("gpt2", prompts, max_new_tokens=5)
    with pytest.raises(EngineError, match="index out of range"):
        generations[1].answer()
    for index in (0, 2, 3):
        assert ids(generations[index].answer()) == alone[index]


def test_too_little_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is something that the user can change."""

    def failing(self: object, **inputs: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(type(torch_generator("gpt2")._model), "generate", failing)  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="batch_size"):
        answers("gpt2", ["The quick"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 3.0}, "top_p"),
        ({"top_k": "many"}, "top_k"),
        ({"num_beams": 2, "logprobs": True}, "num_beams=2"),
        ({"num_beams": 2, "seed": 1}, "num_beams=2"),
        ({"early_stopping": "sometimes"}, "early_stopping"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_used_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    """No model runs for settings that contradict themselves."""
    with pytest.raises(InputError, match=message):
        submit("llama", ["The quick"], **settings)


def picture(color: str) -> bytes:
    """A small PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(buffer, "PNG")
    return buffer.getvalue()


def test_images_change_the_answer_of_a_vision_language_model() -> None:
    """What is seen matters."""
    engine = torch_generator("llava")
    assert engine.reads_images
    prompt = engine.render_chat([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}])
    settings = Settings.read(engine, {"max_tokens": 10})
    prompts = [engine.read_prompt(prompt, images=[picture(color)], special_tokens=False) for color in ("red", "blue")]
    texts = [g.answer().text for g in engine.submit([settings.request(engine, read) for read in prompts])]
    assert texts[0] != texts[1]


def test_images_that_do_not_fit_are_refused() -> None:
    """By the engine that knows what its model reads."""
    with pytest.raises(UnsupportedModelError, match="reads no images"):
        torch_generator("llama").read_prompt("What?", images=[picture("red")])
    with pytest.raises(InputError, match="image 0 cannot be read"):
        torch_generator("llava").read_prompt("<image>What?", images=[b"no image"])
    with pytest.raises(InputError, match="do not fit"):
        torch_generator("llava").read_prompt("<image><image>What?", images=[picture("red")])

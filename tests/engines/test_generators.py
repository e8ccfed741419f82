"""What every generator promises: transformers' own tokens, whatever runs beside them, and the end of every answer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import openvino_models
from support.generators import (
    ENGINES,
    PROMPTS,
    finish,
    generator,
    ids,
    log_probabilities,
    of_transformers,
    start,
)

from langchain_localhf.engines.generation.request import Constraint, Tag
from langchain_localhf.engines.generation.settings import Settings
from langchain_localhf.errors import InputError, UnsupportedModelError

if TYPE_CHECKING:
    from langchain_localhf.engines.base import Generator

FAMILIES = ("gpt2", "llama", "qwen2")


@pytest.fixture(params=ENGINES)
def backend(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    return str(request.param)


@pytest.fixture
def llama(backend: str) -> Generator:
    """A model that chats."""
    return generator(backend, "llama")


@pytest.fixture
def qwen2(backend: str) -> Generator:
    """Another one."""
    return generator(backend, "qwen2")


@pytest.fixture
def gpt2(backend: str) -> Generator:
    """A model that does not chat."""
    return generator(backend, "gpt2")


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_transformers_alone_and_in_a_batch(family: str, backend: str) -> None:
    """Neither the batch nor its padding changes a token."""
    engine = generator(backend, family)
    expected = [of_transformers(family, prompt, max_new_tokens=30) for prompt in PROMPTS]
    assert [ids(answer) for answer in finish(engine, PROMPTS, max_new_tokens=30)] == expected
    assert [ids(finish(engine, [prompt], max_new_tokens=30)[0]) for prompt in PROMPTS] == expected


def test_callers_in_several_threads_get_their_own_answers(qwen2: Generator) -> None:
    """One model answers all of them, each as if it were alone."""
    expected = {prompt: of_transformers("qwen2", prompt, max_new_tokens=30) for prompt in PROMPTS}
    with ThreadPoolExecutor(8) as callers:
        found = callers.map(lambda prompt: (prompt, ids(finish(qwen2, [prompt], max_new_tokens=30)[0])), PROMPTS * 4)
    assert all(tokens == expected[prompt] for prompt, tokens in found)


@pytest.mark.parametrize("settings", [{"repetition_penalty": 1.8}, {"num_beams": 3}, {"min_new_tokens": 12}], ids=str)
def test_settings_of_transformers_mean_the_same(settings: dict[str, Any], qwen2: Generator) -> None:
    """Also where they look at the prompt, or count its tokens."""
    expected = [of_transformers("qwen2", prompt, max_new_tokens=15, **settings) for prompt in PROMPTS]
    found = [ids(answer) for answer in finish(qwen2, PROMPTS, max_new_tokens=15, **settings)]
    assert found == [tokens[: len(own)] for tokens, own in zip(expected, found, strict=True)]
    assert all(found)


def test_a_seed_gives_the_same_answer_alone_and_among_others(llama: Generator) -> None:
    """What is in the rest of the batch plays no part."""
    settings = {"max_new_tokens": 20, "temperature": 0.9, "top_p": 0.95}
    together = finish(llama, PROMPTS, seed=7, **settings)
    alone = [finish(llama, [prompt], seed=7, **settings)[0] for prompt in PROMPTS]
    assert [ids(answer) for answer in together] == [ids(answer) for answer in alone]
    other = finish(llama, PROMPTS, seed=8, **settings)
    assert [ids(answer) for answer in together] != [ids(answer) for answer in other]


def test_a_seed_gives_the_same_answer_while_others_come_and_go(llama: Generator) -> None:
    """Answers that start and end in between draw from streams of their own."""
    (expected,) = finish(llama, ["The quick"], seed=3, max_new_tokens=60, eos_token_id=[])
    (slow,) = start(llama, ["The quick"], seed=3, max_new_tokens=60, eos_token_id=[])
    for seed in range(6):
        finish(llama, ["a"], seed=seed, max_new_tokens=3)
    assert ids(slow.answer()) == ids(expected)


def test_several_answers_to_one_prompt_differ_and_are_repeatable(llama: Generator) -> None:
    """Though their seed is one."""
    settings = Settings.read(llama, {"seed": 1, "n": 3, "max_tokens": 20})
    prompt = llama.read_prompt("The quick")
    found = [
        [g.answer().text for g in llama.submit([settings.request(llama, prompt, sample=i) for i in range(3)])]
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert len(set(found[0])) == 3


def test_samples_without_a_seed_differ(llama: Generator) -> None:
    """Nobody who wants variety gets the same text each time."""
    texts = {finish(llama, ["The quick"], max_new_tokens=20, temperature=1.0)[0].text for _ in range(3)}
    assert len(texts) > 1


def test_samples_follow_the_probabilities_of_the_model(llama: Generator) -> None:
    """Of many first tokens, each is as frequent as it is probable."""
    expected = log_probabilities("llama", "The", [0])[0].exp()
    drawn = [
        ids(generation.answer())[0]
        for seed in range(400)
        for generation in start(llama, ["The"], max_tokens=1, seed=seed, top_k=0)
    ]
    for token in expected.topk(3).indices.tolist():
        assert drawn.count(token) / len(drawn) == pytest.approx(expected[token].item(), abs=0.08)


def test_top_k_of_one_is_greedy(gpt2: Generator) -> None:
    """With one token to choose from, chance has nothing to decide."""
    greedy = finish(gpt2, ["The quick"], max_new_tokens=20)
    assert ids(finish(gpt2, ["The quick"], max_new_tokens=20, top_k=1, seed=3)[0]) == ids(greedy[0])


@pytest.mark.parametrize("settings", [{}, {"seed": 1, "temperature": 0.5, "top_p": 0.7}], ids=["greedy", "sampled"])
def test_log_probabilities_are_those_of_the_model(settings: dict[str, Any], qwen2: Generator) -> None:
    """They agree with a plain forward pass, however the tokens were chosen."""
    (answer,) = finish(qwen2, ["The quick"], max_new_tokens=4, logprobs=True, **settings)
    expected = log_probabilities("qwen2", "The quick", ids(answer))
    for place, token in enumerate(answer.tokens):
        assert token.logprob == pytest.approx(expected[place, token.id].item(), abs=1e-4)


@pytest.mark.parametrize("settings", [{}, {"seed": 1, "temperature": 2.0}], ids=["greedy", "sampled"])
def test_alternatives_are_the_most_probable_tokens(settings: dict[str, Any], qwen2: Generator) -> None:
    """At every place of the same answer."""
    (plain,) = finish(qwen2, ["The quick"], max_new_tokens=6, **settings)
    (answer,) = finish(qwen2, ["The quick"], max_new_tokens=6, logprobs=True, top_logprobs=3, **settings)
    assert ids(answer) == ids(plain)
    assert answer.text == plain.text
    expected = log_probabilities("qwen2", "The quick", ids(answer)).topk(3)
    for place, token in enumerate(answer.tokens):
        assert [other for other, _ in token.alternatives] == expected.indices[place].tolist()
        assert [value for _, value in token.alternatives] == pytest.approx(expected.values[place].tolist(), abs=1e-4)


def test_a_model_ends_its_answer_itself(qwen2: Generator) -> None:
    """The token that ends a text ends the answer, and does not show."""
    (free,) = finish(qwen2, ["The quick"], max_new_tokens=20)
    end = ids(free)[5]
    (answer,) = finish(qwen2, ["The quick"], max_new_tokens=20, eos_token_id=end)
    assert answer.finish_reason == "stop"
    assert ids(answer) == ids(free)[: ids(free).index(end) + 1]


def test_tokens_that_end_another_answer_do_not_end_this_one(qwen2: Generator) -> None:
    """What is said with a request replaces what the model says."""
    found = [finish(qwen2, ["The quick"], max_new_tokens=200, seed=seed, eos_token_id=[])[0] for seed in range(4)]
    assert any(0 in ids(answer)[:-1] for answer in found)  # the model's own end
    assert {answer.finish_reason for answer in found} == {"length"}
    assert {len(answer.tokens) for answer in found} == {200}


def test_a_stop_string_that_is_a_special_token_ends_an_answer(qwen2: Generator) -> None:
    """Though special tokens never show in the text."""
    special = qwen2.token_ids("<|im_start|>")[0]
    settings = {"max_new_tokens": 200, "eos_token_id": [], "temperature": 2.0, "top_k": 0}
    seed, free = next(
        (seed, answer)
        for seed in range(50)
        if special in ids(answer := finish(qwen2, ["The quick"], seed=seed, **settings)[0])
    )
    (answer,) = finish(qwen2, ["The quick"], seed=seed, stop=["<|im_start|>"], **settings)
    assert answer.finish_reason == "stop"
    assert ids(answer) == ids(free)[: ids(free).index(special) + 1]


def test_stop_strings_cut_the_text_and_the_work(gpt2: Generator) -> None:
    """Wherever in a token they begin."""
    (free,) = finish(gpt2, ["The quick"], max_new_tokens=40)
    stop = free.text[len(free.text) // 2 :][:3]
    (answer,) = finish(gpt2, ["The quick"], max_new_tokens=40, stop=[stop])
    assert answer.text == free.text[: free.text.index(stop)]
    assert (answer.finish_reason, len(answer.tokens) < 40) == ("stop", True)


def test_the_pieces_of_a_stream_are_the_answer(gpt2: Generator) -> None:
    """Nothing is lost or said twice."""
    (whole,) = finish(gpt2, ["The quick"], max_new_tokens=40)
    (generation,) = start(gpt2, ["The quick"], max_new_tokens=40)
    pieces = list(generation)
    assert "".join(pieces) == whole.text
    assert len(pieces) > 5


async def test_answers_are_awaited(gpt2: Generator) -> None:
    """An event loop reads them, too."""
    (whole,) = finish(gpt2, ["The quick"], max_new_tokens=20)
    (generation,) = start(gpt2, ["The quick"], max_new_tokens=20)
    assert (await generation.aanswer()).text == whole.text


def test_an_answer_that_has_ended_leaves_the_others_alone(llama: Generator) -> None:
    """Each answer of a batch has its own length."""
    long, short = "The ships sail out at dawn, again", "The quick"
    requests = [
        Settings.read(llama, {"max_tokens": tokens}).request(llama, llama.read_prompt(prompt))
        for prompt, tokens in ((long, 25), (short, 3))
    ]
    first, second = (generation.answer() for generation in llama.submit(requests))
    assert ids(first) == of_transformers("llama", long, max_new_tokens=25)
    assert ids(second) == of_transformers("llama", short, max_new_tokens=3)
    assert (first.finish_reason, second.finish_reason) == ("length", "length")


def test_a_cancelled_answer_ends_within_a_second(llama: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops reading gets the processor back."""
    openvino_models.slow_down(monkeypatch)
    (generation,) = start(llama, ["The quick"], max_new_tokens=500, eos_token_id=[])
    pieces = iter(generation)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    started = time.monotonic()
    while any(thread.name == "localhf-generation" for thread in threading.enumerate()):
        assert time.monotonic() - started < 1
        time.sleep(0.01)
    assert generation.token_count < 400


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 3.0}, "top_p"),
        ({"top_k": "many", "do_sample": True}, "top_k"),
        ({"num_beams": 2, "logprobs": True}, "num_beams=2"),
        ({"num_beams": 2, "seed": 1}, "num_beams=2"),
        ({"num_beams": 2, "early_stopping": "sometimes"}, "early_stopping"),
        ({"temprature": 1.0}, "temperature"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_used_are_refused_at_once(
    settings: dict[str, Any], message: str, llama: Generator
) -> None:
    """No model runs for settings that contradict themselves."""
    with pytest.raises(InputError, match=message):
        start(llama, ["The quick"], **settings)


def test_a_search_gives_several_answers(llama: Generator) -> None:
    """The answers of a beam search are its best, in their order."""
    settings = Settings.read(llama, {"num_beams": 3, "n": 2, "max_tokens": 8})
    prompt = llama.read_prompt("The quick")
    requests = [settings.request(llama, prompt, sample=i) for i in range(settings.n)]
    found = [generation.answer() for generation in llama.submit(requests)]
    assert ids(found[0]) == of_transformers("llama", "The quick", max_new_tokens=8, num_beams=3)
    assert found[0].text != found[1].text
    with pytest.raises(InputError, match="4 answers"):
        llama.submit([settings.request(llama, prompt, sample=3)])


def test_a_prompt_longer_than_the_window_is_refused(llama: Generator) -> None:
    """The message names both lengths, and its start can be left out instead."""
    with pytest.raises(InputError, match="512"):
        start(llama, ["word " * 600])
    (answer,) = finish(llama, ["word " * 600], truncate="left", max_tokens=10)
    assert (answer.prompt_tokens, len(answer.tokens)) == (502, 10)


def test_tokens_of_a_text_come_back_as_its_text(llama: Generator) -> None:
    """Whatever is in it."""
    text = "Größe, 東京 😀 and <tool_call>"
    assert "".join(llama.token_text(token) for token in llama.token_ids("plain text")) == "plain text"
    assert llama.read_prompt(text).token_ids == tuple(llama.token_ids(text))


def test_a_constraint_shapes_the_answer(qwen2: Generator) -> None:
    """A model that knows nothing still answers in the demanded form."""
    settings = Settings.read(qwen2, {"max_tokens": 60})
    schema = {
        "type": "object",
        "properties": {"ready": {"type": "boolean"}},
        "required": ["ready"],
        "additionalProperties": False,
    }
    request = settings.request(qwen2, qwen2.read_prompt("Ready?"), constraint=Constraint((Tag("", schema),)))
    (generation,) = qwen2.submit([request])
    assert "".join(generation.answer().text.split()) in {'{"ready":true}', '{"ready":false}'}


def test_a_prompt_with_half_a_character_is_refused(llama: Generator) -> None:
    """Before a tokenizer could fail on it."""
    with pytest.raises(InputError, match="surrogate"):
        llama.read_prompt("caf\ud83d")


def test_an_empty_prompt_begins_with_the_token_that_begins_texts(gpt2: Generator) -> None:
    """An empty text can be continued too."""
    assert len(gpt2.read_prompt("").token_ids) == 1
    (answer,) = finish(gpt2, [""], max_new_tokens=3)
    assert len(answer.tokens) == 3


def test_a_model_without_a_chat_template_says_so(gpt2: Generator) -> None:
    """No template is guessed."""
    with pytest.raises(UnsupportedModelError, match="chat template"):
        gpt2.render_chat([{"role": "user", "content": "hi"}])


def test_images_are_refused_by_a_model_that_reads_none(llama: Generator) -> None:
    """By the engine that knows what its model reads."""
    assert not llama.reads_images
    with pytest.raises(UnsupportedModelError, match="reads no images"):
        llama.read_prompt("What?", images=[b"..."])


def test_a_model_says_what_it_is(llama: Generator, backend: str) -> None:
    """Its window, its architecture and what runs it."""
    assert (llama.model_type, llama.context_window, llama.continues_prompt) == ("llama", 512, True)
    assert llama.chat_template
    assert ("torch" if backend == "torch" else "openvino-genai") in llama.versions

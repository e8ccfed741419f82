"""The torch generator: transformers' own tokens, whatever runs beside them, and the end of every answer."""

from __future__ import annotations

import io
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from support import language_models
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from langchain_localhf.engines.generation.request import Constraint, Tag
from langchain_localhf.engines.generation.settings import Settings
from langchain_localhf.errors import EngineError, InputError, UnsupportedModelError
from langchain_localhf.loaded import LoadedGenerator
from langchain_localhf.loading import load_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_localhf.engines.base import Generator
    from langchain_localhf.engines.generation.generation import Answer, Generation

PROMPTS = ("The quick", "What is the weather in Paris today? It is sunny", "a", "The ships sail out at dawn, again")
TASKS = {"t5": "text2text-generation"}


@cache
def loaded(family: str) -> LoadedGenerator:
    """The tiny model of `family`, once for all tests."""
    folder = language_models.vision_folder() if family == "llava" else language_models.folder(family)
    task = "image-text-to-text" if family == "llava" else TASKS.get(family, "text-generation")
    return load_generator(str(folder), task=task)


def generator(family: str) -> Generator:
    """The engine that runs it."""
    return loaded(family).generator


def submit(family: str, prompts: Sequence[str], **settings: Any) -> list[Generation]:
    """Starts an answer for each prompt."""
    engine = generator(family)
    read = Settings.read(engine, settings)
    return engine.submit([read.request(engine, engine.read_prompt(prompt)) for prompt in prompts])


def answers(family: str, prompts: Sequence[str], **settings: Any) -> list[Answer]:
    """The finished answers, one for each prompt."""
    return [generation.answer() for generation in submit(family, prompts, **settings)]


def ids(answer: Answer) -> list[int]:
    """The tokens of an answer."""
    return [token.id for token in answer.tokens]


def of_transformers(family: str, prompt: str, **settings: Any) -> list[int]:
    """The new tokens that plain transformers gives for one prompt."""
    folder = language_models.folder(family)
    auto_model = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
    model, tokenizer = auto_model.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokens = torch.tensor([tokenizer(prompt)["input_ids"]])
    found = model.generate(
        input_ids=tokens, attention_mask=torch.ones_like(tokens), do_sample=False, pad_token_id=0, **settings
    )
    return found[0, 1 if family == "t5" else tokens.shape[1] :].tolist()


@pytest.mark.parametrize("family", language_models.FAMILIES)
def test_greedy_tokens_are_those_of_transformers_alone_and_in_a_batch(family: str) -> None:
    """Neither the batch nor its padding changes a token."""
    expected = [of_transformers(family, prompt, max_new_tokens=30) for prompt in PROMPTS]
    assert [ids(answer) for answer in answers(family, PROMPTS, max_new_tokens=30)] == expected
    assert [ids(answers(family, [prompt], max_new_tokens=30)[0]) for prompt in PROMPTS] == expected


@pytest.mark.parametrize(
    "settings",
    [{"repetition_penalty": 1.8}, {"no_repeat_ngram_size": 1}, {"num_beams": 3}, {"min_new_tokens": 12}],
    ids=str,
)
def test_settings_that_look_at_the_prompt_see_no_padding(settings: dict[str, Any]) -> None:
    """A penalty for repeating counts the prompt's own tokens only."""
    expected = [of_transformers("qwen2", prompt, max_new_tokens=15, **settings) for prompt in PROMPTS]
    found = [ids(answer) for answer in answers("qwen2", PROMPTS, max_new_tokens=15, **settings)]
    assert found == [tokens[: len(own)] for tokens, own in zip(expected, found, strict=True)]
    assert all(found)


def test_a_seed_gives_the_same_answer_alone_and_among_others() -> None:
    """What is in the rest of the batch plays no part."""
    settings = {"max_new_tokens": 20, "temperature": 0.9, "top_p": 0.95}
    together = answers("llama", PROMPTS, seed=7, **settings)
    alone = [answers("llama", [prompt], seed=7, **settings)[0] for prompt in PROMPTS]
    assert [ids(answer) for answer in together] == [ids(answer) for answer in alone]
    other = answers("llama", PROMPTS, seed=8, **settings)
    assert [ids(answer) for answer in together] != [ids(answer) for answer in other]


def test_samples_without_a_seed_differ() -> None:
    """Nobody who wants variety gets the same text each time."""
    texts = {answers("llama", ["The quick"], max_new_tokens=20, temperature=1.0)[0].text for _ in range(3)}
    assert len(texts) > 1


def test_samples_follow_the_probabilities_of_the_model() -> None:
    """Of many first tokens, each is as frequent as it is probable."""
    (answer,) = answers("llama", ["The"], max_new_tokens=1, logprobs=3)
    probable = {token: torch.tensor(logprob).exp().item() for token, logprob in answer.tokens[0].alternatives}
    drawn = [
        ids(answer)[0] for seed in range(400) for answer in answers("llama", ["The"], max_tokens=1, seed=seed, top_k=0)
    ]
    for token, probability in probable.items():
        assert drawn.count(token) / len(drawn) == pytest.approx(probability, abs=0.08)


def test_top_k_of_one_is_greedy() -> None:
    """With one token to choose from, chance has nothing to decide."""
    greedy = answers("gpt2", ["The quick"], max_new_tokens=20)
    assert ids(answers("gpt2", ["The quick"], max_new_tokens=20, top_k=1, seed=3)[0]) == ids(greedy[0])


def test_log_probabilities_are_those_of_the_model() -> None:
    """They agree with a plain forward pass."""
    (answer,) = answers("qwen2", ["The quick"], max_new_tokens=4, logprobs=True, top_logprobs=2)
    folder = language_models.folder("qwen2")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer("The quick")["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + ids(answer)])).logits[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits, dim=-1)
    for place, token in enumerate(answer.tokens):
        assert token.logprob == pytest.approx(expected[place, token.id].item(), abs=1e-4)
        assert [other for other, _ in token.alternatives] == expected[place].topk(2).indices.tolist()


def test_a_model_ends_its_answer_itself() -> None:
    """The token that ends a text ends the answer, and does not show."""
    (free,) = answers("qwen2", ["The quick"], max_new_tokens=20)
    end = ids(free)[5]
    (answer,) = answers("qwen2", ["The quick"], max_new_tokens=20, eos_token_id=end)
    assert answer.finish_reason == "stop"
    assert ids(answer) == ids(free)[: ids(free).index(end) + 1]


def test_an_answer_that_nothing_ends_has_its_full_length() -> None:
    """Also where the model's own end comes by."""
    free = answers("qwen2", ["The quick"], max_new_tokens=20, eos_token_id=[])[0]
    end = ids(free)[5]
    engine = generator("qwen2")
    before, engine._own_end_ids = engine._own_end_ids, [end]  # type: ignore[attr-defined]
    try:
        (answer,) = answers("qwen2", ["The quick"], max_new_tokens=20, eos_token_id=[])
    finally:
        engine._own_end_ids = before  # type: ignore[attr-defined]
    assert (ids(answer), answer.finish_reason) == (ids(free), "length")


def test_a_stop_string_that_is_a_special_token_ends_an_answer() -> None:
    """Though special tokens never show in the text."""
    engine = generator("qwen2")
    assert engine.token_text(1) == "<|im_start|>"
    (answer,) = answers("qwen2", ["The quick"], max_new_tokens=4, sequence_bias={(1,): 99.0}, stop=["<|im_start|>"])
    assert (answer.text, answer.finish_reason, len(answer.tokens)) == ("", "stop", 1)


def test_a_row_that_has_ended_leaves_the_others_alone() -> None:
    """Each answer of a batch has its own length."""
    long, short = "The ships sail out at dawn, again", "The quick"
    engine = generator("llama")
    requests = [
        Settings.read(engine, {"max_tokens": tokens}).request(engine, engine.read_prompt(prompt))
        for prompt, tokens in ((long, 25), (short, 3))
    ]
    first, second = (generation.answer() for generation in engine.submit(requests))
    assert ids(first) == of_transformers("llama", long, max_new_tokens=25)
    assert ids(second) == of_transformers("llama", short, max_new_tokens=3)


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
    engine = generator(family)
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
    engine = generator(family)
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
    shapes = spied(generator("llama"), monkeypatch)
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


def test_a_cancelled_answer_ends_within_a_second() -> None:
    """Whoever stops reading gets the processor back."""
    (generation,) = submit("llama", ["The quick"], max_new_tokens=500, eos_token_id=[])
    pieces = iter(generation)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    started = time.monotonic()
    while any(thread.name == "localhf-generation" for thread in threading.enumerate()):
        assert time.monotonic() - started < 1
        time.sleep(0.01)
    assert generation.token_count < 400


@pytest.mark.parametrize(
    "prompts", [PROMPTS, (PROMPTS[0], "word " * 60, PROMPTS[2], PROMPTS[3])], ids=["like", "unlike"]
)
def test_what_one_prompt_breaks_is_not_the_others_fault(
    prompts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that the model fails on fails alone, in the batch of the others or in one of its own."""
    engine = generator("gpt2")
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

    monkeypatch.setattr(type(generator("gpt2")._model), "generate", failing)  # type: ignore[attr-defined]
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


def test_a_search_gives_several_answers() -> None:
    """The answers of a beam search are its best, in their order."""
    engine = generator("llama")
    settings = Settings.read(engine, {"num_beams": 3, "n": 2, "max_tokens": 8})
    prompt = engine.read_prompt("The quick")
    found = [g.answer() for g in engine.submit([settings.request(engine, prompt, sample=i) for i in range(settings.n)])]
    assert ids(found[0]) == of_transformers("llama", "The quick", max_new_tokens=8, num_beams=3)
    assert found[0].text != found[1].text
    with pytest.raises(InputError, match="4 answers"):
        engine.submit([settings.request(engine, prompt, sample=3)])


def test_a_constraint_shapes_the_answer() -> None:
    """A model that knows nothing still answers in the demanded form."""
    engine = generator("qwen2")
    settings = Settings.read(engine, {"max_tokens": 60})
    schema = {
        "type": "object",
        "properties": {"ready": {"type": "boolean"}},
        "required": ["ready"],
        "additionalProperties": False,
    }
    request = settings.request(engine, engine.read_prompt("Ready?"), constraint=Constraint((Tag("", schema),)))
    (generation,) = engine.submit([request])
    assert generation.answer().text.replace(" ", "") in {'{"ready":true}', '{"ready":false}'}


def test_a_prompt_with_half_a_character_is_refused() -> None:
    """Before a tokenizer could fail on it."""
    with pytest.raises(InputError, match="surrogate"):
        generator("llama").read_prompt("caf\ud83d")


def test_an_empty_prompt_begins_with_the_token_that_begins_texts() -> None:
    """An empty text can be continued too."""
    engine = generator("gpt2")
    first = engine.read_prompt("").token_ids
    assert len(first) == 1
    (answer,) = answers("gpt2", [""], max_new_tokens=3)
    assert len(answer.tokens) == 3


def test_a_model_without_a_chat_template_says_so() -> None:
    """No template is guessed."""
    with pytest.raises(UnsupportedModelError, match="chat template"):
        generator("gpt2").render_chat([{"role": "user", "content": "hi"}])


def picture(color: str) -> bytes:
    """A small PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(buffer, "PNG")
    return buffer.getvalue()


def test_images_change_the_answer_of_a_vision_language_model() -> None:
    """What is seen matters."""
    engine = generator("llava")
    assert engine.reads_images
    prompt = engine.render_chat([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}])
    settings = Settings.read(engine, {"max_tokens": 10})
    prompts = [engine.read_prompt(prompt, images=[picture(color)], special_tokens=False) for color in ("red", "blue")]
    texts = [g.answer().text for g in engine.submit([settings.request(engine, read) for read in prompts])]
    assert texts[0] != texts[1]


def test_images_that_do_not_fit_are_refused() -> None:
    """By the engine that knows what its model reads."""
    with pytest.raises(UnsupportedModelError, match="reads no images"):
        generator("llama").read_prompt("What?", images=[picture("red")])
    with pytest.raises(InputError, match="image 0 cannot be read"):
        generator("llava").read_prompt("<image>What?", images=[b"no image"])
    with pytest.raises(InputError, match="do not fit"):
        generator("llava").read_prompt("<image><image>What?", images=[picture("red")])

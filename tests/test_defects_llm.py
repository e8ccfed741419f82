"""The defects of upstream's HuggingFacePipeline: each test shows that it is there, and that it is gone here."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import huggingface_hub
import langchain_huggingface
import pytest
import torch
import transformers
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import base as langchain_base
from support import checkpoints, language_models
from support.pipelines import Steps, ours, theirs, transformers_pipeline, wait_for_threads, watch_generate, watch_rows
from support.tables import Table
from transformers import AutoTokenizer

import langchain_localhf
from langchain_localhf import HuggingFacePipeline
from langchain_localhf.errors import EngineError, InputError, UninitializedWeightsError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLE = Table("upstream-defects.md", "HuggingFacePipeline")
PROMPT = "The quick"
TOO_LONG = "word " * 600


def information(llm: HuggingFacePipeline, **settings: Any) -> dict[str, Any]:
    """What is known about the answer to the prompt."""
    return llm.generate([PROMPT], **settings).generations[0][0].generation_info or {}


def theirs_around(pipe: Any, **fields: Any) -> langchain_huggingface.HuggingFacePipeline:
    """A transformers pipeline in upstream's class."""
    return langchain_huggingface.HuggingFacePipeline(pipeline=pipe, **fields)


def test_each_row_has_one_test() -> None:
    """The page and this module list the same defects, numbered from 1."""
    TABLE.check()
    assert [row[0] for row in TABLE.rows] == [str(number) for number in range(1, 25)]


@TABLE.row("1", "`stop` in `invoke`, `batch` and `bind`")
def test_stop() -> None:
    """There the text is the same with and without; here it ends before the stop string."""
    there, here = theirs(), ours()
    answer = here.invoke(PROMPT)
    stop = [answer[6:9]]
    before = answer[: answer.index(stop[0])]
    assert there.invoke(PROMPT, stop=stop) == there.bind(stop=stop).invoke(PROMPT) == PROMPT + answer
    assert there.batch([PROMPT], stop=stop) == [PROMPT + answer]
    assert here.invoke(PROMPT, stop=stop) == here.bind(stop=stop).invoke(PROMPT) == before
    assert here.batch([PROMPT], stop=stop) == [before]
    assert information(here, stop=stop)["completion_tokens"] < information(here)["completion_tokens"]


@TABLE.row("2", "`stop` in `stream`")
def test_stop_in_a_stream() -> None:
    """There a stop string of one token shows, and one with a space in it does nothing."""
    settings = {"max_new_tokens": 60}
    there, here = theirs(pipeline_kwargs=settings), ours(pipeline_kwargs=settings)
    ids = there.pipeline(PROMPT, return_tensors=True)[0]["generated_token_ids"]
    tokens = there.pipeline.tokenizer.convert_ids_to_tokens(ids[here.get_num_tokens(PROMPT) :])
    one_token = next(token for token in tokens if token.isascii() and token.isalpha())
    with_space = next(f" {token[1:]}" for token in tokens if token[0] == "Ġ" and token[1:].isalpha())
    answer = here.invoke(PROMPT)
    assert "".join(there.stream(PROMPT, stop=[one_token])).endswith(one_token)
    assert "".join(there.stream(PROMPT, stop=[with_space])) == answer
    for stop in (one_token, with_space):
        assert "".join(here.stream(PROMPT, stop=[stop])) == answer[: answer.index(stop)]


@TABLE.row("3", "the prompt in the answer")
def test_prompt_in_the_answer() -> None:
    """There it depends on how one asks."""
    there, here = theirs(), ours()
    assert there.invoke(PROMPT) == PROMPT + "".join(there.stream(PROMPT))
    assert here.invoke(PROMPT) == "".join(here.stream(PROMPT)) == "".join(there.stream(PROMPT))
    full = here.bind(return_full_text=True)
    assert full.invoke(PROMPT) == "".join(full.stream(PROMPT)) == there.invoke(PROMPT)


@TABLE.row("4", "`skip_prompt=True` with `return_full_text=False`")
def test_skip_prompt() -> None:
    """There as many characters as the prompt has are missing from the answer."""
    settings = {"return_full_text": False}
    there, here = theirs(pipeline_kwargs=settings), ours(pipeline_kwargs=settings)
    answer = here.invoke(PROMPT)
    assert there.invoke(PROMPT, skip_prompt=True) == answer[len(PROMPT) :]
    assert here.invoke(PROMPT, skip_prompt=True) == answer


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """The seconds that upstream waits for a piece, instead of 60."""
    seconds = 0.2

    class Impatient(transformers.TextIteratorStreamer):
        def __init__(self, tokenizer: Any, *, timeout: float, **settings: Any) -> None:
            assert timeout == 60
            super().__init__(tokenizer, timeout=seconds, **settings)

    monkeypatch.setattr(transformers, "TextIteratorStreamer", Impatient)
    return seconds


@TABLE.row("5", "an error during a stream")
def test_error_in_a_stream(patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the thread's last words are all that one hears of it."""
    printed: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda words: printed.append(str(words.exc_value)))

    def fail(*_: Any) -> None:
        raise RuntimeError("the disk is on fire")

    pipe = transformers_pipeline()
    pipe.model.register_forward_pre_hook(fail)
    started = time.monotonic()
    with pytest.raises(queue.Empty) as caught:
        next(theirs_around(pipe).stream(PROMPT))
    assert time.monotonic() - started >= patience
    assert (str(caught.value), printed) == ("", ["the disk is on fire"])
    with pytest.raises(EngineError, match="the disk is on fire"):
        next(HuggingFacePipeline(pipeline=pipe).stream(PROMPT))


@TABLE.row("6", "a prompt that takes over 60 seconds to read")
def test_slow_prompt(patience: float) -> None:
    """There the caller gives up, and the model goes on."""
    pipe = transformers_pipeline(max_new_tokens=2)
    steps, before = Steps(pipe, first=2 * patience), set(threading.enumerate())
    with pytest.raises(queue.Empty):
        next(theirs_around(pipe).stream(PROMPT))
    wait_for_threads(before)
    assert steps.count == 2
    pipe = transformers_pipeline(max_new_tokens=2)
    Steps(pipe, first=2 * patience)
    assert list(HuggingFacePipeline(pipeline=pipe).stream(PROMPT))


@TABLE.row("7", "a stream that is closed before its end")
def test_closed_stream() -> None:
    """There every token is generated all the same."""
    counts = []
    for package in (langchain_huggingface, langchain_localhf):
        pipe = transformers_pipeline(max_new_tokens=60)
        steps, before = Steps(pipe, seconds=0.005), set(threading.enumerate())
        stream = package.HuggingFacePipeline(pipeline=pipe).stream(PROMPT)
        next(stream)
        stream.close()
        wait_for_threads(before)
        counts.append(steps.count)
    assert counts[0] == 60
    assert counts[1] < 60


@TABLE.row("8", "a prompt near the end of the context window, or beyond")
def test_context_window() -> None:
    """There both fail, with the words of an embedding layer."""
    folder = str(language_models.folder("gpt2"))
    there = langchain_huggingface.HuggingFacePipeline.from_model_id(folder, "text-generation")
    here = HuggingFacePipeline.from_model_id(folder, "text-generation")
    near = "The quick brown fox " * 65
    assert language_models.CONTEXT - 256 < here.get_num_tokens(near) < language_models.CONTEXT
    for prompt in (near, TOO_LONG):
        with pytest.raises(IndexError, match="index out of range in self"):
            there.invoke(prompt)
    assert here.invoke(near)
    with pytest.raises(InputError, match=rf"{here.get_num_tokens(TOO_LONG):,} tokens.*{language_models.CONTEXT}"):
        here.invoke(TOO_LONG)
    assert here.invoke(TOO_LONG, truncate="left")


@TABLE.row("9", "one bad prompt in a batch with `return_exceptions`")
def test_bad_prompt_in_a_batch() -> None:
    """There the others fail with it."""
    there, here = theirs("gpt2"), ours("gpt2")
    prompts = [PROMPT, TOO_LONG, "a"]
    assert [type(answer) for answer in there.batch(prompts, return_exceptions=True)] == [IndexError] * 3
    assert [type(answer) for answer in here.batch(prompts, return_exceptions=True)] == [str, InputError, str]


@TABLE.row("10", "`batch_size` for a pipeline of one's own")
def test_batch_size_of_an_own_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the number is kept, and not used."""
    calls = watch_generate(monkeypatch)
    theirs_around(transformers_pipeline(), batch_size=4).batch([PROMPT] * 8)
    assert [len(rows) for rows in calls] == [1] * 8
    calls.clear()
    HuggingFacePipeline(pipeline=transformers_pipeline(), batch_size=4).batch([PROMPT] * 8)
    assert [len(rows) for rows in calls] == [4, 4]


@TABLE.row("11", "a pipeline of one's own with `batch_size` and no padding token")
def test_no_padding_token() -> None:
    """There GPT-2, Llama and many others cannot be batched."""
    pipe = transformers_pipeline(batch_size=2)
    assert pipe.tokenizer.pad_token is None
    with pytest.raises(ValueError, match="cannot do batching"):
        theirs_around(pipe).batch([PROMPT, "a"])
    here = HuggingFacePipeline(pipeline=pipe)
    assert here.batch([PROMPT, "a"]) == [here.invoke(PROMPT), here.invoke("a")]


@TABLE.row("12", "long and short prompts together")
def test_mixed_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """There every short prompt is as long as its neighbour, and an answer that is over is computed on with the rest."""
    prompts = ["word " * 20, "a"] * 2
    there, here = theirs(batch_size=2), ours(batch_size=2)
    long, short = here.get_num_tokens(prompts[0]), here.get_num_tokens(prompts[1])
    calls = watch_generate(monkeypatch)
    there.batch(prompts)
    assert [[len(row) for row in rows] for rows in calls] == [[long, long]] * 2
    calls.clear()
    here.batch(prompts)
    assert [[len(row) for row in rows] for rows in calls] == [[long, long], [short, short]]
    first, second = (here.generator.token_ids(here.invoke(prompt)) for prompt in ("The", "a"))
    end = next(token for token in first if token not in second)
    there, here = (package(pipeline_kwargs={"eos_token_id": end}) for package in (theirs, ours))
    computed = watch_rows(monkeypatch)
    there.batch(["The", "a"])
    assert set(computed) == {2}
    computed.clear()
    here.batch(["The", "a"])
    assert set(computed) == {2, 1}


@TABLE.row("13", "an empty prompt among others")
def test_empty_prompt() -> None:
    """There it fails only where it is not alone."""
    there, here = theirs(), ours()
    assert there.invoke("")
    with pytest.raises(RuntimeError, match="size of the tensor"):
        there.batch(["", "The"])
    assert here.batch(["", "The"]) == [here.invoke(""), here.invoke("The")]


@TABLE.row("14", "the tasks other than `text-generation`")
def test_tasks() -> None:
    """There they are announced, and transformers 5 has three of them no more."""
    for task in ("text2text-generation", "summarization", "translation"):
        assert task in langchain_huggingface.llms.huggingface_pipeline.VALID_TASKS
        with pytest.raises(KeyError, match=task):
            theirs("t5", task)
        assert ours("t5", task).invoke(PROMPT)
    with pytest.raises(ValueError, match="Unrecognized configuration class"):
        theirs(language_models.vision_folder(), "image-text-to-text")
    assert ours(language_models.vision_folder(), "image-text-to-text").invoke(PROMPT)


@TABLE.row("15", "`model_kwargs` of older versions")
def test_old_model_kwargs() -> None:
    """There the model's constructor complains; the first are from upstream's own documentation."""
    documented = {"temperature": 0, "max_length": 64}
    for settings in (documented, {"load_in_8bit": True}):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            theirs(model_kwargs=settings)
    here = HuggingFacePipeline.from_model_id(
        str(language_models.folder("llama")), "text-generation", model_kwargs=documented
    )
    info = information(here)
    assert info["prompt_tokens"] + info["completion_tokens"] == 64
    with pytest.raises(UnsupportedModelError) as caught:
        ours(model_kwargs={"load_in_8bit": True})
    assert "BitsAndBytesConfig" in str(caught.value.hint)


@TABLE.row("16", "chance")
def test_chance() -> None:
    """There no two answers are alike, and nothing can be done about it but `do_sample=False`."""
    folder, settings = str(language_models.folder("llama")), {"max_new_tokens": 16}
    there, here = (
        package.from_model_id(folder, "text-generation", pipeline_kwargs=settings)
        for package in (langchain_huggingface.HuggingFacePipeline, HuggingFacePipeline)
    )
    assert len({there.invoke(PROMPT) for _ in range(4)}) > 1
    with pytest.raises(ValueError, match="strictly positive"):
        there.invoke(PROMPT, pipeline_kwargs={"temperature": 0.0})
    with pytest.raises(ValueError, match="'seed'"):
        there.invoke(PROMPT, pipeline_kwargs={"seed": 1})
    assert len({here.invoke(PROMPT) for _ in range(4)}) == 1
    assert here.invoke(PROMPT, pipeline_kwargs={"temperature": 0.0}) == here.invoke(PROMPT)
    seeded = [here.invoke(PROMPT, pipeline_kwargs={"seed": seed}) for seed in (1, 2, 1)]
    assert seeded[0] == seeded[2] != seeded[1]


@TABLE.row("17", '`device="cpu"`')
def test_device_by_name() -> None:
    """There it is compared with a number."""
    with pytest.raises(TypeError, match="not supported between instances of 'str' and 'int'"):
        theirs(device="cpu")
    assert ours(device="cpu").invoke(PROMPT) == ours(device=-1).invoke(PROMPT)


@TABLE.row("18", "settings in a call or in `bind`")
def test_settings_in_a_call() -> None:
    """There nobody reads them."""
    there, here = theirs(), ours()
    text = there.invoke(PROMPT)
    assert there.invoke(PROMPT, max_new_tokens=2) == there.bind(max_new_tokenz=2).invoke(PROMPT) == text
    assert information(here, max_new_tokens=2)["completion_tokens"] == 2
    with pytest.raises(InputError, match="did you mean max_new_tokens"):
        here.bind(max_new_tokenz=2).invoke(PROMPT)


@TABLE.row("19", "LangChain's cache")
def test_cache() -> None:
    """There the second call gets the first one's two tokens."""
    there, here = theirs(cache=InMemoryCache()), ours(cache=InMemoryCache())
    short, long = ({"max_new_tokens": count} for count in (2, 6))
    assert there.invoke(PROMPT, pipeline_kwargs=short) == there.invoke(PROMPT, pipeline_kwargs=long)
    assert here.invoke(PROMPT, pipeline_kwargs=short) != here.invoke(PROMPT, pipeline_kwargs=long)


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a network and without a download of GPT-2, which LangChain counts with."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    langchain_base.get_tokenizer.cache_clear()
    yield
    langchain_base.get_tokenizer.cache_clear()


@TABLE.row("20", "`get_num_tokens` without a network")
@pytest.mark.filterwarnings("ignore:Using fallback GPT-2 tokenizer")
def test_token_count(no_hub: None) -> None:
    """There LangChain's own tokenizer is an empty one."""
    text = "Größe 東京"
    tokenizer = AutoTokenizer.from_pretrained(language_models.folder("llama"))
    assert theirs().get_num_tokens(text) == 0
    assert ours().get_num_tokens(text) == len(tokenizer(text)["input_ids"]) > 0


@TABLE.row("21", "what is known about an answer")
def test_what_is_known_about_an_answer() -> None:
    """There an answer is a text, and there is one."""
    settings = {"num_return_sequences": 2, "do_sample": True}
    result = theirs().generate([PROMPT], pipeline_kwargs=settings)
    (answers,) = result.generations
    assert (result.llm_output, [answer.generation_info for answer in answers]) == (None, [None])
    result = ours().generate([PROMPT], pipeline_kwargs=settings | {"logprobs": 1})
    (answers,) = result.generations
    assert result.llm_output is not None
    known = [answer.generation_info or {} for answer in answers]
    counts = [each["completion_tokens"] for each in known]
    assert result.llm_output["token_usage"]["completion_tokens"] == sum(counts) > 0
    assert [len(each["logprobs"]) for each in known] == counts
    assert {each["finish_reason"] for each in known} <= {"length", "stop"}
    assert len(answers) == 2


@TABLE.row("22", "a checkpoint without the weights of its head")
def test_headless(tmp_path: Path) -> None:
    """There two objects have two heads, and nobody trained either."""
    folder = language_models.copy("llama", tmp_path / "llama")
    lost = "lm_head.weight"
    checkpoints.edit_weights(folder, lambda tensors: {name: t for name, t in tensors.items() if name != lost})
    first, second = (theirs(folder).pipeline.model.get_output_embeddings().weight for _ in range(2))
    assert not torch.equal(first, second)
    with pytest.raises(UninitializedWeightsError) as caught:
        ours(folder)
    assert list(caught.value.missing) == [lost]


@TABLE.row("23", "the pieces of a stream")
def test_pieces() -> None:
    """There a piece ends where a space is, and tokens before that are empty pieces."""
    there, here = list(theirs().stream(PROMPT)), list(ours().stream(PROMPT))
    assert "".join(there) == "".join(here)
    assert "" in there
    assert all(piece.endswith(" ") for piece in there[:-1] if piece)
    assert all(here)
    assert len(here) > len([piece for piece in there if piece])


@TABLE.row("24", "`stop_strings` of transformers, in `pipeline_kwargs`")
def test_stop_strings_of_transformers() -> None:
    """There the end of the prompt counts, so that the text ends with the first token."""
    there, here = theirs(), ours()
    prompts = ["The ", "The lazy dog", "The quick brown fox", "Hello", "dog", "ships"]
    prompt, answer = next((p, a) for p in prompts if (a := here.invoke(p))[0].isascii() and a[0].isprintable())
    across = prompt[-1] + answer[0]
    settings = {"stop_strings": [across]}
    with pytest.raises(ValueError, match="tokenizer"):
        there.invoke(prompt, pipeline_kwargs=settings)
    cut = there.invoke(prompt, pipeline_kwargs=settings | {"tokenizer": there.pipeline.tokenizer})
    assert (prompt + answer).startswith(cut)
    assert cut != prompt + answer
    assert across in cut
    assert across not in answer
    assert here.invoke(prompt, pipeline_kwargs=settings) == answer

"""HuggingFacePipeline: LangChain's "Hugging Face Local Pipelines" page, offline, and what its users run into."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from support import language_models, openvino_models
from support.generators import ENGINES, model_settings
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from langchain_localhf.errors import DeviceUnavailableError, InputError, ModelNotFoundError, UnsupportedModelError
from langchain_localhf.llms import HuggingFacePipeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langchain_core.outputs import GenerationChunk, LLMResult

PROMPT = "The quick"
each_engine = pytest.mark.usefixtures("engine")
_current = {"engine": "torch"}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The engine of every `hf()` in the test."""
    _current["engine"] = request.param
    yield request.param
    _current["engine"] = "torch"


def hf(family: str = "llama", task: str = "text-generation", **arguments: Any) -> HuggingFacePipeline:
    """A tiny model, as a user makes it; 16 new tokens, unless the test says otherwise."""
    settings = {"max_new_tokens": 16} | arguments.pop("pipeline_kwargs", {})
    of_model = model_settings(_current["engine"], family)
    model_kwargs = of_model.pop("model_kwargs", {}) | arguments.pop("model_kwargs", {})
    fields = of_model | arguments
    return HuggingFacePipeline.from_model_id(task=task, pipeline_kwargs=settings, model_kwargs=model_kwargs, **fields)


def own_pipeline(family: str = "gpt2", **settings: Any) -> Any:
    """A transformers pipeline of the user's own."""
    folder = language_models.folder(family)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return pipeline("text-generation", model=model, tokenizer=tokenizer, **settings)


def stop_inside(text: str) -> str:
    """Three characters from the middle of a text, which no single token holds."""
    return text[6:9]


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves time to interrupt even a tiny model."""
    openvino_models.slow_down(monkeypatch)


# The page "Hugging Face Local Pipelines".


def test_a_model_by_its_name() -> None:
    """The first block of the page."""
    llm = HuggingFacePipeline.from_model_id(
        model_id=str(language_models.folder("gpt2")), task="text-generation", pipeline_kwargs={"max_new_tokens": 10}
    )
    assert llm.get_num_tokens(PROMPT + llm.invoke(PROMPT)) > llm.get_num_tokens(PROMPT)


def test_a_model_from_the_hugging_face_cache_by_its_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gpt2`, as everybody writes it, once the cache holds it."""
    snapshots = tmp_path / "models--gpt2" / "snapshots"
    language_models.copy("gpt2", snapshots / "0123456789abcdef0123456789abcdef01234567")
    (tmp_path / "models--gpt2" / "refs").mkdir()
    (tmp_path / "models--gpt2" / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    llm = HuggingFacePipeline.from_model_id("gpt2", task="text-generation", pipeline_kwargs={"max_new_tokens": 4})
    assert llm.invoke(PROMPT) == hf("gpt2", pipeline_kwargs={"max_new_tokens": 4}).invoke(PROMPT)


def test_a_model_that_is_not_here_names_the_command() -> None:
    """It is never downloaded."""
    with pytest.raises(ModelNotFoundError, match="localhf pull gpt2"):
        HuggingFacePipeline.from_model_id("gpt2", task="text-generation")


def test_a_pipeline_of_ones_own() -> None:
    """The second block: its model, its tokenizer and its settings."""
    llm = HuggingFacePipeline(pipeline=own_pipeline(max_new_tokens=10))
    assert llm.invoke(PROMPT) == hf("gpt2", pipeline_kwargs={"max_new_tokens": 10}).invoke(PROMPT)
    assert llm.model_id == str(language_models.folder("gpt2"))


def test_settings_of_the_class_win_over_those_of_the_pipeline() -> None:
    """Which upstream ignores."""
    llm = HuggingFacePipeline(pipeline=own_pipeline(max_new_tokens=10), pipeline_kwargs={"max_new_tokens": 3})
    assert llm.generate([PROMPT]).generations[0][0].generation_info["completion_tokens"] == 3  # type: ignore[index]


@each_engine
def test_a_chain() -> None:
    """`prompt | hf`, and with a parser behind it."""
    prompt = PromptTemplate.from_template("Question: {question}\n\nAnswer:")
    llm = hf()
    chain = prompt | llm
    expected = llm.invoke("Question: What?\n\nAnswer:")
    assert chain.invoke({"question": "What?"}) == expected
    assert (chain | StrOutputParser()).invoke({"question": "What?"}) == expected


@each_engine
def test_the_prompt_is_echoed_on_demand_only() -> None:
    """`return_full_text` and `skip_prompt` are one switch, in every way of asking."""
    llm, answer = hf(), hf().invoke(PROMPT)
    assert not answer.startswith(PROMPT)
    for settings in (
        {"return_full_text": True},
        {"skip_prompt": False},
        {"pipeline_kwargs": {"return_full_text": True}},
    ):
        assert llm.invoke(PROMPT, **settings) == PROMPT + answer
        assert "".join(llm.stream(PROMPT, **settings)) == PROMPT + answer
    assert llm.bind(skip_prompt=True).invoke(PROMPT) == answer


@each_engine
@pytest.mark.parametrize("device", [-1, "cpu", None])
def test_devices_of_every_machine(device: int | str | None) -> None:
    """All of these are the CPU here."""
    assert hf(device=device).invoke(PROMPT) == hf().invoke(PROMPT)


@each_engine
def test_a_device_that_is_not_here() -> None:
    """The page's `device=0`, on a machine without a GPU."""
    import torch  # noqa: PLC0415

    if torch.accelerator.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceUnavailableError):
        hf(device=0)


@each_engine
def test_a_device_and_a_map_of_devices_contradict_each_other() -> None:
    """The page's note on `device_map`."""
    with pytest.raises(InputError, match="device_map"):
        hf(device=-1, device_map="auto")


def test_old_settings_and_a_bound_stop_over_a_batch_of_four() -> None:
    """The page's block on batches: generation settings among the model's, and a stop string that is no token."""
    llm = HuggingFacePipeline.from_model_id(
        model_id=str(language_models.folder("gpt2")),
        task="text-generation",
        batch_size=2,
        model_kwargs={"temperature": 0, "max_length": 64},
    )
    prompt = PromptTemplate.from_template("Question: {question}\n\nAnswer:")
    questions = [{"question": f"What is the number {i} in french?"} for i in range(4)]
    free = (prompt | llm).batch(questions)
    chain = prompt | llm.bind(stop=["\n\n", stop_inside(free[0])])
    texts = chain.batch(questions)
    assert texts[0] == free[0][: free[0].index(stop_inside(free[0]))]
    for (answer,) in llm.generate([prompt.format(**question) for question in questions]).generations:
        assert answer.generation_info is not None
        assert answer.generation_info["prompt_tokens"] + answer.generation_info["completion_tokens"] == 64


@pytest.mark.parametrize("task", ["text2text-generation", "summarization", "translation"])
def test_tasks_that_transformers_no_longer_has(task: str) -> None:
    """T5 and its like answer in a text of their own."""
    llm = hf("t5", task)
    assert llm.invoke(PROMPT) == "".join(llm.stream(PROMPT))
    assert llm.batch([PROMPT, "a"]) == [llm.invoke(PROMPT), llm.invoke("a")]
    with pytest.raises(InputError, match="does not continue its prompt"):
        llm.invoke(PROMPT, return_full_text=True)


def test_a_vision_language_model_answers_texts_too() -> None:
    """Its task is among upstream's; images come in messages, to the chat model."""
    folder = str(language_models.vision_folder())
    llm = HuggingFacePipeline.from_model_id(folder, "image-text-to-text", pipeline_kwargs={"max_new_tokens": 5})
    assert llm.invoke(PROMPT) == "".join(llm.stream(PROMPT))


# Stop strings and streams.


@each_engine
def test_a_stop_string_means_the_same_everywhere() -> None:
    """It ends the text in invoke, batch, stream and their async twins, wherever it was stated."""
    llm = hf()
    text = llm.invoke(PROMPT)
    stop = [stop_inside(text)]
    expected = text[: text.index(stop[0])]
    assert llm.invoke(PROMPT, stop=stop) == expected
    assert llm.bind(stop=stop).invoke(PROMPT) == expected
    assert llm.batch([PROMPT, PROMPT], stop=stop) == [expected] * 2
    assert "".join(llm.stream(PROMPT, stop=stop)) == expected
    assert hf(pipeline_kwargs={"stop_strings": stop}).invoke(PROMPT) == expected
    assert asyncio.run(llm.ainvoke(PROMPT, stop=stop)) == expected
    assert asyncio.run(llm.abatch([PROMPT, "a"], stop=stop))[0] == expected

    async def streamed() -> list[str]:
        return [piece async for piece in llm.astream(PROMPT, stop=stop)]

    assert "".join(asyncio.run(streamed())) == expected


@each_engine
def test_a_stop_string_ends_the_generation_itself() -> None:
    """Nothing is generated behind it."""
    llm = hf(pipeline_kwargs={"max_new_tokens": 200})
    text = llm.invoke(PROMPT)
    info = llm.generate([PROMPT], stop=[stop_inside(text)]).generations[0][0].generation_info
    assert info is not None
    assert info["finish_reason"] == "stop"
    assert info["completion_tokens"] < 20


@each_engine
def test_a_stop_string_is_sought_in_the_answer_only() -> None:
    """One that the prompt ends with, or that begins in it, ends nothing."""
    llm = hf()
    text = llm.invoke(PROMPT)
    assert llm.invoke(PROMPT, stop=[PROMPT[-3:], PROMPT[-1] + text[0]]) in {text, ""[:0] or text}


@each_engine
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_streamed_text_is_the_returned_text(family: str) -> None:
    """Piece by piece, none of them empty, none of them the whole."""
    llm = hf(family)
    pieces = list(llm.stream(PROMPT))
    assert "".join(pieces) == llm.invoke(PROMPT)
    assert all(pieces)
    assert len(pieces) > 3


@each_engine
def test_callbacks_hear_each_token() -> None:
    """As LangChain's own models tell them."""
    heard: list[str] = []

    class Listener(BaseCallbackHandler):
        def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
            heard.append(token)

    pieces = list(hf().stream(PROMPT, config={"callbacks": [Listener()]}))
    assert heard == pieces


@each_engine
@pytest.mark.usefixtures("unhurried")
def test_the_first_piece_comes_before_the_last_is_generated() -> None:
    """A stream is one."""
    llm = hf(pipeline_kwargs={"max_new_tokens": 300})
    started = time.monotonic()
    pieces = llm.stream(PROMPT)
    next(pieces)
    first = time.monotonic() - started
    for _ in pieces:
        pass
    assert first < (time.monotonic() - started) / 3


# Errors and ends.


def is_working() -> bool:
    """Whether any answer is being generated."""
    return any(thread.name == "localhf-generation" for thread in threading.enumerate())


def assert_stops_working() -> None:
    """Within a second, nothing is generated any more."""
    started = time.monotonic()
    while is_working():
        assert time.monotonic() - started < 1, "still generating"
        time.sleep(0.01)


@each_engine
@pytest.mark.usefixtures("unhurried")
def test_closing_a_stream_stops_the_generation() -> None:
    """The processor is free again at once."""
    pieces = hf(pipeline_kwargs={"max_new_tokens": 450}).stream(PROMPT)
    next(pieces)
    assert is_working()
    pieces.close()  # type: ignore[attr-defined]
    assert_stops_working()


@each_engine
@pytest.mark.usefixtures("unhurried")
async def test_cancelling_a_task_stops_the_generation() -> None:
    """For a single answer, a batch and a stream."""
    llm = hf(pipeline_kwargs={"max_new_tokens": 450})
    assert_stops_working()  # of the test before

    async def read() -> None:
        async for _ in llm.astream(PROMPT):
            pass

    for work in (llm.ainvoke(PROMPT), llm.abatch([PROMPT, "a"]), read()):
        task = asyncio.ensure_future(work)
        while not is_working():  # noqa: ASYNC110 - a thread says nothing when it starts
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(assert_stops_working)


@each_engine
@pytest.mark.usefixtures("unhurried")
@pytest.mark.skipif(os.name == "nt", reason="Windows delivers Ctrl-C to the whole console")
def test_ctrl_c_stops_the_generation() -> None:
    """The user gets the prompt back, and the processor too."""
    llm = hf(pipeline_kwargs={"max_new_tokens": 450})
    assert_stops_working()  # of the test before

    def interrupt() -> None:
        while not is_working():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        llm.batch([PROMPT] * 8)
    assert_stops_working()
    assert llm.invoke(PROMPT, max_new_tokens=3)


@each_engine
@pytest.mark.usefixtures("unhurried")
async def test_the_event_loop_goes_on_while_a_model_runs() -> None:
    """Nothing blocks it."""
    llm, ticks = hf(pipeline_kwargs={"max_new_tokens": 400}), 0
    task = asyncio.ensure_future(llm.ainvoke(PROMPT))
    while not task.done():
        await asyncio.sleep(0.005)
        ticks += 1
    assert ticks > 5


@each_engine
def test_one_bad_prompt_fails_alone() -> None:
    """With `return_exceptions`, as LangChain promises."""
    llm = hf()
    good, bad = PROMPT, "word " * 600
    answers = llm.batch([good, bad, "a"], return_exceptions=True)
    assert answers[0] == llm.invoke(good)
    assert isinstance(answers[1], InputError)
    assert answers[2] == llm.invoke("a")
    assert [type(answer) for answer in asyncio.run(llm.abatch([good, bad], return_exceptions=True))] == [
        str,
        InputError,
    ]
    with pytest.raises(InputError, match="prompt 1"):
        llm.batch([good, bad, "a"])


@each_engine
def test_an_empty_prompt_among_others() -> None:
    """Which upstream fails on."""
    llm = hf("gpt2")
    assert llm.batch(["", "The"]) == [llm.invoke(""), llm.invoke("The")]


# The context window.


@each_engine
def test_a_prompt_that_is_too_long_names_both_lengths() -> None:
    """And the way out, which works."""
    llm = hf()
    text = "word " * 600
    length = llm.get_num_tokens(text)
    with pytest.raises(InputError, match=rf"{length:,} tokens.* 512"):
        llm.invoke(text)
    assert llm.invoke(text, truncate="left")
    assert llm.invoke(text, truncate="left") != llm.invoke(PROMPT)


@each_engine
def test_the_default_length_fits_the_window() -> None:
    """A prompt just below the window gets what room there is."""
    llm = HuggingFacePipeline.from_model_id(str(language_models.folder("gpt2")), "text-generation")
    text = "The quick brown fox " * 40
    room = language_models.CONTEXT - llm.get_num_tokens(text)
    assert 0 < room < 256
    info = llm.generate([text], eos_token_id=[]).generations[0][0].generation_info
    assert info is not None
    assert info["completion_tokens"] == room


# Settings.


@each_engine
def test_a_misspelt_setting_is_refused_with_the_right_name() -> None:
    """In a call, in a binding and in the constructor."""
    llm = hf()
    with pytest.raises(InputError, match="did you mean max_new_tokens"):
        llm.invoke(PROMPT, max_new_token=3)
    with pytest.raises(InputError, match="did you mean temperature"):
        llm.bind(temprature=0.1).invoke(PROMPT)
    with pytest.raises(InputError, match="did you mean repetition_penalty"):
        hf(pipeline_kwargs={"repetition_penality": 2.0})


@each_engine
def test_settings_of_a_call_win() -> None:
    """Over those of the constructor, in every form that upstream takes."""
    llm = hf()
    for settings in ({"max_new_tokens": 2}, {"max_tokens": 2}, {"pipeline_kwargs": {"max_new_tokens": 2}}):
        info = llm.generate([PROMPT], **settings).generations[0][0].generation_info
        assert info is not None
        assert info["completion_tokens"] == 2


@each_engine
def test_several_answers_to_one_prompt() -> None:
    """`n`, and transformers' own name for it."""
    llm = hf(pipeline_kwargs={"seed": 1, "temperature": 1.0})
    for name in ("n", "num_return_sequences"):
        (answers,) = llm.generate([PROMPT], **{name: 3}).generations
        assert len({answer.text for answer in answers}) == 3
    with pytest.raises(InputError, match="stream is one answer"):
        list(llm.stream(PROMPT, n=2))


@each_engine
def test_answers_say_what_they_cost() -> None:
    """Tokens, why the text ends, and how probable it is."""
    llm = hf()
    result: LLMResult = llm.generate([PROMPT, "a"], logprobs=2)
    info = result.generations[0][0].generation_info
    assert info is not None
    assert info["finish_reason"] == "length"
    assert info["completion_tokens"] == len(info["logprobs"]) == 16
    assert max(info["logprobs"][0]["top_logprobs"].values()) == info["logprobs"][0]["logprob"]
    assert result.llm_output is not None
    usage = result.llm_output["token_usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + 32
    assert result.llm_output["model_name"] == llm.model_id


@each_engine
def test_the_cache_tells_calls_apart() -> None:
    """The same prompt with another setting is another question."""
    llm = hf(cache=InMemoryCache())
    short, long = llm.invoke(PROMPT, max_new_tokens=2), llm.invoke(PROMPT, max_new_tokens=9)
    assert long.startswith(short)
    assert long != short
    heard: list[LLMResult] = []

    class Listener(BaseCallbackHandler):
        def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
            heard.append(response)

    assert llm.invoke(PROMPT, max_new_tokens=2, config={"callbacks": [Listener()]}) == short
    assert heard == []  # the cache answered
    assert asyncio.run(llm.ainvoke(PROMPT, max_new_tokens=9)) == long


@each_engine
def test_tokens_are_counted_by_the_model_s_own_tokenizer() -> None:
    """Offline, where upstream counts none at all."""
    tokenizer = AutoTokenizer.from_pretrained(language_models.folder("llama"))
    assert hf().get_token_ids("Größe 東京") == tokenizer("Größe 東京", add_special_tokens=False)["input_ids"]


@each_engine
def test_nothing_of_the_model_shows_in_a_repr() -> None:
    """Notebooks print objects; a pipeline would print for pages."""
    assert "Pipeline object" not in repr(HuggingFacePipeline(pipeline=own_pipeline()))


def test_a_model_of_another_task_is_refused() -> None:
    """With the task that it is for."""
    with pytest.raises(UnsupportedModelError, match="text2text-generation"):
        hf("t5")


@each_engine
def test_another_task_than_the_model_s_is_refused() -> None:
    """With the right one."""
    with pytest.raises(UnsupportedModelError, match="text-generation"):
        hf("gpt2", "summarization")


@each_engine
def test_streams_of_full_text_begin_with_the_prompt() -> None:
    """As one piece."""
    chunk: GenerationChunk
    llm = hf()
    first = next(iter(llm.stream(PROMPT, return_full_text=True)))
    assert first == PROMPT
    chunk = next(iter(llm._stream(PROMPT)))
    assert chunk.text


def test_a_call_without_a_model_says_what_to_pass() -> None:
    """Upstream takes gpt2 in silence, and fails when it is called."""
    with pytest.raises(InputError, match="model_id"):
        HuggingFacePipeline()


@each_engine
def test_objects_with_equal_settings_share_the_model() -> None:
    """So do their copies; a pickled one loads it again, and finds the same."""
    llm = hf()
    for other in (
        hf(pipeline_kwargs={"max_new_tokens": 3}),
        copy.deepcopy(llm),
        llm.model_copy(),
        pickle.loads(pickle.dumps(llm)),
    ):
        assert other.generator is llm.generator
    assert hf(batch_size=2).generator is not llm.generator

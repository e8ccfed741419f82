"""Every deliberate difference of `HuggingFacePipeline` and `ChatHuggingFace`, shown on both sides."""

from __future__ import annotations

import inspect
import json
import pickle
from typing import TYPE_CHECKING, Any

import langchain_huggingface
import pytest
from langchain_huggingface import HuggingFaceEndpoint
from support import language_models
from support.pipelines import ours, theirs, transformers_pipeline, watch_generate
from support.tables import Table
from transformers import AutoTokenizer

import langchain_localhf
from langchain_localhf import ChatHuggingFace, HuggingFacePipeline
from langchain_localhf.errors import InputError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

# Upstream's chat model imports it to look whether it was given something of it.
pytestmark = pytest.mark.filterwarnings("ignore:.langchain-community. is being sunset:DeprecationWarning")
TABLE = Table("differences.md", "HuggingFacePipeline and ChatHuggingFace")
PROMPT = "The quick"
BARE = {"max_new_tokens": 16}


def bare(package: Any, folder: Path | None = None, **settings: Any) -> Any:
    """A model with no setting but a length, in either package."""
    model = str(folder or language_models.folder("llama"))
    return package.HuggingFacePipeline.from_model_id(model, "text-generation", pipeline_kwargs=BARE | settings)


def our_chat(**fields: Any) -> ChatHuggingFace:
    """A tiny model that chats, in this package."""
    return ChatHuggingFace(llm=ours("qwen2"), **fields)


def their_chat(**fields: Any) -> langchain_huggingface.ChatHuggingFace:
    """The same in langchain-huggingface."""
    return langchain_huggingface.ChatHuggingFace(llm=theirs("qwen2"), **fields)


def answers(llm: Any, **settings: Any) -> set[str]:
    """What it answers when it is asked four times."""
    return {llm.invoke(PROMPT, **settings) for _ in range(4)}


def token_count(text: str) -> int:
    """The tokens of a text, as the tiny models count them."""
    return len(AutoTokenizer.from_pretrained(language_models.folder("llama"))(text)["input_ids"])


def test_each_row_has_one_test() -> None:
    """The page and this module list the same differences, in the same order, each once."""
    TABLE.check()


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_same_text(family: str) -> None:
    """What does not differ: the same settings give the same text."""
    assert theirs(family).invoke(PROMPT) == ours(family).invoke(PROMPT, return_full_text=True)


@TABLE.row("the answer of `invoke`")
def test_prompt() -> None:
    """There it depends on `return_full_text` too, but the other way round."""
    there, here = theirs(), ours()
    assert there.invoke(PROMPT) == PROMPT + here.invoke(PROMPT)
    assert theirs(pipeline_kwargs={"return_full_text": False}).invoke(PROMPT) == here.invoke(PROMPT)


@TABLE.row("chance, if nothing is said")
def test_chance(tmp_path: Path) -> None:
    """The checkpoint says it in its generation_config.json."""
    folder = language_models.copy("llama", tmp_path / "llama")
    config = json.loads((folder / "generation_config.json").read_text()) | {"do_sample": True, "temperature": 1.5}
    (folder / "generation_config.json").write_text(json.dumps(config))
    assert len(answers(bare(langchain_huggingface))) > 1
    assert len(answers(bare(langchain_localhf))) == 1
    assert len(answers(bare(langchain_localhf, folder))) > 1


@TABLE.row("settings for sampling without `do_sample`")
def test_sampling() -> None:
    """Where sampling was switched off before, there they do nothing."""
    switched_off = {"do_sample": False}
    there, here = bare(langchain_huggingface, **switched_off), bare(langchain_localhf, **switched_off)
    assert len(answers(there, pipeline_kwargs={"temperature": 1.5} | switched_off)) == 1
    for setting in ({"temperature": 1.5}, {"top_k": 40}, {"top_p": 0.9}):
        assert len(answers(here, pipeline_kwargs=setting)) > 1
    assert len(answers(bare(langchain_localhf, temperature=1.5), temperature=0)) == 1


@TABLE.row("`model_id`, if it is not named")
def test_no_model() -> None:
    """There an object without a model says that it is GPT-2."""
    there = langchain_huggingface.HuggingFacePipeline()
    assert there.model_id == "gpt2"
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        there.invoke(PROMPT)
    with pytest.raises(InputError, match="no model was named"):
        HuggingFacePipeline()


@TABLE.row("an unknown name in `pipeline_kwargs`")
def test_unknown_setting() -> None:
    """There it takes a call."""
    misspelt = {"repetition_penality": 1.2}
    there = theirs(pipeline_kwargs=misspelt)
    with pytest.raises(ValueError, match="repetition_penality"):
        there.invoke(PROMPT)
    with pytest.raises(InputError, match="did you mean repetition_penalty"):
        ours(pipeline_kwargs=misspelt)


@TABLE.row("`pipeline_kwargs` beside a pipeline of one's own")
def test_settings_beside_a_pipeline() -> None:
    """There the pipeline writes its 16 tokens."""
    pipe, settings = transformers_pipeline(), {"max_new_tokens": 3}
    there = langchain_huggingface.HuggingFacePipeline(pipeline=pipe, pipeline_kwargs=settings)
    here = HuggingFacePipeline(pipeline=pipe, pipeline_kwargs=settings)
    assert there.invoke(PROMPT) == theirs().invoke(PROMPT)
    assert here.invoke(PROMPT) == ours(pipeline_kwargs=settings).invoke(PROMPT)


@TABLE.row("`pipeline`, of a model that was named")
def test_pipeline() -> None:
    """One's own stays where it was put."""
    assert theirs().pipeline.task == "text-generation"
    assert ours().pipeline is None
    assert ours().generator.model_type == "llama"
    pipe = transformers_pipeline()
    assert HuggingFacePipeline(pipeline=pipe).pipeline is pipe


@TABLE.row("`batch_size`, if it is not set")
def test_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither changes an answer."""
    calls = watch_generate(monkeypatch)
    short, long = ["a"] * 70, ["word " * 100] * 50
    theirs(pipeline_kwargs={"max_new_tokens": 1}).batch(short)
    assert {len(rows) for rows in calls[:-1]} == {4}
    calls.clear()
    here = ours(pipeline_kwargs={"max_new_tokens": 1})
    here.batch(short)
    assert [len(rows) for rows in calls] == [64, 6]
    calls.clear()
    here.batch(long)
    assert [len(rows) for rows in calls] == [row := 16_384 // (len(calls[0][0]) + 1), 50 - row]


@TABLE.row("stop strings in several places")
def test_stop_strings() -> None:
    """There those of a chat model are ignored, and those of a pipeline are transformers' own."""
    plain = our_chat().invoke("Hello").text
    first, second = plain[3:5], plain[5:7]
    before = plain[: min(plain.index(first), plain.index(second))]
    there, here = their_chat(stop=[second]), our_chat(stop=[second])
    assert there.invoke("Hello", stop=[first]).text == their_chat().invoke("Hello").text
    assert here.invoke("Hello", stop=[first]).text == before
    assert here.invoke("Hello", stop=["never written"]).text == plain[: plain.index(second)]


@TABLE.row("`max_new_tokens` beyond the context window")
def test_end_of_the_window() -> None:
    """There a model with relative positions goes on, and GPT-2 fails."""
    settings, prompt = {"max_new_tokens": 100}, "The quick brown fox " * 65
    room = language_models.CONTEXT - token_count(prompt)
    assert 0 < room < 100
    ids = theirs(pipeline_kwargs=settings).pipeline(prompt, return_tensors=True)[0]["generated_token_ids"]
    assert len(ids) > language_models.CONTEXT
    with pytest.raises(IndexError):
        theirs("gpt2", pipeline_kwargs=settings).invoke(prompt)
    for family in ("llama", "gpt2"):
        info = ours(family, pipeline_kwargs=settings).generate([prompt]).generations[0][0].generation_info
        assert info is not None
        assert info["completion_tokens"] == room


@TABLE.row("`max_length` beside `max_new_tokens`")
def test_max_length() -> None:
    """There transformers says so in its log."""
    settings = {"max_length": 10}
    assert theirs(pipeline_kwargs=settings).invoke(PROMPT) == theirs().invoke(PROMPT)
    info = ours(pipeline_kwargs=settings).generate([PROMPT]).generations[0][0].generation_info
    assert info is not None
    assert info["prompt_tokens"] + info["completion_tokens"] == 10


@TABLE.row("two objects with equal settings")
def test_shared_model() -> None:
    """Settings for generating may differ."""
    assert theirs().pipeline.model is not theirs().pipeline.model
    first, second = ours(), ours(pipeline_kwargs={"max_new_tokens": 3})
    assert first.generator is second.generator


@TABLE.row("a pickle of the object")
def test_pickled_object() -> None:
    """There it is as large as the model."""
    weights = (language_models.folder("llama") / "model.safetensors").stat().st_size
    there, here = (len(pickle.dumps(llm)) for llm in (theirs(), ours()))
    assert there > weights > 10 * here


@TABLE.row('`backend="ipex"`')
def test_ipex() -> None:
    """A warning is an error here, so that the second line says it all."""
    with pytest.warns(UserWarning, match="ipex"):
        theirs(backend="ipex")
    assert ours(backend="ipex").invoke(PROMPT) == ours().invoke(PROMPT)


@TABLE.row("the `llm` of a chat model")
def test_llm_of_a_chat_model() -> None:
    """Neither takes the other's."""
    with pytest.raises(TypeError, match="Expected llm to be one of"):
        langchain_huggingface.ChatHuggingFace(llm=ours("qwen2"))
    for other in (theirs("qwen2"), HuggingFaceEndpoint.model_construct()):
        with pytest.raises(InputError, match="HuggingFacePipeline of langchain_localhf"):
            ChatHuggingFace(llm=other)


@TABLE.row('`backend="endpoint"` and `"text-gen"` of a chat model')
def test_servers() -> None:
    """There they are among the backends."""
    backends = inspect.signature(langchain_huggingface.ChatHuggingFace.from_model_id).parameters["backend"]
    for backend in ("endpoint", "text-gen"):
        assert backend in str(backends.annotation)
        with pytest.raises(InputError, match="langchain_huggingface"):
            ChatHuggingFace.from_model_id(str(language_models.folder("qwen2")), backend=backend)


@TABLE.row("a model without a chat template")
def test_no_chat_template() -> None:
    """There it takes a call."""
    there = langchain_huggingface.ChatHuggingFace(llm=theirs("gpt2"))
    with pytest.raises(ValueError, match="chat_template is not set"):
        there.invoke("Hello")
    with pytest.raises(UnsupportedModelError, match="no chat template"):
        ChatHuggingFace(llm=ours("gpt2"))


@TABLE.row("what a chat model thinks before it answers")
def test_reasoning() -> None:
    """With a template that begins to think for the model, which never comes to an end with it here."""
    thinking = language_models.CHAT_TEMPLATE + "{%- if add_generation_prompt %}{{- '<think>' }}{%- endif %}"
    pipe = transformers_pipeline("qwen2")
    pipe.tokenizer.chat_template = thinking
    there = langchain_huggingface.ChatHuggingFace(
        llm=langchain_huggingface.HuggingFacePipeline(pipeline=pipe), tokenizer=pipe.tokenizer
    )
    prompt, thought = there.invoke("Hello").text.split("<think>", 1)
    answer = ChatHuggingFace(llm=HuggingFacePipeline(pipeline=pipe)).invoke("Hello")
    assert prompt
    assert (answer.text, answer.additional_kwargs["reasoning_content"]) == ("", thought)


@TABLE.row("`tokenizer` of a chat model")
def test_tokenizer() -> None:
    """The model's own is welcome, and changes nothing."""
    own, other = (AutoTokenizer.from_pretrained(language_models.folder("qwen2")) for _ in range(2))
    other.chat_template = "{{ messages[0].content }}"
    assert their_chat(tokenizer=other).invoke("Hello").text.startswith("Hello")
    with pytest.raises(InputError, match="not the tokenizer that the model came with"):
        our_chat(tokenizer=other)
    assert our_chat(tokenizer=own).invoke("Hello").text == our_chat().invoke("Hello").text


@TABLE.row("an unknown field of a chat model")
def test_unknown_field() -> None:
    """There nobody hears of it again."""
    misspelt: dict[str, Any] = {"max_token": 3}
    assert not hasattr(their_chat(**misspelt), "max_token")
    with pytest.raises(InputError, match="did you mean max_tokens"):
        our_chat(**misspelt)


@TABLE.row("`presence_penalty`, `frequency_penalty` and `logit_bias`")
def test_settings_of_servers() -> None:
    """There the answer is the same with them."""
    settings: dict[str, Any] = {"presence_penalty": 2.0, "frequency_penalty": 2.0, "logit_bias": {1: 100}}
    assert their_chat(**settings).invoke("Hello").text == their_chat().invoke("Hello").text
    for name, value in ({**settings, "logit_bias": {"1": 100}}).items():
        with pytest.raises(InputError, match=f"{name} is no setting of this model's engine"):
            our_chat(**{name: value})


@TABLE.row("`tool_choice` with several tools")
def test_tool_choice() -> None:
    """The model gets the choice, or a name."""
    tools = [
        {"name": name, "description": name, "parameters": {"type": "object", "properties": {}}}
        for name in ("add", "subtract")
    ]
    with pytest.raises(ValueError, match="exactly one tool"):
        their_chat().bind_tools(tools, tool_choice="subtract")
    here = our_chat(max_tokens=60)
    for choice, names in (("subtract", {"subtract"}), ("any", {"add", "subtract"})):
        called = {call["name"] for call in here.bind_tools(tools, tool_choice=choice).invoke("Hello").tool_calls}
        assert called
        assert called <= names


@TABLE.row("the `method` of `with_structured_output`, if it is not named")
def test_default_method() -> None:
    """Both know three."""
    defaults = [
        inspect.signature(package.ChatHuggingFace.with_structured_output).parameters["method"].default
        for package in (langchain_huggingface, langchain_localhf)
    ]
    assert defaults == ["function_calling", "json_schema"]

"""Chatting with a model on this machine: one answer for every way to ask, and what is known about it."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langchain_core.runnables import ConfigurableField
from PIL import Image
from support import language_models
from support.generators import ENGINES, model_settings
from transformers import AutoTokenizer, pipeline

from langchain_localhf.chat_models import ChatHuggingFace
from langchain_localhf.errors import InputError, LocalHFError, NetworkRefusedError, UnsupportedModelError
from langchain_localhf.llms import HuggingFacePipeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.messages import BaseMessage

# Refuses what the templates of Gemma and of old models refuse.
STRICT_TEMPLATE = """\
{%- for message in messages %}
{%- if message.role == 'system' %}{{- raise_exception('System role not supported') }}{%- endif %}
{%- if message.role == 'nobody' %}{{- raise_exception('Nobody may not speak') }}{%- endif %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('roles must alternate') }}{%- endif %}
{{- message.role + ': ' + message.content + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'assistant:' }}{%- endif %}"""


@pytest.fixture(scope="module", params=ENGINES)
def llm(request: pytest.FixtureRequest) -> HuggingFacePipeline:
    """A tiny model that chats, on each engine; its weights are random, so it writes noise, always the same."""
    return HuggingFacePipeline(**model_settings(request.param, "qwen2"))


@pytest.fixture
def chat(llm: HuggingFacePipeline) -> ChatHuggingFace:
    """A chat with short answers."""
    return ChatHuggingFace(llm=llm, max_tokens=12)


def total(chunks: Iterable[AIMessageChunk]) -> AIMessageChunk:
    """The chunks as one, after a look at the form of each."""
    first, *rest = chunks
    for chunk in (first, *rest)[:-1]:
        assert chunk.content or chunk.additional_kwargs or chunk.tool_call_chunks
        assert chunk.usage_metadata is None
        assert chunk.chunk_position is None
    whole = first
    for chunk in rest:
        whole = whole + chunk
    assert whole.chunk_position == "last"
    return whole


def same(whole: AIMessageChunk, message: AIMessage) -> None:
    """Whether a stream gave what `invoke` gave."""
    for name in ("content", "additional_kwargs", "response_metadata", "usage_metadata"):
        assert getattr(whole, name) == getattr(message, name), name


def test_a_stream_gives_what_invoke_gives_piece_by_piece(chat: ChatHuggingFace) -> None:
    """Only the last piece is empty; it carries what is known about the whole."""
    message = chat.invoke("Hello")
    chunks = list(chat.stream("Hello"))
    assert len(chunks) > 3
    same(total(chunks), message)
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 12
    assert message.response_metadata["finish_reason"] == "length"
    assert message.response_metadata["model_name"] == chat.llm.model_id


async def test_async_answers_are_the_same(chat: ChatHuggingFace) -> None:
    """Whole and in pieces."""
    message = chat.invoke("Hello")
    assert (await chat.ainvoke("Hello")).content == message.content
    same(total([chunk async for chunk in chat.astream("Hello")]), message)


def test_invoke_streams_where_it_is_asked_to(llm: HuggingFacePipeline, chat: ChatHuggingFace) -> None:
    """With `streaming`, callbacks get every piece of an answer that comes whole."""
    pieces: list[str] = []

    class Listening(BaseCallbackHandler):
        def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
            pieces.append(token)

    streaming = ChatHuggingFace(llm=llm, max_tokens=12, streaming=True)
    message = streaming.invoke("Hello", config={"callbacks": [Listening()]})
    assert len(pieces) > 3
    assert "".join(pieces) == message.content == chat.invoke("Hello").content


def test_a_stream_can_keep_the_count_of_tokens_to_itself(llm: HuggingFacePipeline) -> None:
    """As with langchain-huggingface."""
    silent = ChatHuggingFace(llm=llm, max_tokens=3, stream_usage=False)
    assert total(silent.stream("Hello")).usage_metadata is None
    assert total(silent.stream("Hello", stream_usage=True)).usage_metadata is not None


def test_a_batch_gives_what_each_conversation_gives_alone(chat: ChatHuggingFace) -> None:
    """In its order."""
    questions = ["Hello", "What is the weather in Paris today?", "a", "The ships sail out"]
    alone = [chat.invoke(question).content for question in questions]
    assert [message.content for message in chat.batch(questions)] == alone
    completed = dict(chat.batch_as_completed(questions))
    assert [completed[index].content for index in range(4)] == alone
    assert len(set(alone)) == 4


async def test_an_async_batch_is_the_same(chat: ChatHuggingFace) -> None:
    """In its order."""
    questions = ["Hello", "What is the weather in Paris today?", "a"]
    expected = [chat.invoke(question).content for question in questions]
    assert [message.content for message in await chat.abatch(questions)] == expected


def test_one_conversation_that_fails_does_not_fail_the_others(chat: ChatHuggingFace) -> None:
    """With `return_exceptions`."""
    first, second, third = chat.batch(["Hello", "x " * 1000, "Hello"], return_exceptions=True)
    assert isinstance(second, InputError)
    assert first.content == third.content == chat.invoke("Hello").content


def test_the_tokens_of_a_prompt_are_counted_exactly(chat: ChatHuggingFace) -> None:
    """Those of the template and of tools as well; without a download."""
    messages = [SystemMessage("Be brief."), HumanMessage("Hello")]
    usage = chat.invoke(messages).usage_metadata
    assert usage is not None
    assert usage["input_tokens"] == chat.get_num_tokens_from_messages(messages)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert chat.get_num_tokens("Hello") == len(chat.get_token_ids("Hello")) < usage["input_tokens"]

    own = ChatHuggingFace(llm=chat.llm, custom_get_token_ids=lambda text: list(range(len(text))))
    assert own.get_num_tokens("Hello") == 5

    tool = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
    with_tool = chat.bind_tools([tool]).invoke(messages)
    assert with_tool.usage_metadata["input_tokens"] == chat.get_num_tokens_from_messages(messages, tools=[tool])


def test_the_tokens_of_a_part_of_a_conversation_are_counted_too(llm: HuggingFacePipeline) -> None:
    """As trimming needs it, whatever the template thinks of a conversation that begins with an answer."""
    chat = ChatHuggingFace(llm=llm, chat_template_kwargs={"chat_template": STRICT_TEMPLATE})
    assert chat.get_num_tokens_from_messages([AIMessage("Hello")]) >= chat.get_num_tokens("Hello")
    assert chat.get_num_tokens_from_messages([]) == 0
    assert chat.get_num_tokens_from_messages([ChatMessage("Hello", role="nobody")] * 2) > chat.get_num_tokens("Hello")
    long = [AIMessage("Hello"), HumanMessage("What is the weather in Paris today?"), AIMessage("It is sunny.")]
    enough = chat.get_num_tokens_from_messages(long[1:])
    kept = trim_messages(long, max_tokens=enough, token_counter=chat, strategy="last")
    assert kept in (long[1:], long[2:])


def test_an_answer_ends_before_a_stop_string(chat: ChatHuggingFace) -> None:
    """That of the chat, of the call, and both."""
    text = str(chat.invoke("Hello").content)
    stop = text[4:6]
    before = text[: text.index(stop)]
    answer = chat.invoke("Hello", stop=[stop])
    assert (answer.content, answer.response_metadata["finish_reason"]) == (before, "stop")
    stopping = ChatHuggingFace(llm=chat.llm, max_tokens=12, stop=stop)
    assert stopping.invoke("Hello", stop=["never written"]).content == before
    assert total(stopping.stream("Hello")).content == before
    assert ChatHuggingFace(llm=chat.llm, max_tokens=12, stop_sequences=[stop]).invoke("Hello").content == before


def test_later_settings_win(llm: HuggingFacePipeline) -> None:
    """Pipeline, `model_kwargs`, field, call."""
    limited = HuggingFacePipeline.from_model_id(
        str(language_models.folder("qwen2")), task="text-generation", pipeline_kwargs={"max_new_tokens": 2}
    )

    def length(chat: ChatHuggingFace, **call: Any) -> int:
        return chat.invoke("Hello", **call).usage_metadata["output_tokens"]

    assert length(ChatHuggingFace(llm=limited)) == 2
    assert length(ChatHuggingFace(llm=limited, model_kwargs={"max_new_tokens": 3})) == 3
    assert length(ChatHuggingFace(llm=limited, model_kwargs={"max_new_tokens": 3}, max_tokens=4)) == 4
    assert length(ChatHuggingFace(llm=limited, max_tokens=4), max_tokens=5) == 5


def test_a_seed_repeats_answers_and_n_gives_several(llm: HuggingFacePipeline) -> None:
    """That differ from each other."""
    chat = ChatHuggingFace(llm=llm, max_tokens=12, temperature=1.5, seed=7, n=3)
    first, again = (chat.generate([[HumanMessage("Hello")]]).generations[0] for _ in range(2))
    texts = [generation.text for generation in first]
    assert [generation.text for generation in again] == texts
    assert len(set(texts)) == 3
    with pytest.raises(InputError, match="a stream is one answer, not 3"):
        next(chat.stream("Hello"))


def test_logprobs_have_the_form_of_openai(chat: ChatHuggingFace) -> None:
    """The same in a stream."""
    message = chat.invoke("Hello", logprobs=True, top_logprobs=2)
    content = message.response_metadata["logprobs"]["content"]
    assert len(content) == 12
    assert "".join(entry["token"] for entry in content).startswith(str(message.content)[:3])
    assert all(entry["logprob"] <= 0 for entry in content)
    assert all(len(entry["top_logprobs"]) == 2 for entry in content)
    # Without sampling, the token is the most probable one.
    assert content[0]["top_logprobs"][0] == {"token": content[0]["token"], "logprob": content[0]["logprob"]}
    streamed = total(chat.stream("Hello", logprobs=True, top_logprobs=2)).response_metadata["logprobs"]["content"]
    assert [entry["token"] for entry in streamed] == [entry["token"] for entry in content]
    expected = pytest.approx([entry["logprob"] for entry in content], abs=1e-5)
    assert [entry["logprob"] for entry in streamed] == expected
    assert "logprobs" not in chat.invoke("Hello").response_metadata


@pytest.mark.parametrize(
    "messages",
    [
        [SystemMessage("s"), SystemMessage("s"), HumanMessage("h"), HumanMessage("h"), AIMessage("a"), AIMessage("a")],
        [HumanMessage("Be brief."), SystemMessage("Very.")],
        [SystemMessage("Only a system.")],
    ],
    ids=lambda messages: "".join(message.type[0] for message in messages),
)
def test_every_order_of_messages_has_an_answer(chat: ChatHuggingFace, messages: list[BaseMessage]) -> None:
    """The last one may be anyone's."""
    assert chat.invoke(messages).content


def test_a_template_that_refuses_a_conversation_gets_a_simpler_one(llm: HuggingFacePipeline) -> None:
    """Without a system, and without two messages of one role in a row."""
    strict = ChatHuggingFace(llm=llm, max_tokens=5, chat_template_kwargs={"chat_template": STRICT_TEMPLATE})
    asked = strict.invoke([SystemMessage("Be brief."), HumanMessage("Hello"), HumanMessage("you")])
    assert asked.content == strict.invoke("Be brief.\n\nHello\n\nyou").content


def test_a_conversation_that_a_template_refuses_in_every_form_is_an_error_of_the_template(
    llm: HuggingFacePipeline,
) -> None:
    """Told with the template's words about the conversation as it was given."""
    strict = ChatHuggingFace(llm=llm, max_tokens=5, chat_template_kwargs={"chat_template": STRICT_TEMPLATE})
    with pytest.raises(InputError, match="System role not supported"):
        strict.invoke([SystemMessage("Be brief."), AIMessage("Hello"), HumanMessage("Hello")])


def test_variables_of_the_template_come_from_the_chat_and_from_the_call(llm: HuggingFacePipeline) -> None:
    """The call's win."""
    template = "{{ messages[0].content + word }}"
    chat = ChatHuggingFace(llm=llm, max_tokens=5, chat_template_kwargs={"chat_template": template, "word": " one"})
    expected = [llm.invoke(f"Hello{word}", max_new_tokens=5) for word in (" one", " other")]
    answers = [chat.invoke("Hello"), chat.invoke("Hello", chat_template_kwargs={"word": " other"})]
    assert [answer.content for answer in answers] == expected


def test_the_last_answer_can_be_continued(llm: HuggingFacePipeline) -> None:
    """With the template's own variable; otherwise it is history."""
    template = "{% for message in messages %}{{ '\n' + message.role + ': ' + message.content }}{% endfor %}"
    chat = ChatHuggingFace(llm=llm, max_tokens=5, chat_template_kwargs={"chat_template": template})
    begun = [HumanMessage("Hello"), AIMessage("The quick")]
    continued = chat.invoke(begun, chat_template_kwargs={"continue_final_message": True})
    assert continued.content == llm.invoke("\nuser: Hello\nassistant: The quick", max_new_tokens=5)


def test_a_model_that_reads_images_answers_about_them() -> None:
    """And counts their tokens."""
    vision = ChatHuggingFace.from_model_id(
        str(language_models.vision_folder()), task="image-text-to-text", max_tokens=4
    )
    data = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(data, "PNG")
    block = {"type": "image", "base64": base64.b64encode(data.getvalue()).decode(), "mime_type": "image/png"}
    seen = vision.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, block])])
    unseen = vision.invoke("What is it?")
    assert seen.usage_metadata["input_tokens"] > unseen.usage_metadata["input_tokens"] + 2
    assert vision.profile is not None
    assert vision.profile["image_inputs"]


def test_images_are_refused_by_a_model_that_reads_none_and_never_downloaded(chat: ChatHuggingFace) -> None:
    """With what to do about it."""
    picture = base64.b64encode(b"...").decode()
    with pytest.raises(UnsupportedModelError, match="reads no images"):
        chat.invoke([HumanMessage([{"type": "image", "base64": picture, "mime_type": "image/png"}])])
    with pytest.raises(NetworkRefusedError, match="nothing is downloaded"):
        chat.invoke([HumanMessage([{"type": "image", "url": "https://example.org/a.png"}])])


def test_from_model_id_gives_each_setting_to_whom_it_belongs() -> None:
    """Fields to the chat; what loads the model, and other settings for generating, to the pipeline."""
    chat = ChatHuggingFace.from_model_id(
        str(language_models.folder("qwen2")),
        device="cpu",
        batch_size=2,
        model_kwargs={"dtype": "float32"},
        pipeline_kwargs={"top_k": 5},
        repetition_penalty=1.1,
        max_tokens=3,
        stop_sequences=["x"],
    )
    assert (chat.max_tokens, chat.stop, chat.model_kwargs) == (3, ["x"], {})
    assert (chat.llm.device, chat.llm.batch_size, chat.llm.model_kwargs) == ("cpu", 2, {"dtype": "float32"})
    assert chat.llm.pipeline_kwargs == {"top_k": 5, "repetition_penalty": 1.1}
    assert chat.invoke("Hello").usage_metadata["output_tokens"] == 3


@pytest.mark.parametrize("backend", ["endpoint", "text-gen"])
def test_a_server_is_no_backend(backend: str) -> None:
    """Models run on this machine only."""
    with pytest.raises(InputError, match="server"):
        ChatHuggingFace.from_model_id("any", backend=backend)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temprature": 1}, "did you mean temperature"),
        ({"max_new_tokens": 1}, "did you mean max_tokens"),
        ({"logit_bias": {"1": 5}}, "sequence_bias"),
        ({"model_kwargs": {"topk": 5}}, "did you mean top_k"),
        ({"tokenizer": object()}, "not the tokenizer"),
        ({"llm": "gpt2"}, "llm should be"),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_used_is_refused(llm: HuggingFacePipeline, fields: dict[str, Any], message: str) -> None:
    """When the chat is made, with what to use instead."""
    with pytest.raises(LocalHFError, match=message):
        ChatHuggingFace(**{"llm": llm, **fields})


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
def test_openais_penalties_where_the_engine_has_them(llm: HuggingFacePipeline, name: str) -> None:
    """openvino-genai does, and a strong one shows; transformers does not, and the error names what comes close."""
    if name in llm.generator.options:
        chat = ChatHuggingFace(llm=llm, max_tokens=30)
        assert chat.invoke("Hello").content != chat.invoke("Hello", **{name: 2.0}).content
        return
    with pytest.raises(LocalHFError, match="repetition_penalty"):
        ChatHuggingFace(llm=llm, **{name: 0.5})
    assert ChatHuggingFace(llm=llm, **{name: 0.0})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"temprature": 1}, "did you mean temperature"),
        ({"logit_bias": {"1": 5}}, "sequence_bias"),
        ({"model": "gpt2"}, "not with gpt2"),
    ],
    ids=str,
)
def test_a_setting_of_a_call_that_cannot_be_used_is_refused(
    chat: ChatHuggingFace, call: dict[str, Any], message: str
) -> None:
    """Nothing is ignored in silence."""
    with pytest.raises(InputError, match=message):
        chat.invoke("Hello", **call)


def test_a_model_without_a_chat_template_does_not_chat() -> None:
    """Known when the chat is made, not at its first answer."""
    with pytest.raises(UnsupportedModelError, match="no chat template"):
        ChatHuggingFace.from_model_id(str(language_models.folder("gpt2")))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_tokenizer_of_the_model_may_be_passed_but_no_other(engine: str) -> None:
    """As code for langchain-huggingface does."""
    llm = HuggingFacePipeline(**model_settings(engine, "llama"))
    own = AutoTokenizer.from_pretrained(language_models.folder("llama"))
    assert ChatHuggingFace(llm=llm, tokenizer=own, max_tokens=2).invoke("Hello").content
    own.chat_template = "another"
    with pytest.raises(InputError, match="not the tokenizer"):
        ChatHuggingFace(llm=llm, tokenizer=own)
    with pytest.raises(InputError, match="not the tokenizer"):
        ChatHuggingFace(llm=llm, tokenizer=language_models.tokenizer())


def test_a_pipeline_of_your_own_chats_as_its_folder_does(chat: ChatHuggingFace) -> None:
    """With the model and the tokenizer that it holds."""
    path = str(language_models.folder("qwen2"))
    own = ChatHuggingFace(llm=HuggingFacePipeline(pipeline=pipeline("text-generation", model=path)), max_tokens=12)
    assert own.invoke("Hello").content == chat.invoke("Hello").content
    assert ChatHuggingFace(llm=own.llm, tokenizer=own.llm.pipeline.tokenizer).model_id == path


def test_a_cache_tells_settings_apart(llm: HuggingFacePipeline) -> None:
    """Those of the pipeline, of the chat and of the call."""
    cache = InMemoryCache()
    chats = [
        ChatHuggingFace(llm=llm, cache=cache, max_tokens=2),
        ChatHuggingFace(llm=llm, cache=cache, max_tokens=3),
        ChatHuggingFace(llm=llm, cache=cache, model_kwargs={"max_new_tokens": 4}),
        ChatHuggingFace(llm=llm, cache=cache, max_tokens=5, stop="\n"),
        ChatHuggingFace(llm=llm, cache=cache, max_tokens=5, stop="\t"),
    ]
    for chat in chats:
        chat.invoke("Hello")
    chats[0].invoke("Hello", max_tokens=6)
    assert len(cache._cache) == 6
    chats[0].invoke("Hello")
    assert len(cache._cache) == 6


def test_tracing_learns_the_model_and_its_settings(llm: HuggingFacePipeline) -> None:
    """Those of the call over those of the chat."""
    chat = ChatHuggingFace(llm=llm, temperature=0.5, max_tokens=7, stop="x")
    params = chat._get_ls_params(stop=["y"], max_tokens=8)
    by_name = ChatHuggingFace(llm=llm, model_kwargs={"temperature": 0.2, "max_new_tokens": 3})._get_ls_params()
    assert (by_name["ls_temperature"], by_name["ls_max_tokens"]) == (0.2, 3)
    assert params["ls_provider"] == "huggingface"
    assert params["ls_model_name"] == llm.model_id
    assert (params["ls_temperature"], params["ls_max_tokens"], params["ls_stop"]) == (0.5, 8, ["x", "y"])


def test_a_chat_describes_itself_without_its_model(chat: ChatHuggingFace) -> None:
    """Neither the weights nor the template are printed."""
    assert len(repr(chat)) < 1500
    assert chat._llm_type == "huggingface-chat-wrapper"
    assert chat.profile == {
        "text_inputs": True, "image_inputs": False, "image_url_inputs": False, "audio_inputs": False,
        "video_inputs": False, "pdf_inputs": False, "text_outputs": True, "reasoning_output": False,
        "tool_calling": True, "structured_output": True, "max_input_tokens": language_models.CONTEXT,
    }  # fmt: skip


def test_fields_can_be_configured_for_a_call(chat: ChatHuggingFace) -> None:
    """As those of every chat model of LangChain."""
    configurable = chat.configurable_fields(max_tokens=ConfigurableField(id="limit"))
    configurable.invoke("Hello")
    message = configurable.invoke("Hello", config={"configurable": {"limit": 3}})
    assert message.usage_metadata["output_tokens"] == 3


def test_a_history_with_tools_has_an_answer(chat: ChatHuggingFace) -> None:
    """Calls, answers of tools, and an error of one."""
    called = {"name": "add", "args": {"a": 1, "b": "ü"}, "id": "1", "type": "tool_call"}
    messages = [
        HumanMessage("What is 1 + 2?"),
        AIMessage("", tool_calls=[called]),
        ToolMessage("failed", tool_call_id="1", status="error"),
        AIMessage("", tool_calls=[called]),
        ToolMessage([{"type": "text", "text": "3"}], tool_call_id="1"),
    ]
    assert chat.invoke(messages).content

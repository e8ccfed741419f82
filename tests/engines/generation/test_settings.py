"""How answers are to be made: one rule for every way to say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from langchain_localhf.engines.generation.request import Prompt
from langchain_localhf.engines.generation.settings import DEFAULT_MAX_TOKENS, Settings
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

_OPTIONS = frozenset({"temperature", "top_p", "top_k", "do_sample", "num_beams", "repetition_penalty"})


@dataclass
class Model:
    """As much of a generator as settings look at."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    context_window: int | None = 1000
    continues_prompt: bool = True
    options: frozenset[str] = _OPTIONS


def read(*layers: Mapping[str, Any], **defaults: Any) -> Settings:
    """The settings of a model whose checkpoint says `defaults`."""
    return Settings.read(Model(defaults), *layers)  # type: ignore[arg-type]


def request(settings: Mapping[str, Any], length: int, model: Model | None = None, **more: Any) -> Any:
    """A request for a prompt of `length` tokens."""
    model = model or Model()
    prompt = Prompt(tuple(range(length)), more.pop("media", {}))
    return Settings.read(model, settings).request(model, prompt, **more)  # type: ignore[arg-type]


def test_the_last_layer_wins() -> None:
    """Over the ones before, and all over the checkpoint; None says nothing."""
    settings = read(
        {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.7, "top_p": None}, temperature=0.1, num_beams=2
    )
    assert settings.options == {"temperature": 0.7, "top_p": 0.9, "num_beams": 2, "do_sample": True}


def test_a_checkpoint_may_say_more_than_its_engine_takes() -> None:
    """Others may not."""
    assert read(transformers_version="5", top_k=3).options == {"top_k": 3}
    with pytest.raises(InputError, match="transformers_version"):
        read({"transformers_version": "5"})


@pytest.mark.parametrize("name", ["max_tokens", "max_new_tokens", "max_completion_tokens"])
def test_every_name_of_the_length_means_the_same(name: str) -> None:
    """By LangChain, OpenAI or transformers, also over another one of an earlier layer."""
    assert read({name: 7}).max_tokens == 7
    assert read({name: 7}, max_new_tokens=9).max_tokens == 7
    assert read({"max_tokens": 9}, {name: 7}).max_tokens == 7


def test_other_synonyms() -> None:
    """Each of them says what the setting itself does."""
    assert read({"stop_sequences": "a"}).stop == read({"stop_strings": ["a"]}).stop == ("a",)
    assert read({"num_return_sequences": 3}).n == 3
    assert read({"skip_prompt": False}).return_full_text
    assert not read({"return_full_text": True}, {"skip_prompt": True}).return_full_text


@pytest.mark.parametrize(
    "layer",
    [
        {"max_tokens": 3, "max_new_tokens": 4},
        {"return_full_text": True, "skip_prompt": True},
        {"n": 1, "num_return_sequences": 2},
    ],
)
def test_names_of_one_setting_that_contradict_each_other_are_refused(layer: dict[str, Any]) -> None:
    """Both are named; they may say the same."""
    first, second = layer
    with pytest.raises(InputError, match=f"{first} and {second}"):
        read(layer)
    assert read({"max_tokens": 3, "max_new_tokens": 3}).max_tokens == 3


@pytest.mark.parametrize(
    ("layers", "sampled"),
    [
        pytest.param([{"temperature": 0.7}], True, id="a temperature"),
        pytest.param([{"top_k": 5}], True, id="top_k"),
        pytest.param([{"seed": 5}], True, id="a seed"),
        pytest.param([{"temperature": 0}], False, id="temperature 0"),
        pytest.param([{"temperature": 0.0, "do_sample": True}], False, id="temperature 0 says more than do_sample"),
        pytest.param([{"temperature": 0.7, "do_sample": False}], False, id="do_sample says more than a temperature"),
        pytest.param([{"temperature": 0}, {"temperature": 0.5}], True, id="a later temperature"),
        pytest.param([{"temperature": 0.5}, {"temperature": 0}], False, id="a later temperature 0"),
        pytest.param([{"do_sample": False}, {"top_p": 0.5}], True, id="a later top_p"),
        pytest.param([{"temperature": 0}, {"seed": 5}], False, id="a later seed does not start to sample"),
        pytest.param([{"temperature": 0, "seed": 5}], False, id="a seed beside temperature 0"),
        pytest.param([{"repetition_penalty": 1.2}], None, id="nothing about sampling"),
    ],
)
def test_whether_to_sample_follows_from_what_is_asked_for(layers: list[dict[str, Any]], sampled: bool | None) -> None:  # noqa: FBT001 - an expected value
    """Whoever names a temperature need not say do_sample, and 0 means none."""
    options = read(*layers).options
    assert options.get("do_sample") is sampled
    assert options.get("temperature") != 0


def test_a_checkpoint_samples_only_where_it_says_so() -> None:
    """As transformers does: a number for sampling does not turn it on."""
    assert "do_sample" not in read(temperature=0.6).options
    assert read(temperature=0.6, do_sample=True).options == {"temperature": 0.6, "do_sample": True}
    assert read({"temperature": 0}, temperature=0.6, do_sample=True).options["do_sample"] is False


def test_stop_strings_add_up() -> None:
    """Those of every layer count, each once, in their order."""
    assert read({"stop": ["a", "b"]}, {"stop": "b"}, {"stop": ("c",)}, stop_strings=["z"]).stop == ("z", "a", "b", "c")
    assert read({"stop": None}, {"stop": []}).stop == ()


def test_an_unknown_name_is_refused_with_the_one_that_was_meant() -> None:
    """Or with all there are, where none is similar."""
    with pytest.raises(InputError) as caught:
        read({"temprature": 1})
    assert "'temprature'" in caught.value.message
    assert caught.value.hint == "did you mean temperature?"
    with pytest.raises(InputError) as caught:
        read({"xyzzy": 1})
    assert "max_tokens" in str(caught.value.hint)
    assert "num_beams" in str(caught.value.hint)


@pytest.mark.parametrize(
    "layer",
    [
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": True},
        {"max_tokens": 1.5},
        {"max_length": "10"},
        {"seed": -1},
        {"seed": "x"},
        {"n": 0},
        {"n": True},
        {"stop": ""},
        {"stop": ["a", ""]},
        {"stop": [1]},
        {"stop": 1},
        {"logprobs": -1},
        {"logprobs": "yes"},
        {"top_logprobs": True},
        {"top_logprobs": 21},
        {"logprobs": 21},
        {"truncate": "right"},
        {"truncate": True},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_right_is_refused(layer: dict[str, Any]) -> None:
    """The message names the setting or the value, and the hint says what to do."""
    with pytest.raises(InputError) as caught:
        read(layer)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ({}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": False}, None),
        ({"logprobs": True, "top_logprobs": 5}, 5),
        ({"logprobs": False, "top_logprobs": 5}, None),
        ({"top_logprobs": 5}, 5),
        ({"logprobs": 3}, 3),
        ({"logprobs": 0}, 0),
    ],
    ids=str,
)
def test_log_probabilities(layer: dict[str, Any], expected: int | None) -> None:
    """OpenAI's pair of settings, or a number as its completions take it."""
    assert read(layer).logprobs == expected


def test_a_request_has_all_that_was_set() -> None:
    """Nothing is lost on the way."""
    made = request(
        {"stop": "a", "seed": 3, "logprobs": 2, "top_k": 4, "max_tokens": 5}, 10, sample=1, markers=["<tool_call>"]
    )
    assert (made.max_tokens, made.stop, made.seed, made.sample, made.logprobs) == (5, ("a",), 3, 1, 2)
    assert made.markers == ("<tool_call>",)
    assert made.options == {"top_k": 4, "do_sample": True}
    assert made.prompt.token_ids == tuple(range(10))


@pytest.mark.parametrize(
    ("settings", "window", "expected"),
    [
        pytest.param({}, None, DEFAULT_MAX_TOKENS, id="the default"),
        pytest.param({}, 1000, DEFAULT_MAX_TOKENS, id="the default, with room"),
        pytest.param({}, 150, 50, id="the default, with less room"),
        pytest.param({"max_tokens": 500}, 150, 50, id="more than fits"),
        pytest.param({"max_tokens": 500}, None, 500, id="no limit"),
        pytest.param({}, 101, 1, id="room for one token"),
        pytest.param({"max_length": 120}, 1000, 20, id="max_length counts the prompt"),
        pytest.param({"max_length": 900}, 1000, 800, id="max_length is not held by the default"),
        pytest.param({"max_length": 900}, 150, 50, id="max_length, more than fits"),
        pytest.param({"max_length": 120, "max_tokens": 5}, 1000, 5, id="both hold: max_tokens"),
        pytest.param({"max_length": 120, "max_tokens": 50}, 1000, 20, id="both hold: max_length"),
    ],
)
def test_the_length_of_an_answer_to_100_tokens(settings: dict[str, Any], window: int | None, expected: int) -> None:
    """As long as was asked for, and never longer than there is room."""
    assert request(settings, 100, Model(context_window=window)).max_tokens == expected


def test_the_last_layer_decides_which_length_counts() -> None:
    """max_length and max_tokens take the place of each other."""
    assert read({"max_tokens": 5}, max_length=20).max_length is None
    later = read({"max_tokens": 5}, {"max_length": 20})
    assert (later.max_tokens, later.max_length) == (None, 20)


def test_a_prompt_that_fills_the_window_is_refused() -> None:
    """With both numbers, its place among the prompts, and what to do."""
    with pytest.raises(InputError, match=r"prompt 3 has 1,000 tokens.* 1,000, with its answer") as caught:
        request({}, 1000, index=3)
    assert caught.value.index == 3
    assert 'truncate="left"' in str(caught.value.hint)
    with pytest.raises(InputError, match=r"the prompt has 2,000 tokens"):
        request({}, 2000)


def test_a_prompt_that_max_length_has_no_room_for_is_refused() -> None:
    """With both numbers and the setting that counts the answer alone."""
    with pytest.raises(InputError, match=r"prompt 0 has 100 tokens, and max_length=100") as caught:
        request({"max_length": 100}, 100, index=0)
    assert caught.value.index == 0
    assert "max_new_tokens" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("settings", "kept"), [({}, 744), ({"max_tokens": 10}, 990), ({"max_tokens": 900}, 500)], ids=str
)
def test_a_truncated_prompt_keeps_its_end_and_leaves_room_for_the_answer(settings: dict[str, Any], kept: int) -> None:
    """As much as was asked for, up to half of the window; what fits is not touched."""
    made = request(settings | {"truncate": "left"}, 2000)
    assert made.prompt.token_ids == tuple(range(2000 - kept, 2000))
    assert made.max_tokens == 1000 - kept or made.max_tokens == settings["max_tokens"]
    assert len(request(settings | {"truncate": "left"}, 999).prompt.token_ids) == 999


def test_a_prompt_with_images_is_not_truncated() -> None:
    """Its tokens and its images belong together; so the hint does not say to."""
    with pytest.raises(InputError, match="2,000") as caught:
        request({"truncate": "left"}, 2000, media={"pixel_values": 1})
    assert "truncate" not in str(caught.value.hint)


def test_an_answer_that_does_not_continue_its_prompt_has_a_window_of_its_own() -> None:
    """As of encoder-decoders: each may fill it."""
    model = Model(context_window=100, continues_prompt=False)
    assert request({}, 100, model).max_tokens == 100
    assert request({"max_length": 20}, 100, model).max_tokens == 20
    assert len(request({"truncate": "left"}, 300, model).prompt.token_ids) == 100
    with pytest.raises(InputError, match="has 101 tokens, and the model can look at 100\n"):
        request({}, 101, model)

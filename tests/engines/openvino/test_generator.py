"""The OpenVINO generator: its folders and files, its devices and settings, and one pipeline for everybody."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
import pytest
from openvino_genai import ContinuousBatchingPipeline, GenerationConfig, SchedulerConfig
from support import gguf_models, language_models, openvino_models
from support.generators import PROMPTS, finish, ids, of_transformers, start

from langchain_localhf.engines.generation.request import Constraint, Tag
from langchain_localhf.engines.generation.settings import Settings
from langchain_localhf.engines.openvino import runtime
from langchain_localhf.errors import (
    CheckpointError,
    DeviceUnavailableError,
    EngineError,
    IncompleteModelError,
    InputError,
    LocalHFError,
    UnsupportedModelError,
)
from langchain_localhf.loading import load_generator

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_localhf.engines.openvino.generator import OpenVINOGenerator

TASK = "text-generation"


def load(place: Path, **settings: Any) -> Any:
    """The model in a folder or file, exact to the last token unless the test says otherwise."""
    model_kwargs = {"ov_config": openvino_models.EXACT} | settings.pop("model_kwargs", {})
    return load_generator(str(place), task=TASK, backend="openvino", model_kwargs=model_kwargs, **settings).generator


@pytest.fixture
def qwen2() -> OpenVINOGenerator:
    """The tiny model, not shared with other tests."""
    return load(openvino_models.folder("qwen2"), batch_size=64)  # type: ignore[no-any-return]


# What can be loaded.


def test_an_export_inside_a_model_s_folder_is_found(tmp_path: Path) -> None:
    """Beside the safetensors, whose tokenizer and configuration serve for both."""
    folder = language_models.copy("llama", tmp_path / "llama")
    (folder / "openvino").mkdir()
    for name in ("openvino_model.xml", "openvino_model.bin"):
        shutil.copy(openvino_models.folder("llama") / name, folder / "openvino")
    engine = load(folder)
    assert ids(finish(engine, ["The quick"], max_new_tokens=8)[0]) == of_transformers(
        "llama", "The quick", max_new_tokens=8
    )
    assert engine.chat_template
    assert engine.context_window == 512


@pytest.mark.parametrize("weight_format", ["int8", "int4"])
def test_compressed_weights_run_as_they_are(weight_format: str) -> None:
    """With OpenVINO's own settings, too."""
    engine = load(openvino_models.folder("llama", weight_format), model_kwargs={"ov_config": {}})
    assert len(finish(engine, ["The quick"], max_new_tokens=8, eos_token_id=[])[0].tokens) == 8


def test_graphs_of_the_tokenizer_are_not_needed(tmp_path: Path) -> None:
    """Not even for an answer of a required form."""
    folder = openvino_models.copy("qwen2", tmp_path / "qwen2")
    for path in folder.glob("openvino_*tokenizer.*"):
        path.unlink()
    engine = load(folder)
    request = Settings.read(engine, {"max_tokens": 9}).request(
        engine, engine.read_prompt("Ready?"), constraint=Constraint((Tag("", {"type": "boolean"}),))
    )
    assert engine.submit([request])[0].answer().text in {"true", "false"}


def test_a_folder_without_a_graph_names_the_command() -> None:
    """That makes one."""
    with pytest.raises(UnsupportedModelError, match="no model for OpenVINO") as caught:
        load(language_models.folder("llama"))
    assert "localhf compile llama" in str(caught.value.hint)


def test_half_a_graph_is_incomplete(tmp_path: Path) -> None:
    """Its weights are a file of their own."""
    folder = openvino_models.copy("gpt2", tmp_path / "gpt2")
    (folder / "openvino_model.bin").unlink()
    with pytest.raises(IncompleteModelError, match=r"openvino_model\.bin"):
        load(folder)


def test_a_model_of_several_graphs_is_for_the_other_engine(tmp_path: Path) -> None:
    """Such as one that reads images."""
    (tmp_path / "openvino_language_model.xml").touch()
    with pytest.raises(UnsupportedModelError, match="several graphs") as caught:
        load(tmp_path)
    assert "torch" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("config.json", None, IncompleteModelError),
        ("tokenizer.json", None, IncompleteModelError),
        ("tokenizer.json", "{}", CheckpointError),
        ("config.json", "[]", CheckpointError),
        ("generation_config.json", "{", CheckpointError),
        ("chat_template.jinja", "{% if %}", CheckpointError),
        ("openvino_model.xml", "<net", CheckpointError),
    ],
)
def test_a_damaged_file_is_named(name: str, content: str | None, error: type[LocalHFError], tmp_path: Path) -> None:
    """Whatever it is."""
    folder = openvino_models.copy("llama", tmp_path / "llama")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(error) as caught:
        load(folder)
    assert caught.value.hint


@pytest.mark.parametrize("task", ["summarization", "image-text-to-text"])
def test_other_tasks_are_for_the_other_engine(task: str) -> None:
    """Which the hint names."""
    with pytest.raises(UnsupportedModelError, match="text-generation") as caught:
        load_generator(str(openvino_models.folder("llama")), task=task, backend="openvino")
    assert "torch" in str(caught.value.hint)


def test_what_the_checkpoint_says_about_generating_is_the_default(tmp_path: Path) -> None:
    """Also which tokens end an answer, of which there may be several."""
    folder = openvino_models.copy("qwen2", tmp_path / "qwen2")
    free = ids(finish(load(folder), ["The quick"], max_new_tokens=20)[0])
    said = {"eos_token_id": [free[3], 0], "temperature": 0.5, "do_sample": False, "max_length": 20, "bos_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(said))
    engine = load(folder)
    (answer,) = finish(engine, ["The quick"], max_new_tokens=20)
    assert ids(answer) == free[: free.index(free[3]) + 1]
    assert answer.finish_reason == "stop"
    assert engine.defaults == {"temperature": 0.5, "do_sample": False}


def test_settings_among_the_model_s_are_defaults() -> None:
    """As old programs have them."""
    engine = load(openvino_models.folder("llama"), model_kwargs={"temperature": 0, "max_new_tokens": 5})
    assert len(finish(engine, ["The quick"])[0].tokens) == 5


def test_a_token_without_weights_is_refused(tmp_path: Path) -> None:
    """Where the tokenizer knows more than the model."""
    folder = openvino_models.copy("llama", tmp_path / "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 420}))
    with pytest.raises(InputError, match="<tool_call>"):
        load(folder).read_prompt("a <tool_call>")


# GGUF.


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_gguf_file_is_a_model(whole_folder: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """With its tokenizer, its window and its chat template; named itself, or by the folder that holds only it."""
    file = gguf_models.file()
    engine = load(file.parent if whole_folder else file)
    (answer,) = finish(engine, ["The quick"], max_new_tokens=10)
    assert ids(answer) == of_transformers("qwen2", "The quick", max_new_tokens=10)
    assert (engine.model_type, engine.context_window) == ("qwen2", 512)
    assert engine.chat_template == language_models.CHAT_TEMPLATE
    assert engine.render_chat([{"role": "user", "content": "Hi"}]).startswith("<|im_start|>user")
    assert "".join(map(engine.token_text, engine.token_ids("plain text"))) == "plain text"


def test_a_gguf_file_writes_answers_of_a_form() -> None:
    """By the tokens that it lists."""
    engine = load(gguf_models.file())
    tag = Tag('<tool_call>{"name": ', {"enum": ["add", "now"]}, "}</tool_call>", "<tool_call>")
    request = Settings.read(engine, {"max_tokens": 60}).request(
        engine, engine.read_prompt("Call"), constraint=Constraint((tag,)), markers=("<tool_call>",)
    )
    assert engine.submit([request])[0].answer().text in {
        f'<tool_call>{{"name": "{name}"}}</tool_call>' for name in ("add", "now")
    }


def test_several_gguf_files_are_told_apart_by_name(tmp_path: Path) -> None:
    """One of them has to be named."""
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(gguf_models.file(), tmp_path / name)
    with pytest.raises(UnsupportedModelError, match=r"a\.gguf, b\.gguf"):
        load(tmp_path)
    assert load(tmp_path / "b.gguf").model_type == "qwen2"


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no model", b"GGUF\3\0\0\0" + b"\xff" * 16])
def test_a_file_that_is_no_gguf_is_refused(content: bytes, tmp_path: Path) -> None:
    """Whatever its name says."""
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(CheckpointError, match="GGUF"):
        load(tmp_path / "model.gguf")


# Devices and settings.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "CACHE_DIR": ""},
        {"KV_CACHE_PRECISION": "u8", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"},
        {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": 2},
    ],
    ids=str,
)
def test_ov_config_is_passed_on(settings: dict[str, Any]) -> None:
    """The keys of LangChain's page, and others."""
    engine = load(openvino_models.folder("gpt2"), model_kwargs={"ov_config": settings, "device": "CPU"})
    assert finish(engine, ["The quick"], max_new_tokens=4)[0].tokens


def test_compiled_models_are_kept_where_ov_config_says(tmp_path: Path) -> None:
    """And nothing else is put there."""
    load(openvino_models.folder("gpt2"), model_kwargs={"ov_config": {"CACHE_DIR": str(tmp_path / "cache")}})
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("ov_config", "word"),
    [
        ({"NOPE": "1"}, "NOPE"),
        ({"PERFORMANCE_HINT": "SIDEWAYS"}, "SIDEWAYS"),
        ({"KV_CACHE_PRECISION": "zz"}, "zz"),
        ({"NUM_STREAMS": "x"}, "NUM_STREAMS"),
    ],
)
def test_a_bad_ov_config_is_refused_before_the_model_is_read(
    ov_config: dict[str, str], word: str, tmp_path: Path
) -> None:
    """In OpenVINO's words, without the places in its source."""
    with pytest.raises(InputError, match=word) as caught:
        load(tmp_path, model_kwargs={"ov_config": ov_config})
    assert ".cpp" not in caught.value.message


@pytest.mark.parametrize("device", ["GPU", 0, "NPU", "GPU.1", "cuda", "HETERO:GPU,CPU"])
def test_a_device_that_is_not_here_is_refused(device: int | str) -> None:
    """With those that are."""
    if device != "cuda" and any(name.startswith(("GPU", "NPU")) for name in runtime.core().available_devices):
        pytest.skip("this machine has other devices")
    with pytest.raises(DeviceUnavailableError, match="CPU"):
        load(openvino_models.folder("gpt2"), model_kwargs={"device": device})


@pytest.mark.parametrize("device", ["CPU", "cpu", -1, "AUTO", "AUTO:CPU"])
def test_a_device_has_several_names(device: int | str) -> None:
    """Those of OpenVINO and those of LangChain."""
    engine = load(openvino_models.folder("gpt2"), model_kwargs={"ov_config": {}}, device=device)
    assert finish(engine, ["The quick"], max_new_tokens=2)[0].tokens


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_kwargs": {"ov_confg": {}}}, "did you mean ov_config"),
        ({"model_kwargs": {"dtype": "bfloat16"}}, "dtype"),
        ({"model_kwargs": {"ov_config": ["LATENCY"]}}, "by name"),
        ({"model_kwargs": {"device": "CPU"}, "device": 0}, "say different things"),
        ({"device_map": "auto"}, "device_map"),
    ],
)
def test_settings_of_the_other_engine_are_refused(settings: dict[str, Any], message: str) -> None:
    """By their name."""
    with pytest.raises(InputError, match=message):
        load(openvino_models.folder("gpt2"), **settings)


@pytest.mark.parametrize("name", ["repetition_penalty", "presence_penalty"])
def test_a_search_has_no_penalties(name: str, qwen2: OpenVINOGenerator) -> None:
    """openvino-genai would leave them out in silence."""
    with pytest.raises(InputError, match=name):
        start(qwen2, ["The quick"], num_beams=2, **{name: 1.5})


def test_penalties_for_repeating_count_the_answer(qwen2: OpenVINOGenerator) -> None:
    """Those that only this engine has."""
    (free,) = finish(qwen2, ["The quick"], max_new_tokens=40, eos_token_id=[])
    (bound,) = finish(qwen2, ["The quick"], max_new_tokens=40, eos_token_id=[], frequency_penalty=2.0)
    assert len(set(ids(bound))) > len(set(ids(free)))


# One pipeline for everybody.


def test_an_answer_begins_while_others_run(qwen2: OpenVINOGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a batch to end."""
    openvino_models.slow_down(monkeypatch)
    (long,) = start(qwen2, ["The quick"], max_new_tokens=500, eos_token_id=[])
    pieces = iter(long)
    next(pieces)
    finish(qwen2, ["a"], max_new_tokens=3)
    assert not long.is_over
    pieces.close()  # type: ignore[attr-defined]


def test_batch_size_is_the_most_that_runs_together() -> None:
    """The next one begins when one is over."""
    engine = load(openvino_models.folder("qwen2"), batch_size=1)
    first, second = start(engine, ["The quick", "a"], max_new_tokens=60, eos_token_id=[])
    next(iter(second))
    assert first.token_count == 60


def test_prompts_that_go_on_from_one_answer_do_not_mix(qwen2: OpenVINOGenerator) -> None:
    """Though openvino-genai would let them share the end of its cache."""
    (answer,) = finish(qwen2, ["The quick brown fox"], max_new_tokens=1)
    begun = list(qwen2.read_prompt("The quick brown fox").token_ids)
    prompts = ["The quick brown fox jumps", "The quick brown fox and", "The quick brown fox, the"]
    assert all(list(qwen2.read_prompt(prompt).token_ids)[: len(begun)] == begun for prompt in prompts)
    assert answer.tokens
    expected = [of_transformers("qwen2", prompt, max_new_tokens=20) for prompt in prompts]
    assert [ids(found) for found in finish(qwen2, prompts, max_new_tokens=20)] == expected


def test_the_fault_that_prompts_wait_for_is_still_there(qwen2: OpenVINOGenerator) -> None:
    """When this fails, openvino-genai is repaired, and `prefixes` can go."""
    scheduler = SchedulerConfig()
    scheduler.enable_prefix_caching = True
    folder = openvino_models.folder("qwen2")
    pipeline = runtime.apart(
        lambda: ContinuousBatchingPipeline(folder, scheduler, "CPU", properties=openvino_models.EXACT)
    )

    def run(prompts: list[str], count: int) -> list[list[int]]:
        config = GenerationConfig()
        config.max_new_tokens, config.ignore_eos = count, True
        tensors = [ov.Tensor(np.array([qwen2.read_prompt(prompt).token_ids])) for prompt in prompts]
        handles = [pipeline.add_request(number, tensor, config) for number, tensor in enumerate(tensors)]
        while pipeline.has_non_finished_requests():
            pipeline.step()
        return [handle.read_all()[0].generated_ids for handle in handles]

    prompts = ["The quick brown fox jumps", "The quick brown fox and", "The quick brown fox, the"]
    run(["The quick brown fox"], 1)
    expected = [of_transformers("qwen2", prompt, max_new_tokens=8, eos_token_id=None) for prompt in prompts]
    assert run(prompts, 8) != expected


class Breaking:
    """A pipeline that fails at one of its steps."""

    def __init__(self, pipeline: Any, steps: int) -> None:
        self._pipeline = pipeline
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def step(self) -> None:
        self._steps -= 1
        if self._steps == 0:
            msg = "Exception from src/somewhere.cpp:1:\nout of something"
            raise RuntimeError(msg)
        self._pipeline.step()


def test_an_error_reaches_its_reader_and_the_model_goes_on(qwen2: OpenVINOGenerator) -> None:
    """In a pipeline of its own: the broken one is not used again."""
    broken = qwen2._steps._pipeline = Breaking(qwen2._steps._pipeline, 3)  # type: ignore[assignment]
    with pytest.raises(EngineError, match="out of something") as caught:
        finish(qwen2, ["The quick"], max_new_tokens=9)
    assert "somewhere" not in caught.value.message
    assert ids(finish(qwen2, ["a"], max_new_tokens=9)[0]) == of_transformers("qwen2", "a", max_new_tokens=9)
    assert qwen2._steps._pipeline is not broken


def test_answers_that_had_not_begun_are_tried_again(qwen2: OpenVINOGenerator) -> None:
    """What broke was perhaps the fault of one of them."""
    qwen2._steps._pipeline = Breaking(qwen2._steps._pipeline, 1)  # type: ignore[assignment]
    found = finish(qwen2, PROMPTS, max_new_tokens=9)
    assert [ids(answer) for answer in found] == [of_transformers("qwen2", p, max_new_tokens=9) for p in PROMPTS]


def test_a_model_that_cannot_be_opened_again_fails_everybody(qwen2: OpenVINOGenerator) -> None:
    """And nobody waits for ever."""

    def failing() -> ContinuousBatchingPipeline:
        msg = "no model any more"
        raise RuntimeError(msg)

    qwen2._steps._pipeline = Breaking(qwen2._steps._pipeline, 1)  # type: ignore[assignment]
    qwen2._steps._open_pipeline = failing
    generations = start(qwen2, PROMPTS, max_new_tokens=9)
    for generation in generations:
        with pytest.raises(EngineError, match="no model any more"):
            generation.answer()


def test_a_generator_that_is_dropped_frees_its_model(tmp_path: Path) -> None:
    """When its last answer is over, which is still finished."""
    engine = load(openvino_models.copy("qwen2", tmp_path / "qwen2"))
    steps = weakref.ref(engine._steps)
    (generation,) = start(engine, ["The quick"], max_new_tokens=30, eos_token_id=[])
    del engine
    assert len(generation.answer().tokens) == 30
    for _ in range(100):
        gc.collect()
        if steps() is None:
            return
        generation.cancel()
    pytest.fail("the model is still held")


def test_nothing_of_torch_is_imported() -> None:
    """A slim installation has neither torch nor transformers."""
    code = f"""
import sys
from langchain_localhf.chat_models import ChatHuggingFace
from langchain_localhf.llms import HuggingFacePipeline
llm = HuggingFacePipeline.from_model_id({str(openvino_models.folder("qwen2"))!r}, "text-generation", backend="openvino")
assert llm.invoke("The quick", max_new_tokens=3)
schema = {{"title": "Ready", "type": "object", "properties": {{"ready": {{"type": "boolean"}}}}, "required": ["ready"]}}
assert "ready" in ChatHuggingFace(llm=llm, max_tokens=40).with_structured_output(schema).invoke("Ready?")
loaded = {{"torch", "transformers", "sentence_transformers"}} & sys.modules.keys()
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 - this Python
    assert done.returncode == 0, done.stderr

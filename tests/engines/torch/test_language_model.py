"""Language models load with their own weights, for their own task, on a device that is here, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from support import checkpoints, language_models, remote_language_model
from support.checkpoints import edit_json, edit_weights
from support.network import network_events
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    BertForMaskedLM,
    BertLMHeadModel,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    pipeline,
)

from langchain_localhf import engines
from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines.torch.language_model import LanguageModel, adopt, load_language_model
from langchain_localhf.errors import (
    CheckpointError,
    DeviceUnavailableError,
    EngineNotInstalledError,
    IncompleteModelError,
    InputError,
    UninitializedWeightsError,
    UnsafeModelError,
    UnsupportedModelError,
)
from langchain_localhf.llms import HuggingFacePipeline
from langchain_localhf.store.compilation import Compilation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

PROMPT = "The quick"


def load(folder: Path, task: str = "text-generation", **settings: Any) -> LanguageModel:
    """The language model in a folder."""
    return load_language_model(Checkpoint.read(folder), task=task, name="tiny", **settings)


def in_float32(folder: Path) -> Tensor:
    """The scores of the first new token, as plain transformers computes them."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return model(torch.tensor([tokenizer(PROMPT)["input_ids"]])).logits[0, -1]


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_a_complete_model_loads_as_transformers_loads_it(family: str) -> None:
    """With tied weights or without."""
    loaded = load(language_models.folder(family))
    with torch.no_grad():
        scores = loaded.model(torch.tensor([loaded.tokenizer(PROMPT)["input_ids"]])).logits[0, -1]
    assert torch.equal(scores, in_float32(language_models.folder(family)))
    assert not loaded.model.training


def remove(*names: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """A change that leaves out the weights of these names."""
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


@pytest.mark.parametrize(
    "name", ["lm_head.weight", "model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"]
)
def test_a_model_without_one_of_its_weights_is_refused(tmp_path: Path, name: str) -> None:
    """Upstream runs it with random numbers in that place, and it writes noise."""
    folder = language_models.copy("llama", tmp_path / "model")
    edit_weights(folder, remove(name))
    with pytest.raises(UninitializedWeightsError) as caught:
        load(folder)
    assert caught.value.missing == (name,)


def test_a_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    """The configuration is of another model than the weights."""
    folder = language_models.copy("llama", tmp_path / "model")
    edit_weights(folder, lambda tensors: tensors | {"model.norm.weight": torch.ones(7)})
    with pytest.raises(UninitializedWeightsError) as caught:
        load(folder)
    assert caught.value.mismatched == ("model.norm.weight",)


def test_a_weight_too_many_is_refused(tmp_path: Path) -> None:
    """A layer that the configuration does not know would be left out."""
    folder = language_models.copy("llama", tmp_path / "model")
    edit_json(folder / "config.json", num_hidden_layers=1)
    with pytest.raises(UninitializedWeightsError) as caught:
        load(folder)
    assert all(name.startswith("model.layers.1.") for name in caught.value.unexpected)


def test_a_weight_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """Half a download, or an overflow in half precision."""

    def spoil(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors["lm_head.weight"][3, 3] = float("nan")
        return tensors

    folder = language_models.copy("llama", tmp_path / "model")
    edit_weights(folder, spoil)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight .* not finite"):
        load(folder)


def test_a_file_that_ends_too_soon_is_refused(tmp_path: Path) -> None:
    """Half a copy is no model."""
    folder = language_models.copy("llama", tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(folder)


def test_the_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """Its tokens would be read outside of the model's table, or mean other words."""
    folder = language_models.copy("llama", tmp_path / "model")
    edit_json(folder / "config.json", vocab_size=300)
    edit_weights(
        folder,
        lambda tensors: (
            tensors | {name: tensors[name][:300] for name in ("lm_head.weight", "model.embed_tokens.weight")}
        ),
    )
    with pytest.raises(CheckpointError, match="knows 424 tokens, but the model has weights for 300"):
        load(folder)


def test_a_marker_behind_the_table_is_no_word(tmp_path: Path) -> None:
    """Gemma 3 shares its tokenizer with models that see images, and has no row for their marker."""
    folder = language_models.copy("llama", tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image_soft_token>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    assert len(load(folder).tokenizer) == 1 + len(language_models.tokenizer())
    with pytest.raises(InputError, match="'<image_soft_token>', for which this model has no weights"):
        HuggingFacePipeline.from_model_id(str(folder), "text-generation").invoke("Look: <image_soft_token>")


def encoder_decoder(family: str, folder: Path) -> Path:
    """A tiny BART, or a Marian, whose table of sines no file holds."""
    config, model = {"bart": (BartConfig, BartForConditionalGeneration), "marian": (MarianConfig, MarianMTModel)}[
        family
    ]
    sizes = {f"{part}_{size}": 1 for part in ("encoder", "decoder") for size in ("layers", "attention_heads")}
    tokens = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 3, "decoder_start_token_id": 3}
    words = language_models.tokenizer(end_of_text=True)
    torch.manual_seed(0)
    built = model(config(vocab_size=len(words), d_model=8, max_position_embeddings=64, **sizes, **tokens))
    built.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["bart", "marian"])
def test_what_transformers_computes_need_not_be_in_a_file(tmp_path: Path, family: str) -> None:
    """A table of sines and a bias of zeros; any other weight that is not there is refused as ever."""
    folder = encoder_decoder(family, tmp_path / family)
    edit_weights(folder, remove("final_logits_bias"))
    model = load(folder, "translation").model
    assert not model.final_logits_bias.any()
    if family == "marian":
        sines = model.model.encoder.embed_positions
        assert torch.equal(sines.weight, sines.create_weight())
    edit_weights(folder, remove("model.decoder.layers.0.fc1.bias"))
    with pytest.raises(UninitializedWeightsError) as caught:
        load(folder, "translation")
    assert caught.value.missing == ("model.decoder.layers.0.fc1.bias",)


def test_masks_that_old_checkpoints_hold_are_no_weights(tmp_path: Path) -> None:
    """GPT-2's, GPT-Neo's and CodeGen's lie beside the weights, and are computed today."""
    masks = ("attn.bias", "attn.attention.bias", "attn.attention.masked_bias", "attn.causal_mask")
    folder = language_models.copy("gpt2", tmp_path / "model")
    edit_weights(folder, lambda tensors: tensors | {f"transformer.h.0.{mask}": torch.ones(1) for mask in masks})
    assert load(folder).model.can_generate()


def test_a_tokenizer_that_is_not_here_is_refused(tmp_path: Path) -> None:
    """Before the weights are read."""
    folder = language_models.copy("llama", tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(IncompleteModelError, match="tokenizer"):
        HuggingFacePipeline.from_model_id(str(folder), "text-generation")


@pytest.mark.parametrize(
    ("family", "task", "right"),
    [
        ("t5", "text-generation", "text2text-generation"),
        ("gpt2", "text2text-generation", "text-generation"),
        ("llama", "image-text-to-text", "text-generation"),
    ],
)
def test_a_model_for_another_task_is_refused(family: str, task: str, right: str) -> None:
    """The hint is the task that it is for."""
    with pytest.raises(UnsupportedModelError, match=f"use task='{right}'"):
        load(language_models.folder(family), task)


def test_a_task_that_nobody_knows_is_refused() -> None:
    """The hint lists those that are known."""
    with pytest.raises(UnsupportedModelError, match="summarization"):
        load(language_models.folder("gpt2"), "sentiment-analysis")


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    """Though transformers would put a language model's head on it, at random."""
    BertForMaskedLM(checkpoints.bert_config()).save_pretrained(tmp_path / "bert")
    checkpoints.tokenizer().save_pretrained(tmp_path / "bert")
    with pytest.raises(UnsupportedModelError, match="reads texts and writes none"):
        load(tmp_path / "bert")


def test_half_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    """By itself, transformers takes BART's decoder for a model of its own."""
    folder = encoder_decoder("bart", tmp_path / "bart")
    with pytest.raises(UnsupportedModelError, match="use task='text2text-generation'"):
        load(folder)


def test_a_task_may_name_two_languages(tmp_path: Path) -> None:
    """As T5's configuration does, with the words that stand before each text."""
    folder = language_models.copy("t5", tmp_path / "t5")
    edit_json(folder / "config.json", task_specific_params={"translation_en_to_de": {"prefix": "to German: "}})
    assert load(folder, "translation_en_to_de").prefix == "to German: "


def test_an_embedding_model_is_refused(tiny: Path) -> None:
    """The hint is the class that it is for."""
    with pytest.raises(UnsupportedModelError, match="HuggingFaceEmbeddings"):
        HuggingFacePipeline.from_model_id(str(tiny), "text-generation")


@pytest.mark.parametrize(
    ("model_kwargs", "error", "message"),
    [
        ({"load_in_8bit": True}, UnsupportedModelError, "BitsAndBytesConfig"),
        ({"use_safetensors": False}, UnsafeModelError, "pickle"),
        ({"no_such_setting": 1}, InputError, "no_such_setting"),
        ({"output_loading_info": True}, InputError, "output_loading_info"),
        ({"dtype": "no_such_type"}, InputError, "no_such_type"),
        ({"attn_implementation": "flash_attention_2"}, EngineNotInstalledError, "FlashAttention2"),
        ({"variant": "fp16"}, CheckpointError, "fp16"),
    ],
)
def test_model_kwargs_that_cannot_be_used(model_kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    """Each with what to do instead."""
    with pytest.raises(error, match=message):
        load(language_models.folder("llama"), model_kwargs=model_kwargs)


def test_model_kwargs_reach_the_model() -> None:
    """Under their old names, too; and the user's dictionary stays as it is."""
    for name in ("dtype", "torch_dtype"):
        given = {name: torch.bfloat16, "attn_implementation": "eager", "temperature": 0.5}
        llm = HuggingFacePipeline.from_model_id(
            str(language_models.folder("llama")), "text-generation", model_kwargs=given
        )
        assert llm.generator._model.dtype == torch.bfloat16  # type: ignore[attr-defined]
        assert llm.generator._model.config._attn_implementation == "eager"  # type: ignore[attr-defined]
        assert llm.generator.defaults["temperature"] == 0.5
        assert given == {name: torch.bfloat16, "attn_implementation": "eager", "temperature": 0.5}


def test_devices() -> None:
    """Those that are not here are refused before anything is loaded."""
    for device in (-1, "cpu"):
        assert load(language_models.folder("llama"), device=device).model.device.type == "cpu"
    for device in (7, "cuda:7", "toaster"):
        with pytest.raises(DeviceUnavailableError):
            load(language_models.folder("llama"), device=device)


def test_a_map_of_devices_needs_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is the command that installs it; with it, the page's `device_map="auto"` works."""
    from langchain_localhf.engines.torch import language_model  # noqa: PLC0415 - to change what it finds

    if language_model.find_spec("accelerate") is not None:
        assert load(language_models.folder("llama"), device_map="auto").model.device.type
    monkeypatch.setattr(language_model, "find_spec", lambda name: None)
    with pytest.raises(EngineNotInstalledError, match="pip install accelerate"):
        load(language_models.folder("llama"), device_map="auto")


def test_two_maps_of_devices_contradict_each_other() -> None:
    """As two of anything do."""
    with pytest.raises(InputError, match="device"):
        load(language_models.folder("llama"), device=-1, model_kwargs={"device_map": "auto"})
    with pytest.raises(InputError, match="device_map"):
        load(language_models.folder("llama"), device_map="auto", model_kwargs={"device_map": "auto"})


def test_settings_of_a_checkpoint_are_its_defaults(tmp_path: Path) -> None:
    """`generation_config.json` says how the model wants to be used, and what is a token's number is no setting."""
    folder = language_models.copy("llama", tmp_path / "model")
    GenerationConfig(do_sample=True, temperature=0.3, eos_token_id=[0, 2]).save_pretrained(folder)
    defaults = load(folder).defaults
    assert (defaults["do_sample"], defaults["temperature"]) == (True, 0.3)
    assert "eos_token_id" not in defaults


def test_settings_of_a_task_are_defaults_of_an_encoder_decoder(tmp_path: Path) -> None:
    """With the words that stand before each text; GPT-2's, which ask for samples of 50 tokens, are left alone."""
    of_task = {
        "summarization": {"prefix": "summarize: ", "max_length": 9, "no_such": 1},
        "text-generation": {"max_length": 9},
    }
    folder = language_models.copy("t5", tmp_path / "t5")
    edit_json(folder / "config.json", task_specific_params=of_task)
    loaded = load(folder, "summarization")
    assert loaded.prefix == "summarize: "
    assert loaded.defaults["max_length"] == 9
    assert "no_such" not in loaded.defaults
    assert load(folder, "translation").prefix == ""
    other = language_models.copy("gpt2", tmp_path / "gpt2")
    edit_json(other / "config.json", task_specific_params=of_task)
    assert "max_length" not in load(other).defaults


def own_pipeline(**settings: Any) -> Any:
    """A user's own pipeline."""
    folder = language_models.folder("llama")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return pipeline("text-generation", model=model, tokenizer=tokenizer, **settings)


def test_a_pipeline_of_ones_own_brings_its_settings() -> None:
    """All that was said when it was made, and not what transformers adds."""
    own = own_pipeline(max_new_tokens=7, top_k=4, return_full_text=True)
    defaults = adopt(own).defaults
    assert (defaults["max_new_tokens"], defaults["top_k"], defaults["return_full_text"]) == (7, 4, True)
    assert "temperature" not in adopt(own_pipeline()).defaults
    before = own.model.generation_config.to_dict()
    HuggingFacePipeline(pipeline=own).invoke(PROMPT)
    assert own.model.generation_config.to_dict() == before


def test_a_generation_config_of_a_pipeline_of_ones_own_is_its_settings() -> None:
    """As one object, where transformers takes one."""
    try:
        own = own_pipeline(generation_config=GenerationConfig(top_k=3))
    except TypeError:
        pytest.skip("this transformers takes none")
    assert adopt(own).defaults["top_k"] == 3


def test_a_pipeline_that_writes_nothing_is_refused() -> None:
    """So is what is no pipeline at all."""
    folder = language_models.folder("llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    embedding = pipeline("feature-extraction", model=model, tokenizer=tokenizer)
    for wrong in (embedding, object()):
        with pytest.raises(UnsupportedModelError, match="does not generate text"):
            adopt(wrong)
    bert = BertLMHeadModel(checkpoints.bert_config())
    with pytest.raises(UnsupportedModelError, match="reads texts and writes none"):
        adopt(pipeline("text-generation", model=bert, tokenizer=checkpoints.tokenizer()))


def test_a_model_with_its_own_code_needs_trust(tmp_path: Path) -> None:
    """As embedding models do; with trust, it is its authors' model."""
    folder = remote_language_model.build(tmp_path / "memoryless")
    with pytest.raises(UnsafeModelError, match="MemorylessForCausalLM"):
        HuggingFacePipeline.from_model_id(str(folder), "text-generation")
    llm = HuggingFacePipeline.from_model_id(str(folder), "text-generation", model_kwargs={"trust_remote_code": True})
    prompt = llm.get_token_ids(PROMPT)
    expected = remote_language_model.greedy(prompt, 12)
    assert llm.invoke(PROMPT, max_new_tokens=12) == llm.generator._prompts.decode(expected)  # type: ignore[attr-defined]


def test_own_code_makes_no_weight(tmp_path: Path) -> None:
    """A head that the files lack is refused in its authors' class, too."""
    folder = remote_language_model.build(tmp_path / "memoryless", without="lm_head.weight")
    with pytest.raises(UninitializedWeightsError, match="lm_head"):
        load(folder, model_kwargs={"trust_remote_code": True})


def test_own_code_ties_its_head_as_transformers_4_did(tmp_path: Path) -> None:
    """A list of names meant: the head is the table of words, unless the configuration says otherwise."""
    folder = remote_language_model.build(tmp_path / "memoryless", without="lm_head.weight")
    code = folder / "modeling_memoryless.py"
    line = "    _supports_cache_class = False\n"
    code.write_text(code.read_text().replace(line, f"{line}    _tied_weights_keys = ['lm_head.weight']\n"))
    edit_json(folder / "config.json", tie_word_embeddings=True)
    model = load(folder, model_kwargs={"trust_remote_code": True}).model
    assert model.lm_head.weight is model.embed.weight
    assert torch.equal(model.lm_head.weight, remote_language_model.weights()["embed.weight"])
    edit_json(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(UninitializedWeightsError, match="lm_head"):
        load(folder, model_kwargs={"trust_remote_code": True})


def test_files_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    """A kernel from the hub is no part of the model."""
    folder = language_models.copy("llama", tmp_path / "model")
    edit_json(folder / "config.json", _attn_implementation="org/kernel")
    with pytest.raises(UnsafeModelError, match=r"config\.json"):
        HuggingFacePipeline.from_model_id(str(folder), "text-generation")


def test_an_engine_that_is_not_there() -> None:
    """The hint lists those that are."""
    with pytest.raises(UnsupportedModelError, match="torch"):
        HuggingFacePipeline.from_model_id(str(language_models.folder("llama")), "text-generation", backend="abacus")
    assert engines.installed()


def test_an_engine_that_is_half_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is the extra that brings the rest, and embeddings do without it."""
    folder = language_models.copy("gpt2", tmp_path / "model")  # another test may hold the shared one, already loaded
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "llguidance" else name)
    with pytest.raises(EngineNotInstalledError, match=r"langchain-localhf\[torch\]") as caught:
        HuggingFacePipeline.from_model_id(str(folder), "text-generation")
    assert "openvino" not in str(caught.value)
    assert engines.installed()


def test_an_engine_that_is_not_installed_for_a_compiled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint also names the engine that runs what was compiled, which has to be asked for."""
    store, name = tmp_path / "store", "org/compiled"
    compiled = Compilation(precision="f32", versions={}, files=())
    checkpoints.stored(store, name, language_models.folder("llama"), compiled=compiled)
    monkeypatch.setenv("LOCALHF_HOME", str(store))
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "llguidance" else name)
    with pytest.raises(EngineNotInstalledError) as caught:
        HuggingFacePipeline.from_model_id(name, "text-generation")
    assert caught.value.hint == 'pip install "langchain-localhf[torch]", or run what was compiled: backend="openvino"'


SCRIPT = """
from langchain_localhf import ChatHuggingFace, HuggingFacePipeline
llm = HuggingFacePipeline.from_model_id(sys.argv[1], "text-generation", pipeline_kwargs={"max_new_tokens": 4})
llm.invoke("Hello"), list(llm.stream("Hello")), llm.batch(["a", "b"]), llm.get_num_tokens("Hello")
chat = ChatHuggingFace(llm=llm)
chat.invoke("Hello"), chat.get_num_tokens("Hello")
"""


def test_nothing_reaches_for_the_network() -> None:
    """In a process of its own, with an environment that sends Hugging Face's libraries there."""
    assert network_events(SCRIPT, str(language_models.folder("qwen2"))) == []

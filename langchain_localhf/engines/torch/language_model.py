"""Language models in transformers, loaded from a folder, offline, and proved sound; or a user's own."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.pipelines.text_generation import ReturnType

from langchain_localhf.checkpoint.checkpoint import AUTO_MODELS, auto_model_for
from langchain_localhf.engines.torch.refusals import check_device, refuse_pickle
from langchain_localhf.engines.torch.remote_code import code_for, is_foreign, trusted_code
from langchain_localhf.engines.torch.soundness import prove_language_model, recorded_loading
from langchain_localhf.errors import CheckpointError, EngineNotInstalledError, InputError, UnsupportedModelError
from langchain_localhf.store.offline import hub_offline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.store.manifest import Manifest

# The classes that load models, and the architectures that each knows.
_LOADERS: dict[str, tuple[Any, Mapping[str, Any]]] = {
    "AutoModelForCausalLM": (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    "AutoModelForSeq2SeqLM": (AutoModelForSeq2SeqLM, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    "AutoModelForImageTextToText": (AutoModelForImageTextToText, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
}
# These named the folder, and have done their work.
_LOCATING = ("revision", "cache_dir", "cache_folder", "local_files_only", "force_download", "token")
_OF_THE_TOKENIZER = ("trust_remote_code", "use_fast", "subfolder")
_OF_THE_TOKENIZER_ALONE = ("use_fast",)


# The names that configurations have for the context window.
_WINDOWS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
# Distances between tokens are all that these see; the number in their configuration is what they were trained with.
_RELATIVE_POSITIONS = {"t5", "mt5", "umt5", "bloom"}


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A language model, ready to generate.

    Attributes:
        model: The model, on its device.
        tokenizer: Its tokenizer.
        processor: What prepares images for it; None for a model that reads none.
        task: What it is used for.
        prefix: What its configuration puts before each text for that task, such as `summarize: `.
        defaults: The settings for generating that it brings.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    processor: ProcessorMixin | None
    task: str
    prefix: str
    defaults: Mapping[str, Any]

    @property
    def context_window(self) -> int | None:
        """How many tokens the model can look at; None if it sees distances only, or does not say."""
        text = self.model.config.get_text_config()
        named = (getattr(text, name, None) for name in _WINDOWS)
        window = next((size for size in named if isinstance(size, int) and size > 0), None)
        return None if text.model_type in _RELATIVE_POSITIONS else window


def load_language_model(
    checkpoint: Checkpoint,
    *,
    task: str,
    name: str,
    device: int | str | None = None,
    device_map: str | dict[str, Any] | None = None,
    model_kwargs: dict[str, Any] | None = None,
    manifest: Manifest | None = None,
) -> LanguageModel:
    """Loads a language model.

    Args:
        checkpoint: The model's files, already checked to be complete and safe.
        task: What it is used for, such as `text-generation`.
        name: The model's repository, or another name for messages.
        device: A number for a GPU, -1 for the CPU, or a name as torch knows it; None for the first GPU, if any.
        device_map: How accelerate spreads the model over devices.
        model_kwargs: Passed to `from_pretrained`, but for settings for generating, which become the model's defaults.
        manifest: What the files should be, or None; code is compared with it before it runs.

    Raises:
        InputError: A setting is unknown, or device and device_map are both given.
        UnsafeModelError: The model needs code that the user does not trust, or is to be read as pickle.
        IncompleteModelError: The model needs code that is not here.
        IntegrityError: Its code is not what the manifest says.
        UninitializedWeightsError: The model would not run with the checkpoint's own weights.
        CheckpointError: The weights or the tokenizer are damaged.
        DeviceUnavailableError: There is no such device on this machine.
        UnsupportedModelError: The model is for another task, or its code does not run here.
    """
    settings, generating = _sorted_out(model_kwargs or {})
    auto_model = auto_model_for(task)
    if auto_model is None:
        raise UnsupportedModelError(f"there is no task {task!r} here", hint=f"use one of {', '.join(AUTO_MODELS)}")
    trusted = bool(settings.get("trust_remote_code"))
    code = code_for(checkpoint, trusted=trusted, name=name, manifest=manifest, auto_model=auto_model)
    if code is None:
        _check_task(checkpoint.config, task, auto_model, where=str(checkpoint.folder))
    placing = _placing(device, settings.pop("device_map", None), device_map)
    settings |= {"trust_remote_code": code is not None, "local_files_only": True, "use_safetensors": True}
    of_tokenizer = {key: settings[key] for key in (*_OF_THE_TOKENIZER, "local_files_only") if key in settings}
    settings = {key: value for key, value in settings.items() if key not in _OF_THE_TOKENIZER_ALONE}
    with hub_offline(), recorded_loading() as report, trusted_code(code, name=name):
        processor = None
        try:
            model = _LOADERS[auto_model][0].from_pretrained(str(checkpoint.folder), **settings, **placing)
            if task == "image-text-to-text":
                processor = AutoProcessor.from_pretrained(str(checkpoint.folder), **of_tokenizer)  # type: ignore[no-untyped-call]
            tokenizer = (
                processor.tokenizer
                if processor
                else AutoTokenizer.from_pretrained(str(checkpoint.folder), **of_tokenizer)
            )
        except TypeError as error:
            raise _unknown_setting(error) from error
        except ImportError as error:
            msg = f"these settings need a package that is not installed: {error}"
            raise EngineNotInstalledError(msg, hint="install it, or change model_kwargs") from error
        except torch.OutOfMemoryError:
            raise
        except (OSError, KeyError, RuntimeError, SafetensorError, ValueError, pickle.UnpicklingError) as error:
            msg = f"{checkpoint.folder} cannot be loaded: {error}"
            hint = "check model_kwargs, if there are any; else pull or copy the model again"
            raise CheckpointError(msg, hint=hint) from error
    if not placing and "quantization_config" not in settings:
        model.to(_device(device))
    prove_language_model(model, tokenizer, report, checkpoint)
    return _ready(model, tokenizer, processor, task=task, more_defaults=generating)


def adopt(pipeline: Any) -> LanguageModel:  # noqa: ANN401 - a transformers pipeline, or what looks like one
    """A user's own transformers pipeline: its model, its tokenizer and its settings.

    Raises:
        UnsupportedModelError: It does not generate text.
    """
    auto_model = auto_model_for(getattr(pipeline, "task", ""))
    if auto_model is None:
        msg = f"a pipeline for {getattr(pipeline, 'task', type(pipeline).__name__)!r} does not generate text"
        raise UnsupportedModelError(msg, hint=f"use a pipeline for one of {', '.join(AUTO_MODELS)}")
    if not is_foreign(pipeline.model):
        _check_task(pipeline.model.config.to_dict(), pipeline.task, auto_model, where="the model of this pipeline")
    own = {name: value for name, value in _given(pipeline).items() if name in _generation_settings()}
    own["return_full_text"] = vars(pipeline).get("_postprocess_params", {}).get("return_type") == ReturnType.FULL_TEXT
    processor: Any = getattr(pipeline, "processor", None)
    tokenizer = pipeline.tokenizer or processor.tokenizer
    return _ready(pipeline.model, tokenizer, processor, task=pipeline.task, more_defaults=own)


def _given(pipeline: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """The settings that were passed to `pipeline(...)`; where they are kept depends on the version of transformers."""
    kept = vars(pipeline)
    given = {**kept.get("_forward_params", {}), **kept.get("_generate_kwargs", {})}
    config = given.get("generation_config")
    given = {**(config.to_diff_dict() if config is not None else {}), **given}
    if (mixed := kept.get("generation_config")) is None:
        return given
    # Older versions mix them with transformers' own, which are told by their values.
    added, model = (getattr(pipeline, "_default_generation_config", None), pipeline.model.generation_config)
    others = [GenerationConfig._get_default_generation_params(), *(vars(part) for part in (added, model) if part)]  # noqa: SLF001 - nothing public says so
    names = {name for name, value in vars(mixed).items() if all(other.get(name) != value for other in others)}
    return given | {name: getattr(mixed, name) for name in names}


def _ready(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    processor: ProcessorMixin | None,
    *,
    task: str,
    more_defaults: Mapping[str, Any],
) -> LanguageModel:
    if not model.can_generate():
        msg = f"{type(model).__name__} does not generate text"
        raise UnsupportedModelError(msg, hint="use a causal language model")
    model.eval()  # type: ignore[no-untyped-call]
    of_task = dict((getattr(model.config, "task_specific_params", None) or {}).get(task) or {})
    prefix = str(of_task.pop("prefix", None) or "") if model.config.is_encoder_decoder else ""
    known = _generation_settings() if model.config.is_encoder_decoder else ()  # GPT-2's ask for samples of 50 tokens
    own = {name: value for name, value in of_task.items() if name in known}
    defaults = {**model.generation_config.to_diff_dict(), **own, **more_defaults}
    useful = {name: value for name, value in defaults.items() if value is not None and not name.endswith("token_id")}
    return LanguageModel(model, tokenizer, processor, task, prefix, useful)


def _generation_settings() -> frozenset[str]:
    config = GenerationConfig()  # type: ignore[no-untyped-call]
    public = (name for name in vars(config) if not name.startswith("_"))
    return frozenset(public) - {"transformers_version"}


def _sorted_out(model_kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `from_pretrained` takes, and the settings for generating that old programs put beside it."""
    refuse_pickle(model_kwargs)
    for name in ("load_in_8bit", "load_in_4bit"):
        if model_kwargs.get(name):
            msg = f"transformers no longer takes {name}"
            hint = f"pass quantization_config=BitsAndBytesConfig({name}=True), on a machine with a GPU"
            raise UnsupportedModelError(msg, hint=hint)
    names = _generation_settings()
    generating = {name: value for name, value in model_kwargs.items() if name in names}
    skipped = {*generating, *_LOCATING, "load_in_8bit", "load_in_4bit"}
    settings = {name: value for name, value in model_kwargs.items() if name not in skipped}
    if "torch_dtype" in settings:
        settings.setdefault("dtype", settings.pop("torch_dtype"))
    dtype = settings.get("dtype")
    if isinstance(dtype, str) and dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise InputError(f"there is no dtype {dtype!r}", hint='use "auto", "float32", "bfloat16" or "float16"')
    if "output_loading_info" in settings:
        raise InputError("output_loading_info is no setting here", hint="leave it out; what it says is checked")
    return settings, generating


def _check_task(config: Mapping[str, Any], task: str, auto_model: str, *, where: str) -> None:
    """Checks that the architecture is one for the task, before its weights are read."""
    kind = config.get("model_type")
    fitting = [other for other, loader in AUTO_MODELS.items() if _fits(config, loader)]
    if _fits(config, auto_model):
        return
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not fitting:
        msg = f"{where} is a {kind} model, which reads texts and writes none"
        raise UnsupportedModelError(msg, hint="use HuggingFaceEmbeddings for embeddings, or another model to generate")
    msg = f"{where} is a {kind} model, which is not for {task}"
    hint = f"use task={fitting[0]!r}" if fitting else "use a model that generates text"
    raise UnsupportedModelError(msg, hint=hint)


def _fits(config: Mapping[str, Any], auto_model: str) -> bool:
    kind, has_encoder = config.get("model_type"), bool(config.get("is_encoder_decoder"))
    if kind not in _LOADERS[auto_model][1]:
        return False
    if auto_model != "AutoModelForCausalLM":
        return True
    # transformers takes half of BART for a decoder, and BERT for one with a head.
    is_encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_decoder")
    return not has_encoder and not is_encoder


def _placing(device: int | str | None, nested: object, device_map: object) -> dict[str, Any]:
    """What tells `from_pretrained` where to put the model, if a device is not enough."""
    if device_map is None and nested is None:
        check_device(_device(device))
        return {}
    if device is not None or None not in (nested, device_map):
        other = "device" if device is not None else "model_kwargs['device_map']"
        msg = f"{other} and device_map both say where the model goes"
        raise InputError(
            msg, hint=f"leave one of them out: device_map={device_map or nested!r} needs accelerate, device does not"
        )
    if find_spec("accelerate") is None:
        msg = "device_map needs accelerate, which is not installed"
        raise EngineNotInstalledError(msg, hint="pip install accelerate; or pass device instead")
    return {"device_map": nested if device_map is None else device_map}


def _device(device: int | str | None) -> str:
    if device is None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator.type if accelerator is not None else "cpu"
    if isinstance(device, int):
        return "cpu" if device < 0 else f"cuda:{device}"
    return str(device)


def _unknown_setting(error: TypeError) -> InputError:
    text = str(error)
    what = text.rpartition("argument ")[2] if "unexpected keyword" in text else text
    msg = f"the model does not take these model_kwargs: {what}"
    return InputError(msg, hint="leave it out; settings for generating belong into pipeline_kwargs")

"""Tiny, seeded dual encoders, for texts and images, in the forms that exist in the wild; built once a run."""

from __future__ import annotations

import io
import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import sentencepiece
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from support.checkpoints import WORDS, edit_weights, plain, renamed, tokenizer

DIMENSION = 16
IMAGE_SIZE = 32
CLIP_TOKENS = 77
SIGLIP_TOKENS = 64
_START, _END = "<|startoftext|>", "<|endoftext|>"
# Large, so that every part of the model shows in the vectors.
_SPREAD = 0.3
_CLIP_IMAGES = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": IMAGE_SIZE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
# As the first version of transformers that had CLIP wrote it.
_CLIP_IMAGES_OF_OLD = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    "size": IMAGE_SIZE,
    "crop_size": IMAGE_SIZE,
    **{key: _CLIP_IMAGES[key] for key in ("do_resize", "do_center_crop", "do_normalize", "resample")},
    **{key: _CLIP_IMAGES[key] for key in ("image_mean", "image_std")},
}
_SIGLIP_IMAGES = {
    "image_processor_type": "SiglipImageProcessor",
    "processor_class": "SiglipProcessor",
    "do_resize": True,
    "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def picture(seed: int = 0, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A colourful picture of soft shapes, another one for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level tokenizer, which knows `WORDS` whole, and every byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces, merges = [*letters, *(f"{letter}</w>" for letter in letters)], []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merge = (parts[0], parts[1])
            parts = ["".join(merge), *parts[2:]]
            if merge not in merges:
                merges.append(merge)
                pieces.append(parts[0])
    vocabulary = {piece: index for index, piece in enumerate([*dict.fromkeys(pieces), _START, _END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CLIP_TOKENS)


def siglip_tokenizer() -> PreTrainedTokenizerFast:
    """As SigLIP's: lower-case pieces with a mark for the space, `</s>` behind, which also pads; no attention mask."""
    marks = [f"▁{word}" for word in WORDS]
    pieces = ["</s>", "<unk>", "▁", *marks, *(chr(c) for c in range(33, 127))]
    scores = [(piece, 0.0 if piece == "</s>" else -float(len(pieces)) / max(1, len(piece))) for piece in pieces]
    backend = Tokenizer(models.Unigram(scores, unk_id=1))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    special = {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=SIGLIP_TOKENS,
        model_input_names=["input_ids"],
        **special,
    )


@cache
def _home() -> Path:
    return Path(mkdtemp(prefix="localhf-tests-"))


@cache
def _clip() -> Path:
    folder = _home() / "clip"
    words = clip_tokenizer()
    shared = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
    text = shared | {
        "vocab_size": len(words),
        "max_position_embeddings": CLIP_TOKENS,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    vision = shared | {"image_size": IMAGE_SIZE, "patch_size": 8}
    torch.manual_seed(5)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIMENSION))
    _spread(model)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    _write_json(folder / "preprocessor_config.json", _CLIP_IMAGES | {"processor_class": "CLIPProcessor"})
    return folder


@cache
def _siglip() -> Path:
    folder = _home() / "siglip"
    words = siglip_tokenizer()
    shared = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": DIMENSION, "intermediate_size": 64}
    text = shared | {"vocab_size": len(words), "max_position_embeddings": SIGLIP_TOKENS}
    text |= {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
    vision = shared | {"image_size": IMAGE_SIZE, "patch_size": 8}
    torch.manual_seed(6)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    _spread(model)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    _write_json(folder / "preprocessor_config.json", _SIGLIP_IMAGES)
    return folder


@cache
def _relative(model_type: str) -> Path:
    folder = _home() / model_type
    words = tokenizer()
    config = AutoConfig.for_model(model_type)
    shared = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
    text = shared | {"vocab_size": len(words), "max_position_embeddings": 66, "project_dim": 32}
    text |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    vision = shared | {"image_size": IMAGE_SIZE, "patch_size": 8}
    torch.manual_seed(8)
    model = AutoModel.from_config(type(config)(text_config=text, vision_config=vision, projection_dim=DIMENSION))
    _spread(model)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    _write_json(folder / "preprocessor_config.json", _CLIP_IMAGES)
    return folder


def _spread(model: torch.nn.Module) -> None:
    """Random weights that are large enough to show, and biases that are not zero."""
    for name, weight in model.named_parameters():
        if "norm" not in name and not name.startswith("logit_"):
            torch.nn.init.normal_(weight, std=_SPREAD)


@cache
def _st_clip() -> Path:
    """As sentence-transformers published clip-ViT-B-32: everything in one folder, and the slow tokenizer's files."""
    folder = _home() / "st-clip"
    inner = Path(shutil.copytree(_clip(), folder / "0_CLIPModel"))
    _write_json(inner / "preprocessor_config.json", _CLIP_IMAGES_OF_OLD)
    vocabulary = json.loads((inner / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in vocabulary["merges"]]
    _write_json(inner / "vocab.json", vocabulary["vocab"])
    (inner / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    (inner / "tokenizer.json").unlink()
    special = {"bos_token": _START, "eos_token": _END, "pad_token": _END, "unk_token": _END}
    _write_json(inner / "special_tokens_map.json", special)
    _write_json(
        inner / "tokenizer_config.json",
        special | {"tokenizer_class": "CLIPTokenizer", "do_lower_case": True, "errors": "replace"},
    )
    _write_json(
        folder / "modules.json",
        [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}],
    )
    _write_json(folder / "config_sentence_transformers.json", {"__version__": {"sentence_transformers": "2.0.0"}})
    (folder / "README.md").write_text("# A tiny model\n")
    return folder


@cache
def _st_clip_saved_anew() -> Path:
    folder = _home() / "st-clip-anew"
    # Writing a model card asks the hub about the base model.
    SentenceTransformer(modules=[Transformer(str(_clip()))], device="cpu").save(str(folder), create_model_card=False)
    (folder / "README.md").write_text("# A tiny model\n")
    return folder


@cache
def _text_tower() -> Path:
    """As clip-ViT-B-32-multilingual-v1: another transformer, the mean, and a layer into the space of the images."""
    folder = _home() / "text-tower"
    base = plain(_home() / "text-tower-base")
    torch.manual_seed(7)
    words = Transformer(str(base))
    hidden = words.get_embedding_dimension()
    dense = Dense(hidden, DIMENSION, bias=False, activation_function=torch.nn.Identity())
    modules = [words, Pooling(hidden, "mean"), dense]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    edit_weights(folder, renamed("LayerNorm.gamma", "LayerNorm.weight"))
    edit_weights(folder, renamed("LayerNorm.beta", "LayerNorm.bias"))
    (folder / "README.md").write_text("# A tiny model\n")
    return folder


def clip(folder: Path) -> Path:
    """A plain Hugging Face CLIP, copied to `folder`."""
    return Path(shutil.copytree(_clip(), folder))


def siglip(folder: Path) -> Path:
    """A plain Hugging Face SigLIP, copied to `folder`."""
    return Path(shutil.copytree(_siglip(), folder))


def siglip_with_sentencepiece(folder: Path) -> Path:
    """The same, with its tokenizer as SigLIP's own repositories have it."""
    siglip(folder)
    (folder / "tokenizer.json").unlink()
    size = len(siglip_tokenizer())
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS), *WORDS]),
        model_writer=written,
        vocab_size=size,
        user_defined_symbols=[f"<{number}>" for number in range(size - 45)],
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(written.getvalue())
    stated = {"model_max_length": SIGLIP_TOKENS, "model_input_names": ["input_ids"], "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", stated | {"tokenizer_class": "SiglipTokenizer"})
    return folder


def st_clip(folder: Path) -> Path:
    """The same CLIP as sentence-transformers 2 saved it, in `0_CLIPModel`, copied to `folder`."""
    return Path(shutil.copytree(_st_clip(), folder))


def st_clip_in_root(folder: Path) -> Path:
    """The same, with the files in the model's folder itself."""
    st_clip(folder)
    for path in (folder / "0_CLIPModel").iterdir():
        path.rename(folder / path.name)
    (folder / "0_CLIPModel").rmdir()
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    _write_json(folder / "modules.json", [module | {"path": ""} for module in modules])
    return folder


def st_clip_saved_anew(folder: Path) -> Path:
    """The same CLIP as the installed sentence-transformers saves it, copied to `folder`."""
    return Path(shutil.copytree(_st_clip_saved_anew(), folder))


def relative(folder: Path, model_type: str) -> Path:
    """A plain model of an architecture that was made from CLIP, such as `chinese_clip`, copied to `folder`."""
    return Path(shutil.copytree(_relative(model_type), folder))


def text_tower(folder: Path) -> Path:
    """A model for texts only, whose vectors have the dimension of the CLIP's, copied to `folder`."""
    return Path(shutil.copytree(_text_tower(), folder))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")

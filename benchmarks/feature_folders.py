"""What the probes of the comparison read: sound models, and models of which something is missing or changed.

They are made by those who test this package, in `tests/support`; the packages that are compared find them ready.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import corpus
from prepare import minilm

TESTS = Path(__file__).resolve().parents[1] / "tests"
LOST = "encoder.layer.1.output.dense.weight"
PROMPTS = {"query": "red ", "document": "blue "}
# One as `hf download` leaves it, and one as it is after it was loaded by its name: then files are known to be absent.
CACHED, LOADED = "org/tiny", "org/loaded"
WEIGHTS = "model.safetensors"
_ABSENT = (
    "adapter_config.json", "added_tokens.json", "chat_template.jinja", "preprocessor_config.json",
    "processor_config.json", "special_tokens_map.json", "tokenizer.model", "video_preprocessor_config.json",
)  # fmt: skip


def models(home: Path) -> dict[str, str]:
    """Models as sentence-transformers and transformers read them, by what is the matter with them."""
    sys.path.insert(0, str(TESTS))
    from support import checkpoints, dual_encoders, language_models  # noqa: PLC0415 - only now to be found

    tiny = checkpoints.sentence_transformer(home / "tiny")
    lost = checkpoints.sentence_transformer(home / "lost")
    checkpoints.edit_weights(lost, checkpoints.without(LOST))
    other = checkpoints.sentence_transformer(home / "other")
    checkpoints.edit_weights(other, lambda tensors: {name: -tensor for name, tensor in tensors.items()})
    _note_absent_files(checkpoints.hub_cache(home / "hub", LOADED, tiny))
    checkpoints.hub_cache(home / "hub", CACHED, tiny)
    change_byte((checkpoints.hub_cache(home / "changed", CACHED, tiny) / WEIGHTS).resolve())
    dual_encoders.picture().save(home / "picture.png")
    made = {
        "tiny": tiny,
        "lost": lost,
        "other": other,
        "plain": checkpoints.plain(home / "plain"),
        "prompts": checkpoints.sentence_transformer(home / "prompts", prompts=PROMPTS),
        "own_code": checkpoints.with_own_code(home / "own_code"),
        "cross_encoder": checkpoints.cross_encoder(home / "cross_encoder"),
        "clip": dual_encoders.st_clip(home / "clip"),
        "lm": language_models.copy("qwen2", home / "lm"),
        "pickle": _pickled(checkpoints.sentence_transformer(home / "pickle")),
        "minilm": minilm(),
    }
    return {"home": str(home), **{name: str(path) for name, path in made.items()}}


def _note_absent_files(snapshot: Path) -> None:
    """Leaves the marks of a load: the names of files that the repository was asked for and does not have."""
    absent = snapshot.parents[1] / ".no_exist" / snapshot.name
    absent.mkdir(parents=True)
    for name in _ABSENT:
        (absent / name).touch()


def _pickled(folder: Path) -> Path:
    """The same weights as torch pickles them."""
    import torch  # noqa: PLC0415 - slow to import
    from safetensors.torch import load_file  # noqa: PLC0415 - as above

    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    return folder


def store(folders: dict[str, str]) -> None:
    """Our store: a model that is compiled, one to lock, and one of which a byte is changed."""
    from langchain_localhf import provisioning  # noqa: PLC0415 - loads torch

    for name in ("org/compiled", "org/locked", "org/changed"):
        provisioning.add(folders["tiny"], name)
    provisioning.compile_model("org/compiled", precision="f32")
    change_byte(provisioning.show("org/changed").folder / WEIGHTS)


def change_byte(path: Path) -> None:
    """Changes one bit of the last number in a file of weights."""
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def texts(home: Path, folders: dict[str, str]) -> dict[str, str]:
    """Real text, and its vectors from sentence-transformers with the real all-MiniLM-L6-v2, as files."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - slow to import

    asked = [*corpus.queries(16), *corpus.long(4)]
    truth = SentenceTransformer(folders["minilm"], device="cpu").encode(asked).tolist()
    paths = {"texts": home / "texts.json", "truth": home / "truth.json"}
    paths["texts"].write_text(json.dumps(asked), encoding="utf-8")
    paths["truth"].write_text(json.dumps(truth), encoding="utf-8")
    return {name: str(path) for name, path in paths.items()}

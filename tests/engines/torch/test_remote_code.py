"""Models that come with their own code: what their authors' code defines, and nothing else changed."""

from __future__ import annotations

import contextlib
import json
import linecache
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers.dynamic_module_utils
import transformers.pytorch_utils
from safetensors.torch import load_file
from support import checkpoints, foreign_forward, foreign_others, remote_checkpoints
from support.checkpoints import edit_json, edit_weights, hub_cache, renamed, stored, without
from support.foreign_models import STYLES, assert_same, encoded, open_anew
from support.remote_checkpoints import REPOSITORY, TEXTS
from torch.nn.functional import normalize
from transformers import CONFIG_MAPPING, BertConfig, BertModel, PreTrainedModel

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines.torch import remote_code
from langchain_localhf.engines.torch.accounting import account
from langchain_localhf.engines.torch.encoder import TorchEncoder
from langchain_localhf.errors import (
    UninitializedWeightsError,
    UnsafeModelError,
)
from langchain_localhf.store.model_store import LocalModel

if TYPE_CHECKING:
    from pathlib import Path


class _Writes:
    """Lists the files that are opened for writing while it is on; an audit hook cannot be removed."""

    def __init__(self) -> None:
        self._opened: list[str] | None = None
        sys.addaudithook(self._hook)

    def on(self, opened: list[str]) -> None:
        """Starts the list."""
        self._opened = opened

    def off(self) -> None:
        """Ends it."""
        self._opened = None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._opened is not None and event in {"open", "os.mkdir", "os.rename", "os.symlink"}:
            writes = event != "open" or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
            if writes:
                self._opened.append(f"{event} {arguments[0]}")


_writes = _Writes()


class TestTheAuthorsVectors:
    """With trust, every style gives what its weights mean, offline."""

    @pytest.mark.parametrize("style", STYLES)
    def test_every_style(self, style: str, tmp_path: Path) -> None:
        """The vectors equal those of plain torch with the same weights; a second load gives the same bits."""
        foreign = STYLES[style]()
        folder = foreign.build(tmp_path / "model")
        loaded = open_anew(folder)
        vectors = encoded(loaded)
        assert_same(vectors, foreign.vectors(folder))
        assert torch.equal(encoded(open_anew(folder)), vectors)
        assert_same(encoded(loaded), vectors)  # after longer texts, with whatever has grown by then

    @pytest.mark.parametrize("style", STYLES)
    def test_the_order_of_words_matters(self, style: str, tmp_path: Path) -> None:
        """What transformers 5 loses of these models is where a word stands."""
        loaded = open_anew(STYLES[style]().build(tmp_path / "model"))
        forward, backward = normalize(encoded(loaded, [TEXTS[1], " ".join(reversed(TEXTS[1].split()))]))
        assert float(forward @ backward) < 0.999

    def test_a_pooling_of_its_own(self, tmp_path: Path) -> None:
        """A part in `modules.json` is of the repository, behind a transformer that is not."""
        folder = remote_checkpoints.with_own_pooling(tmp_path / "pooling")
        bert = BertModel.from_pretrained(folder)
        score = load_file(folder / "1_WeightedPooling" / "model.safetensors")
        encode = checkpoints.tokenizer()
        with torch.inference_mode():
            tokens = [bert(torch.tensor([encode(text)["input_ids"]])).last_hidden_state[0] for text in TEXTS]
        expected = torch.stack([foreign_forward.weighted(states, score) for states in tokens])
        assert_same(encoded(open_anew(folder)), expected)

    def test_weights_that_no_vector_needs(self, jina: Path) -> None:
        """A pooler that the checkpoint lacks and mean pooling does not use is no reason to refuse the model."""
        assert open_anew(jina).encoder.unused_weights == ("0.model.pooler.bias", "0.model.pooler.weight")

    def test_a_transformer_in_a_subfolder(self, tmp_path: Path) -> None:
        """Its code lies in the model's folder all the same, where transformers looks for it."""
        foreign = remote_checkpoints.growing()
        folder = foreign.build(tmp_path / "model")
        expected = foreign.vectors(folder)
        (folder / "0_Transformer").mkdir()
        for path in folder.glob("*"):
            if path.is_file() and path.name not in {"modules.json", *foreign.code}:
                path.rename(folder / "0_Transformer" / path.name)
        modules = json.loads((folder / "modules.json").read_text())
        modules[0]["path"] = "0_Transformer"
        (folder / "modules.json").write_text(json.dumps(modules))
        assert_same(encoded(open_anew(folder)), expected)

    def test_half_precision(self, jina: Path) -> None:
        """What the constructor computes is computed in the precision that the model runs in."""
        loaded = open_anew(jina, model_kwargs={"dtype": "bfloat16"})
        vectors = normalize(encoded(loaded))
        assert float((vectors * normalize(remote_checkpoints.alibi().vectors(jina))).sum(-1).min()) > 0.99

    def test_a_cache_of_hugging_face(self, tmp_path: Path) -> None:
        """Code of another repository may lie beside the model's in the cache that Hugging Face's tools fill."""
        foreign = remote_checkpoints.alibi()
        folder = foreign.build(tmp_path / "model")
        code = next((folder / "code").iterdir()).rename(tmp_path / "implementation")
        hub_cache(tmp_path / "hub", REPOSITORY, code)
        snapshot = hub_cache(tmp_path / "hub", "org/model", folder)
        assert_same(encoded(open_anew(LocalModel("org/model", snapshot))), foreign.vectors(folder))

    @pytest.mark.parametrize("own_model", [True, False])
    def test_a_transformer_module_of_its_own(self, own_model: bool, tmp_path: Path) -> None:  # noqa: FBT001
        """As jina-embeddings-v3 has one, around a model of its own or of transformers."""
        foreign = remote_checkpoints.growing()
        build = foreign.build if own_model else checkpoints.sentence_transformer
        folder = build(tmp_path / "model")
        expected = foreign.vectors(folder) if own_model else encoded(open_anew(folder))
        (folder / "custom_st.py").write_text(foreign_others.TRANSFORMER)
        modules = json.loads((folder / "modules.json").read_text())
        modules[0]["type"] = "custom_st.Transformer"
        (folder / "modules.json").write_text(json.dumps(modules))
        assert_same(encoded(open_anew(folder)), expected)
        edit_weights(folder, without("layer.1.norm" if own_model else "layer.1.output"))
        with pytest.raises(UninitializedWeightsError):
            open_anew(folder)

    def test_a_model_of_transformers_inside(self, tiny: Path) -> None:
        """It is judged by the marks of transformers, which may read a weight under another name than it has."""

        class Own(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = BertModel(checkpoints.bert_config())
                self.head = torch.nn.Linear(2, 2)

        Own.__module__ = f"{remote_code.NAMESPACE}.own"
        edit_weights(tiny, renamed("query", "q"))
        assert sorted(account(Own(), Checkpoint.read(tiny), computed=()).fresh) == ["head.bias", "head.weight"]

    def test_names_of_an_older_time(self, jina: Path) -> None:
        """As checkpoints that were converted from TensorFlow have them."""
        expected = remote_checkpoints.alibi().vectors(jina)
        edit_weights(jina, renamed("LayerNorm.weight", "LayerNorm.gamma"))
        edit_weights(jina, renamed("LayerNorm.bias", "LayerNorm.beta"))
        assert_same(encoded(open_anew(jina)), expected)

    def test_a_model_that_names_itself(self, store_home: Path, tmp_path: Path) -> None:
        """Its own repository in full is its own folder."""
        foreign = remote_checkpoints.growing()
        folder = foreign.build(tmp_path / "model")
        edit_json(folder / "config.json", auto_map={"AutoModel": "org/model--bert_layers.BertModel"})
        assert_same(encoded(open_anew(stored(store_home, "org/model", folder))), foreign.vectors(folder))

    def test_models_without_code_need_no_trust(self, tiny: Path) -> None:
        """And with trust they are the same."""
        assert torch.equal(encoded(open_anew(tiny, trusted=False)), encoded(open_anew(tiny, trusted=True)))

    def test_what_transformers_took_over(self, tiny: Path) -> None:
        """Where transformers has the authors' own classes, nobody is asked, and their code is not needed."""
        native = {"AutoConfig": "org/nomic--c.NomicBertConfig", "AutoModel": "org/nomic--m.NomicBertModel"}
        edit_json(tiny / "config.json", model_type="nomic_bert", auto_map=native)
        if "nomic_bert" not in CONFIG_MAPPING:  # the oldest transformers that this package runs with
            with pytest.raises(UnsafeModelError):
                open_anew(tiny, trusted=False)
            return
        for trusted in (False, True):
            with pytest.raises(UninitializedWeightsError):  # BERT's weights do not fit; it was loaded, by transformers
                open_anew(tiny, trusted=trusted)


class TestKeptApart:
    """Foreign code gets what it needs; nothing else is changed, written or asked for."""

    def test_transformers_stays_as_it_is(self, jina: Path) -> None:
        """What transformers 5 removed stays removed for everyone else."""
        before = {key: vars(BertConfig).get(key) for key in ("is_decoder", "add_cross_attention")}
        asked = transformers.dynamic_module_utils.get_cached_module_file
        open_anew(jina)
        assert not hasattr(PreTrainedModel, "get_head_mask")
        assert not hasattr(transformers.pytorch_utils, "find_pruneable_heads_and_indices")
        assert "transformers.onnx" not in sys.modules
        assert {key: vars(BertConfig).get(key) for key in before} == before
        assert transformers.dynamic_module_utils.get_cached_module_file is asked

    def test_nothing_is_written(self, jina: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A read-only file system will do: code runs from memory."""
        monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
        opened: list[str] = []
        _writes.on(opened)
        try:
            encoded(open_anew(jina))
        finally:
            _writes.off()
        assert opened == []
        assert not (tmp_path / "modules").exists()

    def test_a_file_that_changes_later(self, jina: Path) -> None:
        """The source that tracebacks and torch.jit read is the source that ran."""
        model = open_anew(jina).encoder._model[0].model  # type: ignore[attr-defined]
        source = next(jina.rglob("modeling_bert.py"))
        source.write_text("something else")
        file = type(model).forward.__code__.co_filename
        linecache.checkcache()
        assert "".join(linecache.getlines(file)) == remote_checkpoints.alibi().code[source.relative_to(jina).as_posix()]

    def test_equal_code_is_shared_and_other_code_is_not(self, tmp_path: Path) -> None:
        """Two models with the same code have the same classes; a changed file makes another module."""
        first, second, third = (remote_checkpoints.growing().build(tmp_path / name) for name in ("a", "b", "c"))
        with (third / "bert_layers.py").open("a") as file:
            file.write("\n# another\n")
        classes = [type(open_anew(folder).encoder._model[0].model) for folder in (first, second, third)]  # type: ignore[attr-defined]
        assert classes[0] is classes[1]
        assert classes[0] is not classes[2]

    def test_another_thread(self, jina: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """While a model loads with trust, a model that loads elsewhere in the process gets none of it."""
        checkpoint = Checkpoint.read(jina)
        code = remote_code.read_code(checkpoint, checkpoint.foreign_code(), name="jina", manifest=None)
        asked: list[str] = []

        def looked_up(repository: str, module_file: str, **settings: Any) -> str:
            asked.append(f"{repository} {module_file}")
            raise OSError

        monkeypatch.setattr(transformers.dynamic_module_utils, "get_cached_module_file", looked_up)

        def elsewhere() -> None:
            with contextlib.suppress(OSError):
                transformers.dynamic_module_utils.get_class_from_dynamic_module(
                    f"{REPOSITORY}--modeling_bert.AlibiBertModel", "org/x"
                )

        with remote_code.trusted_code(code, name="jina"):
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
        assert asked == [f"{REPOSITORY} modeling_bert.py"]

    def test_the_lock_of_the_engine(self, jina: Path) -> None:
        """The engine refuses what it was not told to trust, whatever was checked before."""
        with pytest.raises(UnsafeModelError, match=r"modeling_bert\.AlibiBertModel"):
            TorchEncoder(Checkpoint.read(jina), name="jina", pooling=None, model_kwargs={"device": "cpu"})

    def test_the_bolt_behind_the_lock(self, jina: Path) -> None:
        """Without trust, no code runs, whoever asks for it and however it was asked for."""
        with remote_code.trusted_code(None, name="jina"), pytest.raises(UnsafeModelError, match="modeling_bert"):
            transformers.dynamic_module_utils.get_class_from_dynamic_module(
                "modeling_bert.AlibiBertModel", str(jina), trust_remote_code=True
            )

    def test_the_fingerprint_is_of_the_code_too(self, tmp_path: Path) -> None:
        """Other code makes other vectors."""
        folder = remote_checkpoints.growing().build(tmp_path / "model")
        before = open_anew(folder).fingerprint()
        code = folder / "bert_layers.py"
        code.write_text(code.read_text().replace("hidden = layer(", "hidden = 2 * layer("))
        assert open_anew(folder).fingerprint() != before

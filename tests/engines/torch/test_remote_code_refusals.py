"""Models whose own code is not trusted, not here, or not right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from support import checkpoints, foreign_forward, remote_checkpoints
from support.checkpoints import edit_weights, flip_byte, stored, without
from support.foreign_models import STYLES, open_anew
from support.remote_checkpoints import REPOSITORY, TEXTS

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines.torch import remote_code
from langchain_localhf.errors import (
    CheckpointError,
    IncompleteModelError,
    IntegrityError,
    UninitializedWeightsError,
    UnsafeModelError,
    UnsupportedModelError,
)
from langchain_localhf.store.model_store import LocalModel

if TYPE_CHECKING:
    from pathlib import Path


GROWING = "(globals().setdefault('calls', []).append(1) or len(globals()['calls']))"  # 1, then 2, then 3


class TestRefused:
    """What is not right, is not trusted, or is not here."""

    def test_without_trust(self, store_home: Path, jina: Path) -> None:
        """Before any weight is read: which code of which repository, and both ways forward."""
        (jina / "model.safetensors").write_bytes(b"no weights")
        with pytest.raises(UnsafeModelError) as caught:
            open_anew(stored(store_home, "org/jina", jina), trusted=False)
        code = "configuration_bert.AlibiBertConfig, modeling_bert.AlibiBertModel"
        assert f"{code} of {REPOSITORY} (named in config.json)" in str(caught.value)
        assert "localhf pull --trust-remote-code org/jina" in str(caught.value.hint)
        assert 'model_kwargs={"trust_remote_code": True}' in str(caught.value.hint)
        assert "a model without code" in str(caught.value.hint)

    def test_the_commit_of_the_code(self, store_home: Path, tmp_path: Path) -> None:
        """Where the manifest knows the commit, the message says it."""
        folder = remote_checkpoints.growing().build(tmp_path / "model")
        with pytest.raises(UnsafeModelError, match=f"BertModel of its own repository at commit {checkpoints.COMMIT}"):
            open_anew(stored(store_home, "org/model", folder), trusted=False)

    def test_a_folder_without_trust(self, jina: Path) -> None:
        """Nothing can be pulled for a folder that came from nowhere; the trust is the same."""
        with pytest.raises(UnsafeModelError) as caught:
            open_anew(jina, trusted=False)
        assert "pull" not in str(caught.value.hint)

    def test_a_part_without_trust(self, tmp_path: Path) -> None:
        """The code of a part is code."""
        with pytest.raises(UnsafeModelError, match=r"own_pooling\.WeightedPooling .* \(named in modules\.json\)"):
            open_anew(remote_checkpoints.with_own_pooling(tmp_path / "pooling"), trusted=False)

    @pytest.mark.parametrize(
        ("style", "part"),
        [
            ("jina", "encoder.layer.1.mlp"),
            ("jina", "encoder.layer.0.attention.query.bias"),
            ("MosaicBERT", "encoder.layer.1.norm"),
            ("nomic", "layers.1.out_proj"),
            ("nomic without its own loader", "layers.0.norm.weight"),
            ("mixture of experts", "router"),
        ],
    )
    def test_missing_weights(self, style: str, part: str, tmp_path: Path) -> None:
        """Also where the model's own loader says nothing of them."""
        folder = STYLES[style]().build(tmp_path / "model")
        edit_weights(folder, without(part))
        with pytest.raises(UninitializedWeightsError) as caught:
            open_anew(folder)
        assert all(part in name for name in caught.value.missing if "pooler" not in name)
        assert any(part in name for name in caught.value.missing)

    def test_missing_weights_of_a_pooling(self, tmp_path: Path) -> None:
        """Parts in `modules.json` are accounted for as the transformer is."""
        folder = remote_checkpoints.with_own_pooling(tmp_path / "pooling")
        edit_weights(folder / "1_WeightedPooling", without("score.weight"))
        with pytest.raises(UninitializedWeightsError) as caught:
            open_anew(folder)
        assert caught.value.missing == ("1.score.weight",)

    def test_an_expert_that_the_probe_does_not_reach(self, tmp_path: Path) -> None:
        """That its weights change no vector of the probe says nothing."""
        foreign = remote_checkpoints.experts()
        folder = foreign.build(tmp_path / "model")
        encode = checkpoints.tokenizer()
        probes = ("the weather is nice", "Quarterly report: tax filings are due")
        reached = set().union(
            *(
                foreign_forward.chosen_experts(load_file(folder / "model.safetensors"), torch.tensor(tokens))
                for tokens in encode(list(probes))["input_ids"]
            )
        )
        idle = min(set(range(32)) - reached)
        edit_weights(folder, without(f"experts.{idle}."))
        with pytest.raises(UninitializedWeightsError) as caught:
            open_anew(folder)
        assert caught.value.missing == (f"0.model.experts.{idle}.bias", f"0.model.experts.{idle}.weight")

    @pytest.mark.parametrize("style", ["jina", "nomic"])
    def test_weights_without_a_place(self, style: str, tmp_path: Path) -> None:
        """A checkpoint with one layer more than the model."""
        folder = STYLES[style]().build(tmp_path / "model")
        extra = "encoder.layer.2.extra" if style == "jina" else "layers.2.extra"
        edit_weights(folder, lambda tensors: tensors | {extra: torch.ones(2)})
        with pytest.raises(UninitializedWeightsError) as caught:
            open_anew(folder)
        assert caught.value.unexpected == (extra,)

    @pytest.mark.parametrize("style", ["jina", "nomic"])
    def test_altered_weights(self, style: str, tmp_path: Path) -> None:
        """A class that initialises a weight again after it was read."""
        folder = STYLES[style]().build(tmp_path / "model")
        marker = "def get_input_embeddings(self):"
        zero = "self.get_input_embeddings().weight.data[-1].zero_()"
        again = f"def eval(self):\n        {zero}\n        return super().eval()"
        code = next(path for path in folder.rglob("modeling_*.py"))
        code.write_text(code.read_text().replace(marker, f"{again}\n\n    {marker}"))
        with pytest.raises(UninitializedWeightsError, match="altered") as caught:
            open_anew(folder)
        assert [name.rpartition("embeddings")[1] for name in caught.value.mismatched] == ["embeddings"]

    @pytest.mark.parametrize(
        ("style", "old", "new", "problem"),
        [
            ("jina", "(-slopes[", "(float('nan') * slopes[", "holds values that are not numbers"),
            ("jina", "(-slopes[", "(torch.rand(()) * slopes[", "differs from what its constructor computes a second"),
            ("MosaicBERT", "self.alibi = -slopes", "self.alibi = float('nan') * slopes", "not numbers"),
            ("MosaicBERT", "torch.tensor(1.0 + index)", "torch.rand(())", r"encoder\.scales\.0 .* differs"),
            ("MosaicBERT", "torch.tensor(1.0 + index)", "torch.ones((), device='meta')", "was left without values"),
            ("MosaicBERT", "torch.tensor(1.0 + index)", "(torch.rand(1), index)", r"encoder\.scales\.0\.0 .* differs"),
            ("MosaicBERT", "torch.tensor(1.0 + index)", "{'a': torch.rand(1)}", r"encoder\.scales\.0\.a .* differs"),
            ("MosaicBERT", "torch.tensor(1.0 + index)", f"torch.ones((1,) * {GROWING})", r"scales\.0 .* differs"),
            ("nomic", "self.base **", "torch.rand(()) **", r"rotary_emb\.inv_freq .* differs"),
        ],
    )
    def test_wrong_computed_tensors(self, style: str, old: str, new: str, problem: str, tmp_path: Path) -> None:
        """Buffers, plain attributes and lists are held to what the constructor computes."""
        folder = STYLES[style]().build(tmp_path / "model")
        for path in folder.rglob("*.py"):
            path.write_text(path.read_text().replace(old, new))
        with pytest.raises(CheckpointError, match=problem):
            open_anew(folder)

    def test_what_transformers_leaves_in_a_buffer(self, jina: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The check sees the garbage by itself, should a later transformers build models in yet another way."""
        code = open_anew(jina).encoder._model[0].model  # type: ignore[attr-defined]
        monkeypatch.delattr(type(code).__mro__[1], "_move_missing_keys_from_meta_to_device")
        # Memory that nobody has written to may hold the right numbers, of the model before; so it is filled.
        torch.use_deterministic_algorithms(mode=True)
        try:
            with pytest.raises(CheckpointError, match=r"encoder\.alibi .* differs|encoder\.alibi .* not numbers"):
                open_anew(jina)
        finally:
            torch.use_deterministic_algorithms(mode=False)

    def test_code_that_is_gone(self, jina: Path) -> None:
        """The message names the repository, and the command that brings its code."""
        for path in (jina / "code").rglob("configuration_bert.py"):
            path.unlink()
        with pytest.raises(IncompleteModelError) as caught:
            open_anew(LocalModel("org/jina", jina))
        assert f"configuration_bert.py of {REPOSITORY}" in str(caught.value)
        assert caught.value.hint == ("bring it here once, with a network: localhf pull --trust-remote-code org/jina")

    def test_a_file_that_the_code_imports_is_gone(self, tmp_path: Path) -> None:
        """Every file that the code needs is asked for before any runs."""
        folder = remote_checkpoints.rotary().build(tmp_path / "model")
        with (folder / "configuration_rotary.py").open("a") as file:
            file.write(
                "\ntry:\n    from .optional import x\nexcept ImportError:\n    x = None\nfrom .needed import y\n"
            )
        with pytest.raises(IncompleteModelError) as caught:
            open_anew(folder)
        assert caught.value.missing == ("needed.py",)

    @pytest.mark.parametrize("trusted", [True, False])
    def test_a_changed_byte_of_code(self, trusted: bool, store_home: Path, jina: Path) -> None:  # noqa: FBT001
        """Code that differs from the manifest does not run."""
        model = stored(store_home, "org/jina", jina)
        code = next(model.folder.rglob("modeling_bert.py"))
        flip_byte(code)
        with pytest.raises(IntegrityError) as caught:
            open_anew(model, trusted=trusted)
        assert caught.value.changed == (code.relative_to(model.folder).as_posix(),)

    def test_what_was_read_is_what_is_compared(self, store_home: Path, jina: Path) -> None:
        """The engine compares the bytes that it runs, whatever was compared before."""
        model = stored(store_home, "org/jina", jina)
        (model.folder / "extra.py").write_text("raise SystemExit")
        (model.folder / next(iter(remote_checkpoints.alibi().code))).unlink()
        checkpoint = Checkpoint.read(model.folder)
        with pytest.raises(IntegrityError) as caught:
            remote_code.read_code(checkpoint, checkpoint.foreign_code(), name="org/jina", manifest=model.manifest)
        assert (caught.value.extra, len(caught.value.missing)) == (("extra.py",), 1)

    def test_a_package_that_is_not_installed(self, jina: Path) -> None:
        """The error names it."""
        code = next(jina.rglob("modeling_bert.py"))
        code.write_text(f"import einops_of_tomorrow.layers\n{code.read_text()}")
        with pytest.raises(UnsupportedModelError, match=r"einops_of_tomorrow") as caught:
            open_anew(jina)
        assert caught.value.hint == "pip install einops_of_tomorrow"

    @pytest.mark.parametrize(
        ("line", "error", "problem"),
        [
            ("from transformers.pytorch_utils import never_was", UnsupportedModelError, "other versions.*never_was"),
            ("1 / 0", CheckpointError, "fails when it is run: ZeroDivisionError"),
            ("AlibiBertModel = None; del AlibiBertModel", CheckpointError, "has no attribute 'AlibiBertModel'"),
            ("def f(:", CheckpointError, "is no valid Python"),
            (
                (
                    "from transformers.dynamic_module_utils import get_class_from_dynamic_module as get\n"
                    "get('org/gone--modeling.Gone', 'org/gone')"
                ),
                IncompleteModelError,
                "modeling.py of org/gone",
            ),
            (
                (
                    "init = AlibiBertModel.__init__\ndef once(self, *args, **kwargs):\n"
                    f"    assert {GROWING} == 1, 'twice'\n    init(self, *args, **kwargs)\n"
                    "AlibiBertModel.__init__ = once"
                ),
                UnsupportedModelError,
                "builds a AlibiBertModel once, but fails the second time: twice",
            ),
        ],
    )
    def test_code_that_does_not_run(self, line: str, error: type[Exception], problem: str, jina: Path) -> None:
        """Each in words that say where to look."""
        with next(jina.rglob("modeling_bert.py")).open("a") as file:
            file.write(f"\n{line}\n")
        with pytest.raises(error, match=problem):
            open_anew(jina)

    def test_several_processes(self, jina: Path) -> None:
        """They could not import the code, and would wait for each other for ever."""
        with pytest.raises(UnsupportedModelError, match="several processes"):
            open_anew(jina).encoder.encode(TEXTS, kind="document", encode_kwargs={}, multi_process=True)

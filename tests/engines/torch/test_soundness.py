"""A model runs with its checkpoint's own weights, all of them, or not at all."""

from __future__ import annotations

import io
import logging
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from support import checkpoints
from support.checkpoints import edit_json, edit_weights, without
from transformers import BertModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.engines.torch import soundness
from langchain_localhf.engines.torch.encoder import TorchEncoder
from langchain_localhf.engines.torch.soundness import recorded_loading
from langchain_localhf.errors import (
    CheckpointError,
    IncompleteModelError,
    UninitializedWeightsError,
    UnsafeModelError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor


def _open(folder: Path, pooling: str | None = None, **model_kwargs: Any) -> TorchEncoder:
    checkpoint = Checkpoint.read(folder)
    checkpoint.require_trust(trust_remote_code=model_kwargs.get("trust_remote_code", False))
    checkpoint.require_encoder(pooling=pooling)
    return TorchEncoder(checkpoint, name="tiny", pooling=pooling, model_kwargs={"device": "cpu", **model_kwargs})


def _filled(name: str, value: float, row: int) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors[name][row] = value
        return tensors

    return change


class TestFreshWeights:
    """Weights that the checkpoint does not hold."""

    @pytest.mark.parametrize(
        "part",
        [
            "encoder.layer.1.attention.self.query.bias",
            "encoder.layer.0.output.LayerNorm.weight",
            "embeddings.word_embeddings.weight",
            "embeddings.position_embeddings.weight",
        ],
    )
    def test_one_missing_tensor(self, tiny: Path, part: str) -> None:
        """Any tensor that shapes a vector is refused by its name, also where its default is always the same."""
        edit_weights(tiny, without(part))
        with pytest.raises(
            UninitializedWeightsError, match=r"1 missing in the checkpoint, so they would be random"
        ) as caught:
            _open(tiny)
        assert caught.value.missing == (f"0.model.{part}",)

    def test_a_config_with_more_layers(self, tiny: Path) -> None:
        """Every tensor of the layer that is not there is listed; the message shows the first ones."""
        edit_json(tiny / "config.json", num_hidden_layers=checkpoints.LAYERS + 1)
        with pytest.raises(UninitializedWeightsError, match=r"16 missing .* and 10 more") as caught:
            _open(tiny)
        assert len(caught.value.missing) == 16
        assert all("encoder.layer.2." in name for name in caught.value.missing)

    def test_an_unused_pooler(self, tmp_path: Path) -> None:
        """A pooler without weights changes no mean, so the model loads; the tensors are listed, their values stay."""
        folder = checkpoints.plain(tmp_path / "plain")
        edit_weights(folder, without("pooler"))
        encoder = _open(folder, pooling="mean")
        assert encoder.unused_weights == ("0.model.pooler.dense.bias", "0.model.pooler.dense.weight")
        complete = _open(checkpoints.plain(tmp_path / "complete"), pooling="mean")
        assert np.array_equal(encoder.probe_vectors, complete.probe_vectors)

    def test_shaken_values_come_back(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whether a tensor turns out to matter or not, its values are restored to the bit."""
        model = _open(tiny)._model
        layer = model[0].model.encoder.layer[0].output.dense
        tensors = {"weight": layer.weight, "bias": layer.bias}
        before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        run = lambda: model.encode(["a red ship"])  # noqa: E731
        assert soundness._depends_on(run, tensors, run()) is True
        assert soundness._depends_on(lambda: np.zeros(1), tensors, np.zeros(1)) is False
        assert all(torch.equal(tensors[name], before[name]) for name in before)

    def test_a_shaken_table_that_leads_nowhere_matters(self) -> None:
        """A tensor of positions that is out of range when it is shaken is one that is used."""
        positions, table = torch.arange(3), torch.nn.Embedding.from_pretrained(torch.zeros(3, 1))

        def run() -> NDArray[np.float32]:
            return table(positions).detach().numpy()

        assert soundness._depends_on(run, {"ids": positions}, run()) is True
        assert positions.tolist() == [0, 1, 2]


class TestLeftOverWeights:
    """Weights of the checkpoint that the model has no place for."""

    def test_a_config_with_fewer_layers(self, tiny: Path) -> None:
        """Left alone, transformers would drop the upper layers; here they are listed."""
        edit_json(tiny / "config.json", num_hidden_layers=1)
        with pytest.raises(UninitializedWeightsError, match="the model has no place for") as caught:
            _open(tiny)
        assert len(caught.value.unexpected) == 16
        assert caught.value.missing == ()

    def test_a_head_is_no_such_weight(self, tmp_path: Path) -> None:
        """A checkpoint from pre-training has a head that no encoder needs; it loads."""
        folder = checkpoints.with_masked_language_head(tmp_path / "head")
        assert any(name.startswith("cls.") for name in Checkpoint.read(folder).tensors)
        assert _open(folder, pooling="mean").dimension == checkpoints.DIMENSION

    @pytest.mark.parametrize("name", ["embeddings.position_ids", "encoder.rotary_emb.inv_freq"])
    def test_computed_tensors_are_no_such_weights(self, name: str) -> None:
        """What is computed from the config may lie in old checkpoints."""
        assert soundness._left_over(BertModel(checkpoints.bert_config()), {name}) == []


class TestOwnCode:
    """Models that bring their own code."""

    def test_a_class_made_from_transformers_own(self, tmp_path: Path) -> None:
        """It is loaded and proved as any other; see `test_remote_code` for the styles that exist in the wild."""
        folder = checkpoints.with_own_code(tmp_path / "own")
        assert _open(folder, trust_remote_code=True).unused_weights == ()
        edit_weights(folder, without("layer.1.output.gated"))
        with pytest.raises(UninitializedWeightsError):
            _open(folder, trust_remote_code=True)

    def test_an_architecture_of_its_own(self, tiny: Path) -> None:
        """Without trust, transformers has no class for it; the error names the code."""
        edit_json(tiny / "config.json", model_type="own", auto_map={"AutoModel": "modeling_own.OwnModel"})
        with pytest.raises(UnsafeModelError, match=r"modeling_own\.OwnModel .*named in config"):
            _open(tiny)

    def test_an_unknown_architecture(self, tiny: Path) -> None:
        """Without code either, only a newer transformers can help."""
        edit_json(tiny / "config.json", model_type="of-tomorrow")
        with pytest.raises(UnsupportedModelError, match="does not know: of-tomorrow") as caught:
            _open(tiny)
        assert caught.value.hint == "install a newer transformers"


class TestMismatchedWeights:
    """Weights of another shape than the model's."""

    @pytest.mark.parametrize("nested", [{}, {"ignore_mismatched_sizes": True}])
    def test_they_are_named(self, tiny: Path, nested: dict[str, object]) -> None:
        """By itself, transformers only says that some do not fit, or nothing at all when it is told to ignore them."""
        edit_json(tiny / "config.json", intermediate_size=48)
        with pytest.raises(UninitializedWeightsError, match="of another shape") as caught:
            _open(tiny, model_kwargs=nested)
        assert len(caught.value.mismatched) == 3 * checkpoints.LAYERS
        assert nested in ({}, {"ignore_mismatched_sizes": True})


class TestValues:
    """Weights that are no numbers."""

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("row", [5, -1])
    def test_they_are_named(self, tiny: Path, value: float, row: int) -> None:
        """Also in a row that no probe touches; every text with that token would get a vector of NaN."""
        edit_weights(tiny, _filled("embeddings.word_embeddings.weight", value, row))
        with pytest.raises(CheckpointError, match=r"word_embeddings\.weight .* not finite numbers"):
            _open(tiny)

    def test_infinities_that_cancel_out(self, tiny: Path) -> None:
        """Two opposite infinities do not hide each other."""
        edit_weights(tiny, _filled("pooler.dense.bias", float("inf"), 0))
        edit_weights(tiny, _filled("pooler.dense.bias", float("-inf"), 1))
        with pytest.raises(CheckpointError, match=r"pooler\.dense\.bias"):
            _open(tiny)

    def test_large_weights_are_fine(self, tiny: Path) -> None:
        """A sum that overflows is no value that does."""
        edit_weights(tiny, _filled("pooler.dense.weight", 3e38, 0))
        assert _open(tiny).dimension == checkpoints.DIMENSION

    def test_vectors_that_are_no_numbers(self, tiny: Path) -> None:
        """Weights can be finite and the vectors not."""
        edit_weights(tiny, _filled("encoder.layer.0.output.LayerNorm.weight", 3e38, slice(None)))  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match="gives vectors that are not finite"):
            _open(tiny)


class TestTokenizer:
    """A tokenizer that does not belong to the weights."""

    def test_it_knows_more_words_than_the_model(self, tiny: Path) -> None:
        """Texts with the words behind the end would crash; the model is refused at once."""
        edit_json(tiny / "config.json", vocab_size=100)
        edit_weights(tiny, lambda tensors: tensors | {_WORDS: tensors[_WORDS][:100].clone()})
        with pytest.raises(CheckpointError, match="the model has weights for 100"):
            _open(tiny)

    def test_it_knows_far_fewer_words_than_the_model(self, tiny: Path) -> None:
        """That is what transformers makes of missing tokenizer files."""
        rows = 2 * len(checkpoints.tokenizer()) + 1
        edit_json(tiny / "config.json", vocab_size=rows)
        edit_weights(tiny, lambda tensors: tensors | {_WORDS: torch.zeros(rows, checkpoints.DIMENSION)})
        with pytest.raises(IncompleteModelError, match=f"tokens of {rows}; its files are incomplete"):
            _open(tiny)

    def test_it_knows_only_special_tokens(self, tiny: Path) -> None:
        """A tokenizer that gives one token for every word makes every text the same."""
        content = (tiny / "tokenizer.json").read_text().replace('"max_input_chars_per_word":100', "")
        assert "max_input_chars_per_word" in content
        edit_json(
            tiny / "tokenizer.json",
            normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": "\N{SNOWMAN}"},
        )
        with pytest.raises(IncompleteModelError, match="its files are incomplete"):
            _open(tiny)

    def test_both_tokenizers_of_a_router(self, tmp_path: Path) -> None:
        """Each way through the model has a tokenizer of its own."""
        folder = checkpoints.routed(tmp_path / "routed")
        documents = folder / "document_0_Transformer"
        edit_json(documents / "config.json", vocab_size=100)
        edit_weights(documents, lambda tensors: tensors | {_WORDS: tensors[_WORDS][:100].clone()})
        with pytest.raises(CheckpointError, match="the model has weights for 100"):
            _open(folder)

    def test_a_model_without_a_table_of_words(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Classes that have no such table cannot be compared with their tokenizer."""

        def unknown(model: BertModel) -> None:
            raise NotImplementedError

        monkeypatch.setattr(BertModel, "get_input_embeddings", unknown)
        assert _open(tiny).dimension == checkpoints.DIMENSION


_WORDS = "embeddings.word_embeddings.weight"


class TestRecordedLoading:
    """How the loading report is collected."""

    def test_transformers_is_left_as_it_was(self, tiny: Path) -> None:
        """The wrapped method is there again, also after an error."""
        original = PreTrainedModel.__dict__["from_pretrained"]
        with recorded_loading() as report:
            assert PreTrainedModel.__dict__["from_pretrained"] is not original
            BertModel.from_pretrained(tiny)
        with pytest.raises(KeyError), recorded_loading():
            raise KeyError
        assert PreTrainedModel.__dict__["from_pretrained"] is original
        assert (report.mismatched, report.unexpected) == (set(), set())

    def test_many_threads_leave_it_as_it_was(self) -> None:
        """A thread that waits for its turn does not take the other's wrapper for the original."""
        original = PreTrainedModel.__dict__["from_pretrained"]

        def load() -> None:
            with recorded_loading():
                threading.Event().wait(0.01)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert PreTrainedModel.__dict__["from_pretrained"] is original

    def test_other_callers_are_not_disturbed(self, tiny: Path) -> None:
        """Another thread, and whoever asks for the report himself, get what transformers gives."""
        seen: list[object] = []
        with recorded_loading() as report:
            thread = threading.Thread(target=lambda: seen.append(BertModel.from_pretrained(tiny, num_hidden_layers=1)))
            thread.start()
            thread.join()
            seen.append(BertModel.from_pretrained(tiny, output_loading_info=True))
        assert isinstance(seen[0], BertModel)
        assert isinstance(seen[1], tuple)
        assert report.unexpected == set()

    @pytest.mark.parametrize("shown", [True, False])
    def test_loading_is_quiet(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        shown: bool,  # noqa: FBT001
    ) -> None:
        """No progress bar and no report of what is judged here; the user's own choice comes back."""
        folder = checkpoints.with_masked_language_head(tmp_path / "head")
        (transformers_logging.enable_progress_bar if shown else transformers_logging.disable_progress_bar)()
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        logging.getLogger("transformers").addHandler(handler)
        capfd.readouterr()
        try:
            _open(folder, pooling="mean")
            assert (log.getvalue(), capfd.readouterr().err) == ("", "")
            assert transformers_logging.is_progress_bar_enabled() is shown
            BertModel.from_pretrained(folder)
            assert "LOAD REPORT" in log.getvalue()
        finally:
            logging.getLogger("transformers").removeHandler(handler)
            transformers_logging.enable_progress_bar()

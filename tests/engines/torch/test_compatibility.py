"""What old code expects is what transformers 4 gave it."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import transformers
from support import checkpoints
from transformers import BertModel, pytorch_utils
from transformers.utils import is_torch_available

from langchain_localhf.engines.torch import compatibility
from langchain_localhf.engines.torch.compatibility import builtins_for_old_code
from langchain_localhf.engines.torch.importer import MemoryImporter, SourceFile

if TYPE_CHECKING:
    import types

LOWEST = torch.finfo(torch.float32).min


def _run(source: str) -> dict[str, object]:
    names: dict[str, object] = {"__builtins__": builtins_for_old_code()}
    exec(source, names)  # noqa: S102 - written here
    return names


@pytest.fixture
def bert() -> BertModel:
    """A model of transformers' own, whose type and configuration the methods read."""
    return BertModel(checkpoints.bert_config())


class TestImports:
    """Names that are gone are there; all others are the libraries' own."""

    @pytest.mark.parametrize(
        ("module", "name"),
        [(module, name) for module, names in compatibility._NAMES.items() for name in names],
    )
    def test_every_name_of_the_table(self, module: str, name: str) -> None:
        """Each can be imported, and is documented; the installed one goes before ours."""
        names = _run(f"from {module} import {name} as found")
        own = getattr(sys.modules.get(module), name, None)
        assert names["found"] is (own or compatibility._NAMES[module][name])
        assert f".{name}`" in str(compatibility.__doc__) or f"`{name}`" in str(compatibility.__doc__)

    def test_beside_names_that_are_there(self) -> None:
        """One statement can ask for both."""
        names = _run(
            "from transformers.pytorch_utils import find_pruneable_heads_and_indices, apply_chunking_to_forward\n"
            "from transformers.utils import is_tf_available, is_torch_available"
        )
        assert names["apply_chunking_to_forward"] is pytorch_utils.apply_chunking_to_forward
        assert names["is_torch_available"] is is_torch_available

    def test_inside_functions(self) -> None:
        """A function that imports when it is called finds the same."""
        names = _run("def find():\n    from transformers.onnx import OnnxConfig\n    return OnnxConfig")
        find = names["find"]
        assert callable(find)
        assert isinstance(find(), type)

    @pytest.mark.parametrize(
        "source",
        [
            "from transformers.pytorch_utils import never_was, find_pruneable_heads_and_indices",
            "from transformers.onnx import never_was",
            "import transformers.onnx",
            "import never_was",
        ],
    )
    def test_what_never_was(self, source: str) -> None:
        """Errors are Python's own."""
        with pytest.raises(ImportError):
            _run(source)

    def test_everything_else(self) -> None:
        """Packages, aliases and stars are as ever."""
        names = _run("import os.path as p, transformers\nfrom math import *")
        assert names["transformers"] is transformers
        assert names["p"] is __import__("os").path
        assert "sqrt" in names


class TestPruning:
    """Heads that are pruned from attention."""

    @pytest.mark.parametrize(
        ("heads", "already", "remaining", "indices"),
        [
            ([1], set(), {1}, [0, 1, 4, 5, 6, 7]),
            ([0, 3], set(), {0, 3}, [2, 3, 4, 5]),
            ([2], {0}, {2}, [0, 1, 4, 5, 6, 7]),  # the third head is the second of those that are left
            ([0], {0}, set(), [0, 1, 2, 3, 4, 5, 6, 7]),
        ],
    )
    def test_heads_and_indices(
        self, heads: list[int], already: set[int], remaining: set[int], indices: list[int]
    ) -> None:
        """Of four heads with two rows each."""
        found = compatibility.find_pruneable_heads_and_indices(heads, 4, 2, already)
        assert (found[0], found[1].tolist()) == (remaining, indices)


class TestMasks:
    """Masks for attention."""

    def test_no_heads_masked(self, bert: BertModel) -> None:
        """One None a layer."""
        assert compatibility.get_head_mask(bert, None, 2) == [None, None]

    def test_heads_masked(self, bert: BertModel) -> None:
        """One mask for all layers, or one a layer; for every text, position and position."""
        one = compatibility.get_head_mask(bert, torch.tensor([1, 0]), 3)
        each = compatibility.get_head_mask(bert, torch.tensor([[1, 0], [0, 1]]), 2, is_attention_chunked=True)
        assert isinstance(one, torch.Tensor)
        assert isinstance(each, torch.Tensor)
        assert (one.shape, each.shape) == ((3, 1, 2, 1, 1), (2, 1, 2, 1, 1, 1))
        assert (one.flatten().tolist(), each.flatten().tolist()) == ([1, 0, 1, 0, 1, 0], [1, 0, 0, 1])

    def test_padding(self, bert: BertModel) -> None:
        """Padding gets the lowest number there is."""
        mask = compatibility.get_extended_attention_mask(bert, torch.tensor([[1, 0]]), (1, 2))
        assert mask.tolist() == [[[[0.0, LOWEST]]]]
        assert torch.equal(mask, compatibility.invert_attention_mask(bert, torch.tensor([[1, 0]])))

    def test_a_mask_for_each_position(self, bert: BertModel) -> None:
        """It keeps its positions, in the type that is asked for."""
        mask = compatibility.get_extended_attention_mask(bert, torch.ones(1, 2, 2), (1, 2), dtype=torch.float16)
        assert (mask.shape, mask.dtype, bool(mask.any())) == ((1, 1, 2, 2), torch.float16, False)

    def test_a_decoder(self, bert: BertModel) -> None:
        """No position sees a later one, and all see what was before the text."""
        bert.config.is_decoder = True
        mask = compatibility.get_extended_attention_mask(bert, torch.tensor([[1, 1, 1]]), (1, 2))
        assert mask.tolist() == [[[[0.0, 0.0, LOWEST], [0.0, 0.0, 0.0]]]]


class TestImporter:
    """Modules from memory."""

    def test_packages_and_relative_imports(self) -> None:
        """Files below files; a package can have code of its own; a name keeps its first content."""
        prepared: list[types.ModuleType] = []
        importer = MemoryImporter("tests_in_memory", builtins=vars(builtins), prepare=prepared.append)
        sources = {"a.m": b"from .b import x\nfrom .c.d import y", "a.b.__init__": b"x = 1", "a.c.d": b"y = 2"}
        try:
            for name, source in sources.items():
                importer.add(f"tests_in_memory.{name}", SourceFile(Path("nowhere.py"), source))
            importer.add("tests_in_memory.a.m", SourceFile(Path("moved.py"), b"1 / 0"))
            module = __import__("tests_in_memory.a.m", fromlist=["x"])
            assert (module.x, module.y, module.__file__) == (1, 2, "moved.py")
            assert [found.__name__.rpartition(".")[2] for found in prepared if hasattr(found, "x")] == ["b", "m"]
            with pytest.raises(ModuleNotFoundError):
                __import__("tests_in_memory.a.other")
        finally:
            sys.meta_path.remove(importer)
            for name in [name for name in sys.modules if name.startswith("tests_in_memory")]:
                del sys.modules[name]

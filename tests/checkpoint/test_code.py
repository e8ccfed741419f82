"""Which code a checkpoint asks for, and what its files may not do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.checkpoints import edit_json

from langchain_localhf.checkpoint import code
from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.checkpoint.code import CodeReference
from langchain_localhf.errors import CheckpointError, UnsafeModelError

if TYPE_CHECKING:
    from pathlib import Path


def _found(folder: Path) -> list[str]:
    code = Checkpoint.read(folder).code
    return [f"{found.source} {found.auto_class} {found.path} {found.class_name}" for found in code]


def _write(path: Path, **content: Any) -> None:
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | content))


class TestReferences:
    """Every place in which a class can be named."""

    @pytest.mark.parametrize(
        ("auto_map", "expected"),
        [
            ({"AutoModel": "modeling.M"}, ["config.json AutoModel modeling.py M"]),
            ({"AutoModel": "org/c.d-e--sub/modeling.M"}, ["config.json AutoModel code/org--c.d-e/sub/modeling.py M"]),
            ({"AutoTokenizer": ["t.Slow", None]}, ["config.json AutoTokenizer t.py Slow"]),
            (["t.Slow", "t.Fast"], [f"config.json AutoTokenizer t.py {name}" for name in ("Fast", "Slow")]),
            ({"AutoImageProcessor": {"torchvision": "i.P"}}, ["config.json AutoImageProcessor i.py P"]),
            (5, []),
            ({"AutoModel": None}, []),
        ],
    )
    def test_forms(self, tiny: Path, auto_map: object, expected: list[str]) -> None:
        """The forms that an `auto_map` has had."""
        edit_json(tiny / "config.json", auto_map=auto_map)
        assert _found(tiny) == expected

    @pytest.mark.parametrize(
        "name",
        [
            "tokenizer_config.json", "processor_config.json", "preprocessor_config.json", "generation_config.json",
            "video_preprocessor_config.json", "image_processor_config.json", "feature_extractor_config.json",
        ],
    )  # fmt: skip
    def test_files(self, tiny: Path, name: str) -> None:
        """Whoever names a class is asked about, in whatever file: without trust, the model is refused."""
        _write(tiny / name, auto_map={"AutoTokenizer": "org/evil--tokenization.T"})
        with pytest.raises(UnsafeModelError, match=rf"tokenization\.T of org/evil \(named in {name}\)"):
            Checkpoint.read(tiny).require_trust()

    def test_a_part_of_a_composite_model(self, tiny: Path) -> None:
        """Its configuration lies inside another one."""
        edit_json(tiny / "config.json", text_config={"auto_map": {"AutoModel": "org/x--m.M"}})
        assert _found(tiny) == ["config.json AutoModel code/org--x/m.py M"]

    @pytest.mark.parametrize(
        "text",
        [
            "/home/evil--m.M", "../evil--m.M", "org/../evil--m.M", "org/..--m.M", "a/b/c--m.M", "org--m.M", "--m.M",
            "/m.M", "../m.M", "m", "a.b.C", "", "m.M--x.Y",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("trusted", [True, False])
    def test_forms_that_cannot_be_right(self, tiny: Path, text: str, trusted: bool) -> None:  # noqa: FBT001
        """A path could lead anywhere on this machine; trust in a repository does not cover that."""
        edit_json(tiny / "config.json", auto_map={"AutoModel": text})
        with pytest.raises(UnsafeModelError, match="neither in its repository nor in another"):
            Checkpoint.read(tiny).require_trust(trust_remote_code=trusted)

    def test_heads_for_other_tasks(self, tiny: Path) -> None:
        """An encoder has no use for the class of a masked language model, and nobody is asked about it."""
        edit_json(tiny / "config.json", auto_map={"AutoModelForMaskedLM": "m.M", "TFAutoModel": "m.T"})
        checkpoint = Checkpoint.read(tiny)
        checkpoint.require_trust()
        assert (len(checkpoint.code), checkpoint.foreign_code()) == (2, ())
        assert [str(found) for found in checkpoint.foreign_code("AutoModelForMaskedLM")] == ["m.M"]

    @pytest.mark.parametrize(
        ("model_type", "classes", "asked"),
        [
            ("nomic_bert", ("NomicBertConfig", "NomicBertModel"), False),
            ("nomic_bert", ("NomicBertConfig", "NomicBertModelOfMine"), True),
            ("qwen2", ("Qwen2Config", "Qwen2Model"), True),
        ],
    )
    def test_what_transformers_took_over(
        self,
        tiny: Path,
        model_type: str,
        classes: tuple[str, str],
        asked: bool,  # noqa: FBT001
    ) -> None:
        """A class of the same name can be another class: gte-Qwen2 has a `Qwen2Model` with another attention."""
        auto_map = dict(zip(("AutoConfig", "AutoModel"), (f"org/x--m.{name}" for name in classes), strict=True))
        edit_json(tiny / "config.json", model_type=model_type, auto_map=auto_map)
        assert bool(Checkpoint.read(tiny).foreign_code()) == asked

    def test_a_configuration_for_the_authors_class(self, tiny: Path) -> None:
        """The class of transformers would take its own defaults for what it does not read."""
        auto_map = {"AutoModel": "org/nomic--m.NomicBertModel"}
        edit_json(tiny / "config.json", model_type="nomic_bert", auto_map=auto_map, hidden_size=None, n_embd=32)
        assert len(Checkpoint.read(tiny).foreign_code()) == 1


class TestRedirections:
    """Files that make the loader run or read something else than the model."""

    @pytest.mark.parametrize("trusted", [True, False])
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("config.json", {"_attn_implementation": "org/kernel"}),
            ("config.json", {"attn_implementation": "org/kernel:layer"}),
            ("config.json", {"_attn_implementation_internal": "org/kernel"}),
            ("config.json", {"attn_implementation": {"text_config": "org/kernel"}}),
            ("config.json", {"text_config": {"attn_implementation": "org/kernel"}}),
            ("config.json", {"_experts_implementation": "org/kernel"}),
            ("config.json", {"use_kernels": True}),
            ("config.json", {"transformers_weights": "other.safetensors"}),
            ("sentence_bert_config.json", {"model_args": {"attn_implementation": "org/kernel"}}),
            ("sentence_bert_config.json", {"model_kwargs": {"use_kernels": True}}),
            ("sentence_bert_config.json", {"model_args": {"use_safetensors": False, "weights_only": False}}),
            ("sentence_roberta_config.json", {"model_args": {"variant": "evil"}}),
            ("sentence_bert_config.json", {"tokenizer_args": {"subfolder": "evil"}}),
            ("sentence_bert_config.json", {"config_args": {"revision": "evil"}}),
        ],
    )
    def test_refused(self, tiny: Path, name: str, content: dict[str, Any], trusted: bool) -> None:  # noqa: FBT001
        """With trust in the model's code, too: none of this is the model's code."""
        _write(tiny / name, **content)
        with pytest.raises(UnsafeModelError, match=name):
            Checkpoint.read(tiny).require_trust(trust_remote_code=trusted)

    @pytest.mark.parametrize(
        "content",
        [
            {"attn_implementation": "sdpa"},
            {"_attn_implementation": None},
            {"use_kernels": False},
            {"name_or_path": "org/model"},
        ],
    )
    def test_not_refused(self, tiny: Path, content: dict[str, Any]) -> None:
        """What configurations say in all innocence."""
        _write(tiny / "config.json", **content)
        Checkpoint.read(tiny).require_trust()


class TestMissingFiles:
    """The files that code needs beside itself."""

    REFERENCE = CodeReference("org/x", "pkg/modeling", "M", "AutoModel", "config.json")

    def test_imports_are_followed(self) -> None:
        """From file to file; modules, packages, names, and folders above."""
        here = {
            "code/org--x/pkg/modeling.py": b"from .a import x\nfrom ..b.c import y\nfrom . import d\nimport torch",
            "code/org--x/pkg/a.py": b"def f():\n    from .late import z",
            "code/org--x/b/c/__init__.py": b"from .deep import w",
            "code/org--x/pkg/d.py": b"from .modeling import M",
        }
        missing = code.missing_files([self.REFERENCE], here)
        assert missing == {"org/x": ["code/org--x/b/c/deep.py", "code/org--x/pkg/late.py"]}

    def test_nothing_is_here(self) -> None:
        """The file itself is missing."""
        assert code.missing_files([self.REFERENCE], {}) == {"org/x": ["code/org--x/pkg/modeling.py"]}

    def test_optional_imports(self) -> None:
        """What stands in a `try` may be missing."""
        source = b"try:\n    from .fast import f\nexcept ImportError:\n    f = None"
        assert code.missing_files([self.REFERENCE], {"code/org--x/pkg/modeling.py": source}) == {}

    def test_optional_imports_that_are_wanted(self) -> None:
        """Whoever can have them takes them; what leads nowhere is none."""
        source = b"try:\n    from .fast import f\n    from ....above import g\nexcept ImportError:\n    f = None"
        here = {"code/org--x/pkg/modeling.py": source}
        missing = code.missing_files([self.REFERENCE], here, optional=True)
        assert missing == {"org/x": ["code/org--x/pkg/fast.py"]}

    @pytest.mark.parametrize("path", ["modeling.py", "code/org--x/modeling.py"])
    def test_imports_from_outside(self, path: str) -> None:
        """A repository is the top of its code: beside it lie the model's own files."""
        with pytest.raises(CheckpointError, match=f"{path} imports from outside of its repository"):
            code.relative_imports(path, b"from ..a import x")

    def test_no_python(self) -> None:
        """Code that cannot be read is refused, also if it is nested deeper than anyone could read it."""
        with pytest.raises(CheckpointError, match="no valid Python"):
            code.relative_imports("m.py", b"x = " + b"-" * 20_000 + b"1")
        assert code.relative_imports("m.py", b"x = " + b"a." * 1_500 + b"b\nfrom .c import d") == ["c.py"]
        with pytest.raises(CheckpointError, match="no valid Python"):
            code.missing_files([self.REFERENCE], {"code/org--x/pkg/modeling.py": b"def f(:"})

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("modeling.py", ("", "modeling.py")),
            ("code/modeling.py", ("", "code/modeling.py")),
            ("code/org--a--b/sub/m.py", ("org/a--b", "sub/m.py")),
        ],
    )
    def test_whose_a_file_is(self, path: str, expected: tuple[str, str]) -> None:
        """The folder says which repository a vendored file belongs to."""
        assert code.repository_of(path) == expected

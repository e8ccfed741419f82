"""What may be added, and under which id."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from chromadb.base_types import SparseVector
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from langchain_localhf.errors import InputError
from langchain_localhf.vectorstores.records import batches, content_id, from_documents, from_texts, same_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

CHARACTERS = st.text(st.characters(exclude_categories=["Cs"]))


class TestContentId:
    """The id of a document that was given none."""

    def test_format(self) -> None:
        """The documented bytes, hashed: a change of them would embed every collection again."""
        expected = hashlib.sha256('["süß",{"a":[1,2],"b":true}]'.encode()).hexdigest()
        assert content_id("süß", {"b": True, "a": [1, 2], "c": None}) == expected
        assert content_id("red") == content_id("red", {}) == hashlib.sha256(b'["red",{}]').hexdigest()

    @pytest.mark.parametrize("other", [{"n": 1.0}, {"n": True}, {"n": "1"}, {"m": 1}, {}])
    def test_metadata_count_with_their_types(self, other: dict[str, Any]) -> None:
        """What Python takes for equal is stored differently."""
        assert content_id("red", other) != content_id("red", {"n": 1})
        assert not same_metadata(other, {"n": 1})

    def test_sparse_vectors(self) -> None:
        """Chroma's sparse vectors are values of metadata too."""
        one, other = ({"v": SparseVector(indices=[1], values=[value])} for value in (0.5, 0.25))
        assert content_id("red", one) == content_id("red", dict(one))
        assert content_id("red", one) != content_id("red", other)

    @given(st.lists(st.tuples(CHARACTERS, st.dictionaries(CHARACTERS, st.integers()))))
    def test_equal_ids_are_equal_documents(self, documents: list[tuple[str, dict[str, int]]]) -> None:
        """No text can imitate another with metadata."""
        ids = {content_id(text, metadata): (text, metadata) for text, metadata in documents}
        assert all(ids[content_id(*document)] == document for document in documents)


class TestReading:
    """Texts, metadatas and ids go together."""

    def test_documents(self) -> None:
        """The id of a document counts, unless ids are given; None means one from the content."""
        documents = [Document("red", id="r"), Document("blue", metadata={"n": 1, "m": None})]
        derived = content_id("blue", {"n": 1})
        assert [record.id for record in from_documents(documents, None)] == ["r", derived]
        assert [record.id for record in from_documents(documents, [None, "b"])] == [content_id("red"), "b"]
        assert [record.metadata for record in from_documents(documents, None)] == [{}, {"n": 1}]

    def test_equal_content_has_one_id(self) -> None:
        """Equal documents without ids are no error."""
        records = list(from_texts(["red", "red"], [{}, None], None))
        assert records[0] == records[1]

    @pytest.mark.parametrize("empty", [None, []])
    def test_no_metadata(self, empty: list[Any] | None) -> None:
        """An empty list of metadatas means none, as in `langchain_chroma`."""
        assert [record.metadata for record in from_texts(["red", "blue"], empty, None)] == [{}, {}]

    def test_generators(self) -> None:
        """Nothing is read before it is asked for."""
        read = []

        def texts() -> Iterator[str]:
            for text in ("red", "blue", 3):
                read.append(text)
                yield text

        records = from_texts(texts(), ({"n": n} for n in range(3)), iter("abc"))
        assert next(records).id == "a"
        assert read == ["red"]
        assert next(records).metadata == {"n": 1}
        with pytest.raises(InputError, match=r"texts\[2\] is int"):
            next(records)

    def test_generators_beside_a_list(self) -> None:
        """They are read once, though a list is checked first."""
        records = from_texts(["red", "blue"], ({"n": n} for n in range(2)), iter("ab"))
        assert [(record.id, record.metadata) for record in records] == [("a", {"n": 0}), ("b", {"n": 1})]
        documents = [Document("red"), Document("blue")]
        assert [record.id for record in from_documents(documents, iter("ab"))] == ["a", "b"]

    def test_batches(self) -> None:
        """Lists of the size, the last may be shorter."""
        records = list(from_texts([str(n) for n in range(7)], None, None))
        assert list(batches(iter(records), 3)) == [records[:3], records[3:6], records[6:]]


@pytest.mark.parametrize("lazy", [False, True], ids=["list", "generator"])
class TestRefusals:
    """Each error names the place."""

    @pytest.mark.parametrize(
        ("texts", "metadatas", "ids", "message"),
        [
            (["red", None], None, None, r"texts\[1\] is NoneType; expected str"),
            (["red", "\ud800"], None, None, r"texts\[1\] or its metadata holds a lone surrogate"),
            (["red", "blue"], [{}, {"k": "\ud800"}], None, r"texts\[1\] or its metadata holds a lone surrogate"),
            (["red", "blue"], [{}, {"k": object()}], None, r"metadatas\[1\] cannot be stored: Expected metadata value"),
            (["red", "blue"], [{}, {3: 4}], None, r"metadatas\[1\] cannot be stored: Expected metadata key"),
            (["red", "blue"], [{}, ["k"]], None, r"metadatas\[1\] cannot be stored: Expected metadata to be a dict"),
            (["red", "blue"], [{}], None, r"the number of metadatas is 1, fewer than the"),
            (["red"], [{}, {}], None, r"the number of metadatas is more than the 1 texts"),
            (["red", "blue"], None, ["a"], r"the number of ids is 1, fewer than the"),
            (["red"], None, ["a", "b"], r"the number of ids is more than the 1 texts"),
            (["red"], None, [], r"the number of ids is 0, fewer than the"),
            (["red", "blue"], None, ["a", ""], r"ids\[1\] is ''; expected a non-empty str"),
            (["red", "blue"], None, ["a", 7], r"ids\[1\] is 7; expected a non-empty str"),
            (["red", "blue"], None, [content_id("blue"), None], r"is given more than once, again for texts\[1\]"),
            (["red", "blue"], None, [None, content_id("red")], r"is given more than once, again for texts\[1\]"),
        ],
    )
    def test_texts(
        self,
        texts: list[Any],
        metadatas: list[Any] | None,
        ids: list[Any] | None,
        message: str,
        *,
        lazy: bool,
    ) -> None:
        """A list is refused as a whole, before it is read; a generator where it goes wrong."""
        whole = partial(from_texts, texts, metadatas, ids)
        with pytest.raises(InputError, match=message) as caught:
            list(from_texts(iter(texts), metadatas, ids)) if lazy else whole()
        assert caught.value.hint

    def test_documents(self, *, lazy: bool) -> None:
        """What is no document is refused."""
        documents: list[Any] = [Document("red"), "blue"]
        with pytest.raises(InputError, match=r"documents\[1\] is str; expected Document"):
            list(from_documents(iter(documents) if lazy else documents, None))

    def test_own_ids_of_documents(self, *, lazy: bool) -> None:
        """A generator finds the first id that comes again."""
        documents = [Document("red", id="a"), Document("blue", id="b"), Document("green", id="a")]
        with pytest.raises(InputError, match="'a'"):
            list(from_documents(iter(documents) if lazy else documents, None))


def test_single_text() -> None:
    """A text is not taken for a list of its letters."""
    with pytest.raises(InputError, match="texts is str; expected a list"):
        from_texts("red", None, None)


def test_duplicates_are_named() -> None:
    """All of them, or the first five and how many more."""
    letters = list("abcdefg")
    with pytest.raises(InputError, match="ids are given more than once: 'a', 'b'\n") as caught:
        from_texts(["x"] * 5, None, ["a", "b", "a", "c", "b"])
    assert "equal documents are then stored once" in str(caught.value.hint)
    with pytest.raises(InputError, match="'a', 'b', 'c', 'd', 'e' and 2 more\n"):
        from_documents([Document("x", id=letter) for letter in letters * 2], None)

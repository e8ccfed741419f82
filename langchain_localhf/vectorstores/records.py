"""What is added to a collection: texts with metadata and ids, checked before anything is embedded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any

from chromadb.api.types import validate_metadata
from langchain_core.documents import Document

from langchain_localhf.errors import InputError

_NAMED_AT_MOST = 5
_MISSING = object()
_ONE_ID_EACH = "give each document its own id, or none: equal documents are then stored once"


@dataclass(frozen=True, slots=True)
class Record:
    """A document of a collection.

    Attributes:
        id: Its id, given or derived from the content.
        text: Its text.
        metadata: Its metadata, without the keys that hold None: Chroma does not store them.
    """

    id: str
    text: str
    metadata: dict[str, Any]


def content_id(text: str, metadata: Mapping[str, Any] | None = None) -> str:
    """The id of a document that was given none: equal documents have equal ids, on every machine.

    It is the SHA-256, as 64 hexadecimal digits, of the JSON array `[text, metadata]` in UTF-8, with sorted keys, no
    spaces and no escapes but those that JSON needs. Keys whose value is None are left out, and no metadata is `{}`.
    """
    return hashlib.sha256(_json([text, without_none(metadata)]).encode()).hexdigest()


def same_metadata(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two metadata are equal with their types; `==` takes 1, 1.0 and True for one another."""
    return _json(without_none(one)) == _json(without_none(other))


def without_none(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metadata that Chroma stores."""
    return {key: value for key, value in (metadata or {}).items() if value is not None}


def from_texts(
    texts: Iterable[str],
    metadatas: Iterable[Mapping[str, Any] | None] | None,
    ids: Iterable[str | None] | None,
) -> Iterator[Record]:
    """Reads the arguments of `add_texts`: a list is checked as a whole at once, a generator as it is read.

    Raises:
        InputError: An item cannot be used, an id is given twice, or there are not as many of each.
    """
    if isinstance(texts, Sized):
        metadatas, ids = _listed(metadatas), _listed(ids)
    metadatas = metadatas or None
    return _checked_first(texts, ids, lambda: _checked(_in_step(texts, "texts", metadatas=metadatas, ids=ids)))


def from_documents(documents: Iterable[Document], ids: Iterable[str | None] | None) -> Iterator[Record]:
    """Reads the arguments of `add_documents` in the same way; given ids count, not those in the documents.

    Raises:
        InputError: An item cannot be used, an id is given twice, or there are not as many of each.
    """
    given = _listed(ids) if isinstance(documents, Sized) else ids
    own = [getattr(document, "id", None) for document in documents] if isinstance(documents, Sized) else None
    return _checked_first(documents, own if ids is None else given, lambda: _checked(_rows_of(documents, given)))


def batches(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """Cuts records into lists of at most `size`."""
    remaining = iter(records)
    while batch := list(islice(remaining, size)):
        yield batch


def _listed(values: Iterable[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)


def _checked_first(
    items: Iterable[Any], ids: Iterable[str | None] | None, read: Callable[[], Iterator[Record]]
) -> Iterator[Record]:
    if isinstance(items, Sized):
        _refuse_duplicates(ids or ())
        for _ in read():
            pass
    return read()


def _refuse_duplicates(ids: Iterable[str | None]) -> None:
    counts = Counter(given for given in ids if isinstance(given, str))
    if twice := [repr(given) for given, count in counts.items() if count > 1]:
        more = f" and {len(twice) - _NAMED_AT_MOST} more" if len(twice) > _NAMED_AT_MOST else ""
        msg = f"ids are given more than once: {', '.join(twice[:_NAMED_AT_MOST])}{more}"
        raise InputError(msg, hint=_ONE_ID_EACH)


def _rows_of(documents: Iterable[Document], ids: Iterable[str | None] | None) -> Iterator[tuple[Any, ...]]:
    for index, (document, given) in enumerate(_in_step(documents, "documents", ids=ids)):
        if not isinstance(document, Document):
            msg = f"documents[{index}] is {type(document).__name__}; expected Document"
            raise InputError(msg, index=index, hint="use add_texts for plain texts")
        yield document.page_content, document.metadata, document.id if ids is None else given


def _in_step(first: Iterable[Any], name: str, **others: Iterable[Any] | None) -> Iterator[tuple[Any, ...]]:
    """Goes through several arguments together; the ones that are None give None."""
    if isinstance(first, str) or not isinstance(first, Iterable):
        msg = f"{name} is {type(first).__name__}; expected a list"
        raise InputError(msg, hint="put a single one into a list")
    columns = {key: None if values is None else iter(values) for key, values in others.items()}
    count = 0
    for item in first:
        row = {key: None if column is None else next(column, _MISSING) for key, column in columns.items()}
        for key, value in row.items():
            if value is _MISSING:
                raise _uneven(key, f"{count}, fewer than {_length(first, f'the {name}')}")
        count += 1
        yield item, *row.values()
    for key, column in columns.items():
        if column is not None and next(column, _MISSING) is not _MISSING:
            raise _uneven(key, f"more than the {count} {name}")


def _length(items: Iterable[Any], otherwise: str) -> str:
    return f"the {len(items)} {otherwise.removeprefix('the ')}" if isinstance(items, Sized) else otherwise


def _uneven(name: str, count: str) -> InputError:
    return InputError(f"the number of {name} is {count}", hint=f"give one of the {name} for each, or leave {name} out")


def _checked(rows: Iterable[tuple[Any, ...]]) -> Iterator[Record]:
    """Makes records. An id that is derived may come again: it is the same document."""
    was_given: dict[str, bool] = {}
    for index, (text, metadata, given) in enumerate(rows):
        if not isinstance(text, str):
            msg = f"texts[{index}] is {type(text).__name__}; expected str"
            raise InputError(msg, index=index, hint="leave it out, or turn it into a text")
        stored = _checked_metadata(metadata, index)
        derived = _derived_id(text, stored, index)  # always: it finds what cannot be written in UTF-8
        record_id = derived if given is None else given
        if not isinstance(record_id, str) or not record_id:
            msg = f"ids[{index}] is {record_id!r}; expected a non-empty str"
            raise InputError(msg, index=index, hint="leave it out, or use None, for an id from the content")
        if record_id in was_given and (given is not None or was_given[record_id]):
            msg = f"the id {record_id!r} is given more than once, again for texts[{index}]"
            raise InputError(msg, index=index, hint=_ONE_ID_EACH)
        was_given[record_id] = given is not None
        yield Record(record_id, text, stored)


def _checked_metadata(metadata: Any, index: int) -> dict[str, Any]:  # noqa: ANN401 - whatever the user gave
    if not metadata:
        return {}
    try:
        validate_metadata(metadata)
    except (TypeError, ValueError) as error:
        msg = f"metadatas[{index}] cannot be stored: {error}"
        hint = "Chroma stores text, numbers, truth values and lists of them: filter_complex_metadata(documents) of "
        raise InputError(msg, index=index, hint=f"{hint}langchain_community.vectorstores.utils") from None
    return without_none(metadata)


def _derived_id(text: str, metadata: dict[str, Any], index: int) -> str:
    try:
        return content_id(text, metadata)
    except UnicodeEncodeError:
        msg = f"texts[{index}] or its metadata holds a lone surrogate, which is no character"
        hint = 'repair the text where it was read: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
        raise InputError(msg, index=index, hint=hint) from None


def _json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    # What is no JSON value and passed Chroma's own check is one of its sparse vectors, a dataclass.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=dataclasses.asdict)

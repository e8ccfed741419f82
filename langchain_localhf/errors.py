"""Every error this package raises on purpose.

```
LocalHFError
├── ModelReferenceError(ValueError)            this model name cannot be read
├── StoreError
│   ├── ModelNotFoundError(FileNotFoundError)  the model is not on this machine
│   ├── IncompleteModelError                   files are missing
│   ├── IntegrityError                         files differ from their manifest
│   ├── LockfileError                          the lockfile cannot be read, or does not match
│   ├── PullError                              a download failed: network, access, disk
│   └── NetworkRefusedError                    something tried to reach the network at run time
├── CheckpointError                            the files contradict each other, or cannot be read
│   ├── UnsafeModelError                       pickle weights, or code without trust
│   ├── UninitializedWeightsError              weights that the checkpoint does not hold
│   └── UnsupportedModelError                  a kind of model this package does not run
├── EngineError                                the model loads, but its engine cannot be used
│   ├── EngineNotInstalledError(ImportError)   an extra is not installed
│   └── DeviceUnavailableError                 no such device on this machine
├── FingerprintMismatchError                   a collection was filled by another model
└── InputError(ValueError)                     a text, a message, a setting that cannot be used; with its index
```

`chat_models` adds `TruncatedAnswerError`, which is LangChain's `OutputParserException`, too: an answer in a required
form that reached its limit of tokens. `embeddings.server` adds `ServerError`: a server of this package cannot be
reached, or refuses. The server has errors of its own for requests (`server.failures`).

An error says what happened and why, and carries a `hint`: the one command or change that helps. It knows nothing of
exit codes or HTTP; the command line and the server own one table each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CheckpointError",
    "DeviceUnavailableError",
    "EngineError",
    "EngineNotInstalledError",
    "FingerprintMismatchError",
    "IncompleteModelError",
    "InputError",
    "IntegrityError",
    "LocalHFError",
    "LockfileError",
    "ModelNotFoundError",
    "ModelReferenceError",
    "NetworkRefusedError",
    "PullError",
    "StoreError",
    "UninitializedWeightsError",
    "UnsafeModelError",
    "UnsupportedModelError",
]


class LocalHFError(Exception):
    """The root of the tree; catch this to catch them all.

    Attributes:
        message: What happened, and why.
        hint: The one command or change that helps, or None where there is none.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message


class ModelReferenceError(LocalHFError, ValueError):
    """A model name is neither a folder, nor `org/name`, nor `org/name@revision`."""


class StoreError(LocalHFError):
    """Something about the bytes: where they are, or whether they are the right ones."""


class ModelNotFoundError(StoreError, FileNotFoundError):
    """The model is not on this machine. Nothing was downloaded.

    Attributes:
        looked_in: Every place that was searched, in order.
    """

    def __init__(self, message: str, *, looked_in: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.looked_in = tuple(looked_in)


class IncompleteModelError(StoreError):
    """Files that the model needs are missing.

    Attributes:
        missing: The missing files, relative to the model's folder.
    """

    def __init__(self, message: str, *, missing: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.missing = tuple(missing)


class IntegrityError(StoreError):
    """The files of a model differ from its manifest, or from what the hub says they are.

    Attributes:
        changed: Files with another size or another hash.
        missing: Files that are gone.
        extra: Code or weights that nobody listed.
    """

    def __init__(
        self,
        message: str,
        *,
        changed: Sequence[str] = (),
        missing: Sequence[str] = (),
        extra: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.changed = tuple(changed)
        self.missing = tuple(missing)
        self.extra = tuple(extra)


class LockfileError(StoreError):
    """A manifest or lockfile cannot be read, or a model does not match it.

    Attributes:
        context: Where in the file, such as `models[0].files[3].sha256`; empty for the whole file.
    """

    def __init__(self, message: str, *, context: str = "", hint: str | None = None) -> None:
        super().__init__(f"{message} in {context}" if context else message, hint=hint)
        self.context = context


class PullError(StoreError):
    """A download failed; the message names the cause. What had arrived is kept for the next try."""


class NetworkRefusedError(StoreError):
    """Something tried to reach the network at run time. Only `localhf pull` may."""


class CheckpointError(LocalHFError):
    """The model's files contradict each other, are damaged, or lack what a model needs."""


class UnsafeModelError(CheckpointError):
    """Using the model would run code: pickle weights, or Python in the repository without trust."""


class UninitializedWeightsError(CheckpointError):
    """The model would run with weights that its checkpoint does not hold, or ignore some that it does.

    Attributes:
        missing: Tensors of the model that the checkpoint does not have; they would be random.
        mismatched: Tensors whose shape or values differ from the checkpoint's.
        unexpected: Tensors of the checkpoint that the model has no place for.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: Sequence[str] = (),
        mismatched: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.missing = tuple(missing)
        self.mismatched = tuple(mismatched)
        self.unexpected = tuple(unexpected)


class UnsupportedModelError(CheckpointError):
    """This kind of model cannot do what was asked."""


class EngineError(LocalHFError):
    """The engine that runs the model cannot be used."""


class EngineNotInstalledError(EngineError, ImportError):
    """An optional dependency is missing; the hint is the `pip install` that brings it."""


class DeviceUnavailableError(EngineError):
    """The device that was asked for is not on this machine."""


class FingerprintMismatchError(LocalHFError):
    """A collection was filled by another model than the one that now reads or writes it.

    Attributes:
        collection: The name of the collection.
        stored: The fingerprint that filled it, or None if nothing says.
        given: The fingerprint of the model in hand, or None if it has none.
    """

    def __init__(
        self,
        message: str,
        *,
        collection: str = "",
        stored: str | None = None,
        given: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.collection = collection
        self.stored = stored
        self.given = given


class InputError(LocalHFError, ValueError):
    """An input that cannot be used.

    Attributes:
        index: The place of the offending item in the list that was given, or None for a single input.
    """

    def __init__(self, message: str, *, index: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.index = index

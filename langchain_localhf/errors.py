"""The errors of this package, as a tree.

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
└── InputError(ValueError)                     a text, a message or a setting cannot be used
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

    Cause:
        One of the classes below says which.

    Fix:
        What `hint` says. `localhf` prints it below the message; in a program it ends `str(error)`.

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
    """A model name is neither a folder, nor `org/name`, nor `org/name@revision`.

    Cause:
        The name is empty, has characters that no repository's name has, or is the path of a file. A revision is stated
        twice, behind the `@` and as an argument, or has characters that none has. Or `localhf pull` was given a folder,
        which only `localhf add` brings in.

    Fix:
        Write `org/name`, `org/name@revision`, the bare name of a sentence-transformers model, or the path of the
        model's folder.
    """


class StoreError(LocalHFError):
    """Something about the bytes: where they are, or whether they are the right ones.

    Cause:
        One of the classes below says which.

    Fix:
        `localhf show MODEL` says what is here, and `localhf verify MODEL` whether it is what was pulled.
    """


class ModelNotFoundError(StoreError, FileNotFoundError):
    """The model is not on this machine. Nothing was downloaded.

    Cause:
        The model was never pulled, or under another name or revision. Or the program runs with another `LOCALHF_HOME`,
        as another user, or in a container into which nobody copied the store: `looked_in` has every place.

    Fix:
        Where there is a network, run the `localhf pull` of the hint; into an image or to another machine, copy the
        store. `localhf list` says what is here.

    Attributes:
        looked_in: Every place that was searched, in order.
    """

    def __init__(self, message: str, *, looked_in: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.looked_in = tuple(looked_in)


class IncompleteModelError(StoreError):
    """Files that the model needs are missing.

    Cause:
        A download or a copy was cut short, or left out what it took for needless: the tokenizer, `modules.json`, one
        part of the weights. Or the path is that of the folder above the model, or of one inside it. Or a compiled model
        was packed without its weights, and is asked for them.

    Fix:
        Pull or copy the whole model again. A model of transformers without `modules.json` makes vectors with
        `pooling=`; a packed model runs with `backend="openvino"`.

    Attributes:
        missing: The missing files, relative to the model's folder.
    """

    def __init__(self, message: str, *, missing: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.missing = tuple(missing)


class IntegrityError(StoreError):
    """The files of a model differ from its manifest, or from what the hub says they are.

    Cause:
        A file was edited, replaced, or damaged after the model was pulled, or somebody put code or weights beside it.
        While pulling: a proxy, a mirror or a disk changes bytes, or the repository is not what the lockfile says. Of a
        model outside of the store: its files were written to after it was loaded.

    Fix:
        `localhf verify MODEL` lists every difference. If you did not make it, find out who did; then run the `localhf
        pull` or `localhf add` of the hint. If only the compiled graph differs: `localhf compile --force MODEL`.

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

    Cause:
        The file is not there, was edited by hand or merged badly, or does not list the model that is asked for. The hub
        has other files for that commit than the lockfile says. Or the model is a plain folder, or lies in the hub's
        cache, so that it has no manifest to verify it with.

    Fix:
        Restore the lockfile from version control, or write it anew: `localhf lock`. A plain folder gets a manifest with
        `localhf add PATH --as NAME`. If the hub's files differ, find out who changed them before you write a new
        lockfile.

    Attributes:
        context: Where in the file, such as `models[0].files[3].sha256`; empty for the whole file.
    """

    def __init__(self, message: str, *, context: str = "", hint: str | None = None) -> None:
        super().__init__(f"{message} in {context}" if context else message, hint=hint)
        self.context = context


class PullError(StoreError):
    """A download failed; the message names the cause. What had arrived is kept for the next try.

    Cause:
        There is no network, `HF_ENDPOINT` names no hub, or `HF_HUB_OFFLINE` switches it off. There is no such
        repository or revision, it is private or gated, or the token may not read it. The disk is full, or the store is
        not yours to write to.

    Fix:
        Mend what the message names, then run the same command again. `hf auth login` or `HF_TOKEN` opens private
        models; terms of a gated one are accepted on its page; `LOCALHF_HOME` names a store on another disk.
    """


class NetworkRefusedError(StoreError):
    """Something tried to reach the network at run time. Only `localhf pull` may.

    Cause:
        The model's files, or its code, name another repository that is not here. Or a message of a chat holds the
        address of an image, which would have to be downloaded.

    Fix:
        Pull the other repository, too, or use a model that is complete in itself. Pass what the image holds, in base64,
        and not its address.
    """


class CheckpointError(LocalHFError):
    """The model's files contradict each other, are damaged, or lack what a model needs.

    Cause:
        A file is truncated, is a pointer of git-lfs, or is no valid JSON. Files of two models or revisions were mixed.
        Settings in `model_kwargs` do not fit to the model. Or the model gives numbers that are not finite, other
        vectors than when it was checked, or another result as a graph than in torch.

    Fix:
        Without settings of your own, pull or copy the model again; with some, leave them out one by one. Load a model
        that overflows in half precision in float32. After an upgrade that changed the vectors, install the versions of
        the message again, or check the model anew with its command.
    """


class UnsafeModelError(CheckpointError):
    """Using the model would run code: pickle weights, or Python in the repository without trust.

    Cause:
        The weights are there only as pickle (`pytorch_model.bin`). The model's configuration names Python code, in its
        own repository or in another, and nobody said that this code is trusted. Or the configuration redirects what is
        loaded, to compute kernels, to another file, or outside of the folder.

    Fix:
        Use a revision with safetensors, or convert the file once where you trust it. Read the code that the message
        names; if you trust it, pull it with `localhf pull --trust-remote-code MODEL`, and load it with
        `model_kwargs={"trust_remote_code": True}`. See the guide to models with their own code.
    """


class UninitializedWeightsError(CheckpointError):
    """The model would run with weights that its checkpoint does not hold, or ignore some that it does.

    Cause:
        `config.json` describes another model than the weights are of: files of two models, an edited configuration, or
        a model that needs its own code and was loaded without it. Or the checkpoint holds a part of a model only, such
        as one without its head.

    Fix:
        Pull or copy the model again. If the list is the same then, the repository itself is at fault: use another
        revision, or another model. There is no switch for it, because the missing weights would be random at every
        start.

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
    """This kind of model cannot do what was asked.

    Cause:
        A model of one kind is used as another: a cross-encoder for embeddings, an embedding model to write text, a
        model without a chat template to chat. A setting contradicts what the model says about itself. The engine cannot
        run it, or it was not compiled. Or the installed transformers is older than the model.

    Fix:
        Use the class that fits to the model, or another model; the hint names one of both. What OpenVINO does not run,
        `backend="torch"` may.
    """


class EngineError(LocalHFError):
    """The engine that runs the model cannot be used.

    Cause:
        A model failed while it generated: for want of memory, over a setting, or in its own code. The environment of
        optimum-cli is broken. Or the object was closed before it was used.

    Fix:
        Lower `batch_size` or `max_new_tokens` if memory is short; leave settings for generating out, to see whether
        they are at fault. After `close()`, make a new object.
    """


class EngineNotInstalledError(EngineError, ImportError):
    """An optional dependency is missing; the hint is the `pip install` that brings it.

    Cause:
        The package was installed without the extra that this needs: `torch`, `openvino`, `compile`, `image`, `serve` or
        `chroma`. Or a language model is compiled, and optimum-cli is neither on the PATH nor in `LOCALHF_OPTIMUM_CLI`.

    Fix:
        Run the `pip install` of the hint, in the environment that the program runs in. optimum-cli needs an environment
        of its own; the hint says how to make it.
    """


class DeviceUnavailableError(EngineError):
    """The device that was asked for is not on this machine.

    Cause:
        `device` names a GPU that this machine or this build of torch does not have, a number that is too high, or no
        device at all. OpenVINO has names of its own, such as `CPU` and `GPU`.

    Fix:
        Leave `device` out, or use one of those that the hint names.
    """


class FingerprintMismatchError(LocalHFError):
    """A collection was filled by another model than the one that now reads or writes it.

    Cause:
        The program was changed to another model, another revision, other prompts or another pooling, and opens the old
        collection. Or the collection was filled without a fingerprint, and its vectors are not those of this model.

    Fix:
        Open the collection with the model that the message names; or choose another `collection_name` or
        `persist_directory`, and add the documents again. See the guide to Chroma.

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

    Cause:
        A text is None, a number, or has characters that cannot be encoded. An image cannot be read. A setting is
        misspelt, contradicts another, or has a value that none has.

    Fix:
        Change or leave out what the message names. For one item of a list, `index` says which.

    Attributes:
        index: The place of the offending item in the list that was given, or None for a single input.
    """

    def __init__(self, message: str, *, index: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.index = index

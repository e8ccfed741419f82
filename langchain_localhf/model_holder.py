"""What LangChain's classes for a model on this machine have in common: its name, how it is loaded, shared and kept."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from langchain_localhf.errors import EngineError, LocalHFError
from langchain_localhf.loaded import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Mapping

_Loaded = TypeVar("_Loaded", bound=LoadedModel)


class ModelHolder(BaseModel, Generic[_Loaded]):
    """Loads the model that its fields name when it is made, and holds it until `close()`.

    Objects with equal settings share the model; so do copies. A pickled object holds its settings only.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())

    # What the loaded model was made with is frozen: a later change would not reach it.
    model_name: str = Field(alias="model", frozen=True)
    """A folder, `org/name`, `org/name@revision`, or a bare name."""
    cache_folder: str | None = Field(default=None, frozen=True)
    """A Hugging Face cache to look into before the others."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict, frozen=True)
    """What the model is loaded with; for the OpenVINO engine, also `ov_config`."""
    backend: str = Field(default="auto", frozen=True)
    """The engine: `torch`, `openvino` for the graph that `localhf compile` made, or `auto` for the graph if there is
    one, openvino is installed, and the settings ask for nothing that it cannot do."""

    _loaded: _Loaded | None = PrivateAttr(default=None)

    def __init__(self, **fields: object) -> None:
        # Not a pydantic validator: that would turn the package's own errors into a ValidationError.
        super().__init__(**fields)
        self._loaded = self._load()

    @abstractmethod
    def _load(self) -> _Loaded:
        """Checks the fields against each other, and loads the model that they name."""

    @classmethod
    def model_validate(cls, obj: object, **options: Any) -> Self:  # noqa: ANN401 - as in pydantic
        """Makes an object from a dictionary of fields; with the constructor's errors, not wrapped by pydantic."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            causes = [detail.get("ctx", {}).get("error") for detail in error.errors()]
            raise next((cause for cause in causes if isinstance(cause, LocalHFError)), error) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy that shares the model; changed fields are validated, and load another model if they ask for one."""
        if not update:
            return super().model_copy(deep=deep)
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**(copy.deepcopy(fields) if deep else fields), **update})

    def __getstate__(self) -> dict[Any, Any]:
        """Everything but the loaded model, which another process loads for itself."""
        return {**super().__getstate__(), "__pydantic_private__": {"_loaded": None}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Restores the settings and loads the model again."""
        super().__setstate__(state)
        self._loaded = self._load()

    def close(self) -> None:
        """Gives back the model's memory, once no other object shares the model."""
        self._loaded = None

    @property
    def _model(self) -> _Loaded:
        if self._loaded is None:
            msg = f"this {type(self).__name__} of {self.model_name} was closed"
            raise EngineError(msg, hint="make a new object; close() gives the memory back for good")
        return self._loaded

"""The tree of errors."""

from __future__ import annotations

import inspect
import pickle

import pytest

from langchain_localhf import errors


def test_hint_follows_the_message_after_a_blank_line() -> None:
    """`str(error)` is the message, a blank line, and the hint."""
    error = errors.PullError("no network", hint="try again")
    assert str(error) == "no network\n\nhint: try again"
    assert (error.message, error.hint) == ("no network", "try again")


def test_every_class_is_exported_and_drawn_in_the_tree() -> None:
    """`__all__` is complete and sorted, and the module's docstring draws every class."""
    classes = [name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)]
    assert sorted(classes) == errors.__all__
    assert [name for name in classes if name not in (errors.__doc__ or "")] == []


@pytest.mark.parametrize("name", errors.__all__)
def test_survives_pickling(name: str) -> None:
    """An error that comes back from another process still carries its facts."""
    error = getattr(errors, name)("what", hint="how")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.hint) == (type(error), str(error), "how")


def test_standard_classes_still_catch() -> None:
    """Code that catches the standard class of an upstream error still does."""
    assert issubclass(errors.ModelNotFoundError, FileNotFoundError)
    assert issubclass(errors.EngineNotInstalledError, ImportError)
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.ModelReferenceError, ValueError)

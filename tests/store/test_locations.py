"""Where models can be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_localhf.store.locations import Locations, from_environment

if TYPE_CHECKING:
    import pytest


def test_defaults(home: Path) -> None:
    """The store and the hub's cache are in the user's cache folder."""
    found = from_environment()
    assert found.store == home / ".cache" / "localhf"
    assert found.hub_caches == (home / ".cache" / "huggingface" / "hub",)
    assert found.endpoint is None
    assert found.optimum_cli is None


def test_every_setting_counts_in_order(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """The argument first, then sentence-transformers' folder, then the hub's; each is expanded, and named once."""
    monkeypatch.setenv("ROOT", "/caches")
    for name, value in {
        "LOCALHF_HOME": "~/store",
        "SENTENCE_TRANSFORMERS_HOME": "$ROOT/st",
        "HF_HUB_CACHE": "/caches/hub",
        "HF_HOME": "/caches",
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "LOCALHF_OPTIMUM_CLI": "~/export/bin/optimum-cli",
    }.items():
        monkeypatch.setenv(name, value)
    found = from_environment("~/mine")
    assert found.store == home / "store"
    assert found.hub_caches == (home / "mine", Path("/caches/st"), Path("/caches/hub"))
    assert found.endpoint == "http://127.0.0.1:1"
    assert found.optimum_cli == home / "export" / "bin" / "optimum-cli"


def test_the_hubs_older_name_and_empty_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HUGGINGFACE_HUB_CACHE` still counts; a setting that is empty is none."""
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", "/older")
    monkeypatch.setenv("HF_HUB_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("LOCALHF_HOME", "")
    monkeypatch.setenv("LOCALHF_OPTIMUM_CLI", "")
    found = from_environment()
    assert (found.store, found.hub_caches) == (Path("/cache/localhf"), (Path("/older"), Path("/cache/huggingface/hub")))
    assert found.optimum_cli is None


def test_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder has no store and no default cache; what is named still counts."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", _no_such_user)
    assert from_environment() == Locations(store=None)
    assert from_environment("/caches").hub_caches == (Path("/caches"),)


def _no_such_user(identifier: int) -> None:
    raise KeyError(identifier)


def test_relative_settings_become_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is that of now, also if the working directory changes later."""
    monkeypatch.setenv("LOCALHF_HOME", "models")
    assert from_environment().store == Path(os.getcwd()) / "models"  # noqa: PTH109 - what it is compared with

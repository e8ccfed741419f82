"""The switch that turns the hub off."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from langchain_localhf.errors import NetworkRefusedError
from langchain_localhf.store.offline import hub_offline


def test_a_request_is_refused() -> None:
    """A call to the hub inside the context is an error that says so, before any socket is opened."""
    with pytest.raises(NetworkRefusedError, match="tried to reach the network") as caught, hub_offline():
        HfApi().model_info("org/name")
    assert isinstance(caught.value.__cause__, OfflineModeIsEnabled)


def test_a_wrapped_refusal_is_one() -> None:
    """An error of transformers around the hub's own, which names no reason, counts all the same."""
    with pytest.raises(NetworkRefusedError), hub_offline():
        _load_as_transformers_does()


def _load_as_transformers_does() -> None:
    try:
        hf_hub_download("org/name", "config.json", local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise OSError("We couldn't connect to 'https://huggingface.co'") from error


def test_other_errors_pass_through() -> None:
    """What has nothing to do with the network stays what it is."""
    with pytest.raises(ValueError, match="no network"), hub_offline():
        raise ValueError("no network")


@pytest.mark.parametrize("before", [False, True])
def test_the_setting_comes_back(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - parametrised
    """Nested contexts switch once; the last one to leave restores what the user had, also after an error."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", before)
    with hub_offline():
        with contextlib.suppress(KeyError), hub_offline():
            raise KeyError
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is before


def test_threads_share_the_switch() -> None:
    """While any thread holds it the hub is off, and afterwards on again."""
    everyone_inside = Barrier(4)

    def hold(_: int) -> bool:
        with hub_offline():
            everyone_inside.wait(timeout=10)
            return constants.HF_HUB_OFFLINE

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(hold, range(4)))
    assert constants.HF_HUB_OFFLINE is False

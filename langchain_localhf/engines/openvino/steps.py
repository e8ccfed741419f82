"""The one thread that runs openvino-genai's continuous batching, for any number of callers."""

from __future__ import annotations

import sys
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
from openvino_genai import GenerationStatus

from langchain_localhf.engines.openvino.devices import reason
from langchain_localhf.engines.openvino.prefixes import Ends
from langchain_localhf.errors import EngineError, LocalHFError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from openvino_genai import ContinuousBatchingPipeline, GenerationHandle

    from langchain_localhf.engines.openvino.writing import Writing


@dataclass
class _Running:
    writing: Writing
    handle: GenerationHandle
    token_ids: list[int]
    ends: frozenset[int]
    has_begun: bool = False


class Steps:
    """Runs answers side by side, a token of each at every step, in a thread that lives only while there are any.

    Args:
        open_pipeline: Opens the model. Once at the start, and again after an error, which a pipeline does not survive.
        max_running: How many answers run together at most; None for as many as the pipeline takes.
    """

    def __init__(
        self, open_pipeline: Callable[[], ContinuousBatchingPipeline], *, max_running: int | None = None
    ) -> None:
        self._open_pipeline = open_pipeline
        self._max_running = max_running or sys.maxsize
        self._pipeline: ContinuousBatchingPipeline | None = open_pipeline()
        self._arrived: list[Writing] = []
        self._lock = threading.Lock()
        self._is_running = False
        # Of the thread alone:
        self._waiting: list[Writing] = []
        self._running: list[_Running] = []
        self._one_by_one: deque[Writing] = deque()  # one of these broke the pipeline, perhaps
        self._ends = Ends()
        self._requests = 0

    def submit(self, writings: Sequence[Writing]) -> None:
        """Lets them begin at the next step."""
        try:
            with self._lock:
                self._arrived += writings
                if not self._is_running:
                    # No daemon: the libraries do not survive that their thread is cut off when the process ends.
                    threading.Thread(target=self._work, name="localhf-generation").start()
        except BaseException:  # Ctrl-C can come anywhere, and then nobody will read them
            for writing in writings:
                writing.generation.cancel()
            raise

    def _work(self) -> None:
        # Said by the thread itself: whoever starts it may be interrupted before it runs, or when it does already.
        with self._lock:
            if self._is_running:
                return
            self._is_running = True
        while self._has_work():
            try:
                self._begin_all()
                self._step()
            except BaseException as error:  # noqa: BLE001 - whoever waits for an answer gets it, whatever it is
                self._recover(error)

    def _has_work(self) -> bool:
        with self._lock:
            waiting = self._arrived or self._waiting or self._running or self._one_by_one
            self._is_running = bool(waiting) or self._has_remains()
            return self._is_running

    def _has_remains(self) -> bool:
        """Whether the pipeline has work: also answers that were cancelled, whose cache the next step frees."""
        return self._pipeline is not None and self._pipeline.has_non_finished_requests()

    def _begin_all(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        self._waiting += arrived
        if self._one_by_one:
            if not self._running:
                self._begin(self._one_by_one.popleft())
            return
        waiting, self._waiting = deque(self._waiting), []
        while waiting and len(self._running) < self._max_running:
            self._begin(waiting.popleft())
        self._waiting += waiting

    def _begin(self, writing: Writing) -> None:
        try:
            if not writing.generation.is_over:
                self._request(writing)
        except Exception as error:  # noqa: BLE001 - the others go on, and this one's reader gets it
            writing.generation.fail(_translated(error))

    def _request(self, writing: Writing) -> None:
        """Starts an answer, or lets it wait for another one that begins; see `prefixes`."""
        if self._pipeline is None:
            self._pipeline, self._ends = self._open_pipeline(), Ends()
        token_ids, config = writing.wanted()
        if writing.generation.is_over:  # there was nothing to ask the model
            return
        ends = self._ends.within(token_ids)
        if any(ends & running.ends for running in self._running if not running.has_begun):
            self._waiting.append(writing)
            return
        tokens = ov.Tensor(np.array([token_ids], dtype=np.int64))
        handle = self._pipeline.add_request(self._requests, tokens, config)
        self._requests += 1
        self._running.append(_Running(writing, handle, list(token_ids), ends))

    def _step(self) -> None:
        for running in self._running:
            if running.writing.generation.is_over:
                running.handle.cancel()
        if self._pipeline is not None and self._has_remains():
            self._pipeline.step()
        before, self._running = self._running, []
        for running in before:
            self._deliver(running)

    def _deliver(self, running: _Running) -> None:
        """Hands over what is new; then the answer runs on, goes on with another request, or is over."""
        writing, generation = running.writing, running.writing.generation
        try:
            while running.handle.can_read() and not writing.is_interrupted:
                running.token_ids += writing.take(running.handle)
                running.has_begun = True
        except Exception as error:  # noqa: BLE001 - as in `_begin`
            generation.fail(_translated(error))
        status = running.handle.get_status()
        if status == GenerationStatus.RUNNING and not (generation.is_over or writing.is_interrupted):
            self._running.append(running)
            return
        running.handle.cancel()
        self._ends.add(running.token_ids)
        if generation.is_over:
            return
        if writing.is_interrupted:
            self._waiting.insert(0, writing)
        elif status == GenerationStatus.IGNORED:
            msg = "there was not enough memory for this answer"
            generation.fail(EngineError(msg, hint="lower batch_size or max_new_tokens, or shorten the prompt"))
        else:
            generation.finish()

    def _recover(self, error: BaseException) -> None:
        """Opens the model anew, and runs those one by one that have not begun: one of them may be at fault."""
        failed = [running.writing for running in self._running]
        self._running.clear()
        self._pipeline = None
        for writing in failed:
            if len(failed) == 1 or writing.generation.token_count:
                writing.generation.fail(_translated(error))
            else:
                self._one_by_one.append(writing)
        if not failed:  # the model cannot even be opened again
            with self._lock:
                waiting, self._arrived = [*self._one_by_one, *self._waiting, *self._arrived], []
            self._one_by_one.clear()
            self._waiting.clear()
            for writing in waiting:
                writing.generation.fail(_translated(error))


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, LocalHFError) or not isinstance(error, Exception):
        return error
    msg = f"the model failed while it generated: {type(error).__name__}: {reason(error)}"
    return EngineError(msg, hint="check the settings for generating; without any, the model is at fault")

"""Worker processes that are watched: one that dies is an error here, never a wait for ever."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Protocol, Self

from shmipc.cli._errors import CommandError

TICK = 0.1
"""Seconds between two looks at the workers; what is waited for itself ends a wait at once."""


class MessageQueue(Protocol):
    """What multiprocessing's queues and shmipc's have in common, as far as it is used here."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None) -> Any: ...
    def close(self) -> None: ...
    def join_thread(self) -> None: ...
    def cancel_join_thread(self) -> None: ...


class WorkerDied(CommandError):
    """A worker process ended before its work was done."""

    def __init__(self, process: BaseProcess) -> None:
        super().__init__(f"{process.name} {_ending(process.exitcode)}")


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was killed by signal {-exit_code} ({signal.strsignal(-exit_code)})"
    return f"ended with exit code {exit_code}"


class Crew:
    """The worker processes of one run.

    Every wait of a crew looks after all its workers: as soon as one has ended badly, the wait
    raises `WorkerDied`. Leaving the ``with`` block kills the workers that are still running.
    """

    def __init__(self, on_tick: Callable[[], object] = lambda: None) -> None:
        """`on_tick` is called about every `TICK` seconds while a wait lasts; it may raise."""
        self._workers: list[BaseProcess] = []
        self._on_tick = on_tick

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.join()
            worker.close()

    def start(self, name: str, target: Callable[..., object], *args: Any) -> BaseProcess:
        """Start a process, called `name` in messages, that runs ``target(*args)``."""
        worker = multiprocessing.Process(name=name, target=_work, args=(target, args), daemon=True)
        with _interrupt_held_back():
            worker.start()
            self._workers.append(worker)
        return worker

    def check(self) -> None:
        """Raise `WorkerDied` if a worker has ended badly."""
        self._on_tick()
        for worker in self._workers:
            if worker.exitcode not in (None, 0):
                raise WorkerDied(worker)

    def join(self, workers: Iterable[BaseProcess]) -> None:
        """Wait until all of `workers` have ended."""
        running = [worker for worker in workers if worker.is_alive()]
        while running:
            wait([worker.sentinel for worker in running], TICK)
            self.check()
            running = [worker for worker in running if worker.is_alive()]
        self.check()

    def put(self, messages: MessageQueue, item: Any) -> None:
        """Put `item`, however long `messages` stays full, as long as the workers live."""
        while True:
            try:
                return messages.put(item, timeout=TICK)
            except queue.Full:
                self.check()

    def receive(self, control: "Connection[Any, Any]") -> Any:
        """The next object that a worker sends over `control`."""
        while not control.poll(TICK):
            self.check()
        return control.recv()


@contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Keep Ctrl-C waiting, so that no process is started and not known, or not yet prepared."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(target: Callable[..., object], args: tuple[Any, ...]) -> None:
    # Ctrl-C reaches the whole foreground group: the parent decides, and kills its crew.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    target(*args)


def _end_with_parent() -> None:
    """End this process when its parent is gone: nobody is left to take or to send its messages."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

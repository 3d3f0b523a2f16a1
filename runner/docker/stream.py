"""A blocking stream of the docker package as an async iterator.

Every stream has a thread of its own: the event loop's default pool is small, and a log is followed for an hour.
The thread reads at most `DEPTH` items ahead, so a slow reader here slows nobody but this thread.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from docker.errors import DockerException

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

DEPTH: Final = 64


class Closable(Protocol[T_co]):
    """What the docker package's `CancellableStream` is."""

    def __iter__(self) -> Iterator[T_co]: ...

    def close(self) -> None:
        """Ends a read that another thread waits in."""


class Nothing:
    """The stream of something that is gone."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        """There is nothing to end."""


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None


class _Pump(Generic[T]):
    def __init__(self, source: Callable[[], Closable[T]]) -> None:
        self._items: asyncio.Queue[T | _Ended] = asyncio.Queue()
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._credit = threading.Semaphore(DEPTH)
        self._lock = threading.Lock()
        self._closed = False
        self._stream: Closable[T] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="docker-stream")
        reading = self._thread.submit(self._read)
        reading.add_done_callback(lambda done: self._put(_Ended(done.exception())))

    async def take(self) -> T | _Ended:
        item = await self._items.get()
        self._credit.release()
        return item

    def close(self) -> None:
        """Does not block. The thread ends soon after."""
        with self._lock:
            self._closed = True
            stream = self._stream
        self._credit.release()
        if stream is not None:
            _close(stream)
        self._thread.shutdown(wait=False)

    def _read(self) -> None:
        stream = self._source()
        with self._lock:
            self._stream = stream
            closed = self._closed
        if closed:
            _close(stream)
            return
        for item in stream:
            self._credit.acquire()
            if self._closed:
                return
            self._put(item)

    def _put(self, item: T | _Ended) -> None:
        # A loop that is closed has no reader any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)


async def threaded(source: Callable[[], Closable[T]]) -> AsyncGenerator[T, None]:
    """The items of the stream that `source` opens; both run in a thread. Raises what they raise."""
    pump = _Pump(source)
    try:
        while not isinstance(item := await pump.take(), _Ended):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        pump.close()


def _close(stream: Closable[object]) -> None:
    # Ended already, or its socket is shut: both are what we want.
    with contextlib.suppress(OSError, AttributeError, DockerException):
        stream.close()

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
from docker.types.daemon import CancellableStream

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

DEPTH: Final = 64


class Stream(Protocol[T_co]):
    """A blocking stream that one thread reads and another may end."""

    def __iter__(self) -> Iterator[T_co]: ...

    def interrupt(self) -> None:
        """Called from another thread: ends a read that is waiting."""

    def release(self) -> None:
        """Called by the reading thread, when it reads no more."""


class Cancellable(Generic[T]):
    """The docker package's stream, with its connection given back."""

    def __init__(self, stream: "CancellableStream[T]") -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[T]:
        return iter(self._stream)

    def interrupt(self) -> None:
        # Ended already, or its socket is shut: both are what we want.
        with contextlib.suppress(OSError, AttributeError, DockerException):
            self._stream.close()

    def release(self) -> None:
        self._stream._response.close()  # type: ignore[attr-defined]  # noqa: SLF001 - `close` leaves it open


class Nothing:
    """The stream of something that is gone."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def interrupt(self) -> None:
        """Nothing waits."""

    def release(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None


class _Pump(Generic[T]):
    def __init__(self, source: Callable[[], Stream[T]]) -> None:
        self._items: asyncio.Queue[T | _Ended] = asyncio.Queue()
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._credit = threading.Semaphore(DEPTH)
        self._lock = threading.Lock()
        self._closed = False
        self._stream: Stream[T] | None = None
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
            if self._stream is not None:
                self._stream.interrupt()
        self._credit.release()
        self._thread.shutdown(wait=False)

    def _read(self) -> None:
        stream = self._source()
        try:
            with self._lock:
                self._stream = stream
            for item in () if self._closed else stream:
                self._credit.acquire()
                if self._closed:
                    return
                self._put(item)
        finally:
            with self._lock:
                self._stream = None
            stream.release()

    def _put(self, item: T | _Ended) -> None:
        # A loop that is closed has no reader any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)


async def threaded(source: Callable[[], Stream[T]]) -> AsyncGenerator[T, None]:
    """The items of the stream that `source` opens; both run in a thread. Raises what they raise."""
    pump = _Pump(source)
    try:
        while not isinstance(item := await pump.take(), _Ended):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        pump.close()

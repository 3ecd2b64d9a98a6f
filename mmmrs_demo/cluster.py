"""Spreads files, and the windows of scenes, over a Ray cluster; the one room that knows Ray.

Each worker holds an engine. Whatever is read or written is read and written here: pictures and latents go to the
workers, and come back. So a worker that is lost leaves nothing behind, and what it was at is done by another.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmmrs_demo.batch import Item, Outcome
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.errors import UserError, heed
from mmmrs_demo.make import is_scene
from mmmrs_demo.maker import Maker, SceneModel
from mmmrs_demo.request import Rendering, Step, TextRequest, TranslationRequest
from mmmrs_demo.settings import Settings

Factory = Callable[[Catalog, Settings], Maker]
"""Makes an engine; each worker calls it once."""

_AnyRequest = TextRequest | TranslationRequest
_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")

_ANSWER = 10  # seconds within which a cluster has to answer
_PATIENCE = 0.1  # seconds between two looks at whether to stop
_TRIES = 3  # workers that may be lost over the same piece of work


@contextmanager
def connect(factory: Factory, catalog: Catalog, settings: Settings) -> Iterator[Cluster]:
    """Give the cluster that Ray finds: that of `RAY_ADDRESS`, or one on this machine; without any, a new one here.

    When the context is left, however it is left, the workers end, and so does a cluster that was started for it.

    Raises:
        UserError: Ray is not installed, does not answer, or has no place for a worker.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # its notes would stand between our lines
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError(f"A cluster needs {error.name}: install it with pip install 'mmmrs-demo[ray]'.") from error
    _check_address()
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"The Ray cluster cannot be used ({_said(error)}): look at it with `ray status`, and set "
            "RAY_AUTH_MODE=token if it asks for tokens."
        ) from error
    try:
        with closing(Cluster(factory, catalog, settings)) as cluster:
            yield cluster
    finally:
        ray.shutdown()


class Cluster:
    """The workers of a cluster, with the face of one engine; see `connect`.

    A worker has a GPU to itself. Where there is none, it has as many cores as models would use here without a cluster,
    so that its pictures are the same to the last bit; `OMP_NUM_THREADS` in the environment says how many.

    Attributes:
        catalog: The bundles.
        workers: How many there are.
    """

    def __init__(self, factory: Factory, catalog: Catalog, settings: Settings) -> None:
        import ray

        self.catalog, self._settings = catalog, settings
        self.workers, place = _places(settings)
        there = settings.model_copy(update={"device": ""} if "num_gpus" in place else {})
        weights = Catalog(catalog.weights.resolve(), catalog.bundles)
        hired = ray.remote(_Worker).options(max_restarts=-1, **place)
        self._free: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.local()  # its `over` is set when nobody waits for what a thread does
        self._open: WeakSet[Any] = WeakSet()
        for _ in range(self.workers):
            self._await(hired.remote(factory, weights, there, place["num_cpus"]))

    def close(self) -> None:
        """End what is under way, and wait until nothing of it is left."""
        self._over.set()
        for answers in list(self._open):
            answers.close()

    def files(self, one: Callable[[Item], Outcome], items: Iterable[Item]) -> Iterator[Outcome]:
        """Do what `batch.translate_all` has to do: small files several at a time, scenes one after another."""
        bundle = self.catalog.bundle(self._settings.bundle)
        for scenes, some in groupby(items, lambda item: is_scene(item.file, bundle, self._settings)):
            each = map if scenes else self.each
            yield from each(one, some)

    def each(self, do: Callable[[_Thing], _Result], things: Iterable[_Thing]) -> Iterator[_Result]:
        """Yield what is done of each thing, in their order, as `map` does, but as many at a time as there are workers.

        `do` is called in other threads, and ahead of what is asked for; `things` are taken in this one.
        """
        answers = self._each(do, things)
        self._open.add(answers)
        return answers

    def _each(self, do: Callable[[_Thing], _Result], things: Iterable[_Thing]) -> Iterator[_Result]:
        over = threading.Event()
        threads = ThreadPoolExecutor(self.workers, initializer=setattr, initargs=(self._thread, "over", over))
        ahead: deque[Future[_Result]] = deque()
        try:
            for thing in things:
                ahead.append(threads.submit(do, thing))
                if len(ahead) > 2 * self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            over.set()
            threads.shutdown(cancel_futures=True)

    def run(
        self,
        request: _AnyRequest,
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,  # noqa: ARG002 - a worker tells nothing of its steps
        stop: threading.Event | None = None,
    ) -> Rendering:
        """Make a picture in one piece; as `engine.Engine.run`, but for `on_step`, which is not called."""
        return self.ask(stop, "run", request, image)

    def run_all(
        self,
        requests: Sequence[_AnyRequest],
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,  # noqa: ARG002 - as above
        stop: threading.Event | None = None,
    ) -> list[Rendering]:
        """Make several pictures on one worker, which knows best how many to make together."""
        return self.ask(stop, "run_all", requests, image)

    def windows(self, request: _AnyRequest, stop: threading.Event | None = None) -> tuple[_AnyRequest, SceneModel]:
        """Return the complete request, and what looks through the windows of a scene; as `engine.Engine.windows`."""
        complete, model = self.ask(stop, "windows", request)
        return complete, _Windows(self, complete, model, stop)

    def ask(self, stop: threading.Event | None, name: str, *args: Any) -> Any:
        """Return what a worker's method returns; where the worker is lost, another is asked.

        Raises:
            Stopped: `stop` was set, or the cluster closed.
            UserError: From the worker; or several were lost.
        """
        import ray

        lost = 0
        while True:
            worker = self._take(stop)
            try:
                answer = getattr(worker, name).remote(*args).future()
                while not wait([answer], _PATIENCE).done:
                    self._heed(stop)
                return answer.result()
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                lost += 1
                if lost == _TRIES:
                    raise UserError(
                        f"The Ray cluster lost {_TRIES} workers over this ({_said(error)}): they may need more memory."
                    ) from error
            finally:
                if not self._over.is_set():
                    self._await(worker)

    def _await(self, worker: Any) -> None:
        """Count a worker as free once it answers: when it has started, has done what it is at, or is back."""
        answer = worker.answer.options(max_task_retries=-1).remote().future()
        answer.add_done_callback(lambda answer: self._free.put((worker, answer.exception())))

    def _take(self, stop: threading.Event | None) -> Any:
        """Return a free worker, waiting for one."""
        while True:
            self._heed(stop)
            try:
                worker, error = self._free.get(timeout=_PATIENCE)
            except Empty:
                continue
            if error is None:
                return worker
            self._free.put((worker, error))
            raise UserError(
                f"A worker of the Ray cluster cannot start ({_said(error, -1)}): it needs mmmrs-demo and the folder "
                "of weights where they are here."
            )

    def _heed(self, stop: threading.Event | None) -> None:
        for event in (stop, self._over, getattr(self._thread, "over", None)):
            heed(event)


class _Windows:
    """Looks through the windows of a scene on the workers, several batches at a time; the rest is done here."""

    def __init__(self, cluster: Cluster, request: _AnyRequest, model: SceneModel, stop: threading.Event | None) -> None:
        self.side, self.factor, self.channels, self.steps = model.side, model.factor, model.channels, model.steps
        self.model, self.versions = model.model, model.versions
        self.begin, self.advance, self.each = model.begin, model.advance, cluster.each
        self._cluster, self._request, self._stop = cluster, request, stop

    def predict(
        self, latents: NDArray[np.float32], step: int, pictures: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        return self._look("predict", latents, step, pictures)

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._look("decode", latents)

    def _look(self, name: str, *args: Any) -> NDArray[np.float32]:
        return self._cluster.ask(self._stop, "look", self._request, (self.model, self.versions), name, *args)


class _Worker:
    """An engine in a process of its own.

    Args:
        factory: Makes it.
        catalog: The bundles.
        settings: Limits and the device.
        threads: Of the models; 0 where they run on a GPU.
    """

    def __init__(self, factory: Factory, catalog: Catalog, settings: Settings, threads: int) -> None:
        if threads:
            os.environ["OMP_NUM_THREADS"] = str(threads)
        self._engine = factory(catalog, settings)
        self._request: _AnyRequest | None = None
        self._model: SceneModel | None = None

    def answer(self) -> None:
        """Say no more than that it is there."""

    def run(self, request: _AnyRequest, image: Image.Image | None) -> Rendering:
        return self._engine.run(request, image)

    def run_all(self, requests: Sequence[_AnyRequest], image: Image.Image | None) -> list[Rendering]:
        return self._engine.run_all(requests, image)

    def windows(self, request: _AnyRequest) -> tuple[_AnyRequest, SceneModel]:
        return self._engine.windows(request)

    def look(self, request: _AnyRequest, like: tuple[Any, Any], name: str, *args: Any) -> NDArray[np.float32]:
        """Predict or decode windows of a scene.

        Args:
            request: A complete one.
            like: Model and versions that the scene says it was made with.
            name: Of the model's method.
            args: Its arguments.
        """
        if self._model is None or request != self._request:
            self._request, self._model = self._engine.windows(request)
        if (own := (self._model.model, self._model.versions)) != like:
            raise UserError(f"The workers of the Ray cluster differ, and a scene needs equal ones: {own}, and {like}.")
        return getattr(self._model, name)(*args)


def _check_address() -> None:
    """Refuse an address at which nobody answers, which Ray would try for many minutes."""
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():  # else it is a word of Ray's
        try:
            socket.create_connection((host, int(port)), _ANSWER).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"No Ray cluster answers at {address}: correct RAY_ADDRESS, or unset it.") from error


def _places(settings: Settings) -> tuple[int, dict[str, int]]:
    """Return how many workers there is room for, and what each takes of the cluster."""
    import ray

    from mmmrs_demo.engine import threads

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if gpus and settings.device != "cpu":
        return gpus, {"num_gpus": 1, "num_cpus": 0}
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    if not any(cores):
        raise UserError("The Ray cluster has neither a GPU nor a core for a worker: add a machine to it.")
    each = min(threads(), max(cores))
    return sum(count // each for count in cores), {"num_cpus": each}


def _said(error: BaseException, line: int = 0) -> str:
    """Return one line of an error of Ray, which has many."""
    return (str(error).strip() or type(error).__name__).splitlines()[line].rstrip(".")

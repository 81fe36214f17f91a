"""The forward of one batch shape, compiled by torch or recorded as a CUDA graph."""

import logging
import shutil
import threading
import time
from collections.abc import Callable

import torch

from app.errors import ConfigurationError

log = logging.getLogger(__name__)


class Compiled:
    """Runs `module` on normalised images of the one shape that it was prepared for. Safe in threads."""

    def __init__(
        self, module: torch.nn.Module, dtype: torch.dtype, *, compiled: bool, cuda_graphs: bool, device: torch.device
    ) -> None:
        """Check that this machine can compile or record.

        Raises:
            ConfigurationError: the device has no CUDA graphs, or the machine has no compiler.
        """
        if cuda_graphs and device.type != "cuda":
            raise ConfigurationError(
                f"CUDA graphs (LOOKALIKE_CUDA_GRAPHS) need a CUDA device; this one is {device}: unset it"
            )
        if compiled and device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise ConfigurationError(
                "torch.compile (LOOKALIKE_COMPILE) needs a C++ compiler; install g++, or unset LOOKALIKE_COMPILE"
            )
        self._dtype = dtype
        self._device = device
        self._cuda_graphs = cuda_graphs
        self._compiled = compiled
        self._call: Callable[[torch.Tensor], torch.Tensor] = torch.compile(module) if compiled else module
        self._graph: torch.cuda.CUDAGraph | None = None
        self._lock = threading.Lock()

    def prepare(self, images: torch.Tensor) -> None:
        """Compile or record for images of this shape.

        Raises:
            ConfigurationError: torch cannot compile the model here.
        """
        began = time.perf_counter()
        try:
            with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32):
                if self._cuda_graphs:
                    self._record(images)
                else:
                    self._call(images)
        except Exception as error:  # dynamo, inductor, the compiler and CUDA each have errors of their own
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ConfigurationError(
                f"the model cannot be compiled here: {reason}; unset LOOKALIKE_COMPILE and LOOKALIKE_CUDA_GRAPHS"
            ) from error
        log.info("compiled for batches of %d in %.1f s", len(images), time.perf_counter() - began)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if self._graph is not None:
            return self._replay(images)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32):
            return self._call(images)

    def _record(self, images: torch.Tensor) -> None:
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            self._input = images.clone(memory_format=torch.preserve_format)
            for _ in range(3):  # the graph must not record the first calls, which allocate and tune
                self._call(self._input)
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                self._output = self._call(self._input)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        self._graph = graph

    def _replay(self, images: torch.Tensor) -> torch.Tensor:
        """Replay in the graph's stream, ordered before and after the calling thread's stream by events."""
        caller = torch.cuda.current_stream(self._device)
        with self._lock:
            self._stream.wait_stream(caller)
            with torch.cuda.stream(self._stream):
                self._input.copy_(images, non_blocking=True)
                self._graph.replay()  # type: ignore[union-attr]
                features = self._output.clone()
            done = self._stream.record_event()
        caller.wait_event(done)
        images.record_stream(self._stream)
        features.record_stream(caller)
        return features

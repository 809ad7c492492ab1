"""Starts the audit's child from a process that has imported torch already, which saves seconds a start.

    with WarmStart() as warm:
        conduct(Request("train.py"), settings, command=warm.command)
        subprocess.run([*warm.python, "train.py"])

The child's command becomes a small client of its own. It sends its streams, folder, environment and arguments to the
warm process, which forks; it passes signals on and ends as the fork ends. No torch operation ever runs in the warm
process, so that a fork is safe. Random number generators are seeded anew in each fork, as in a fresh interpreter.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

SCRIPT = "--script"
HERE = os.path.dirname(os.path.abspath(__file__))


class WarmStart:
    """Owns the warm process. `command` is what `conduct` and `watch` take; `python` runs a script by itself."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        path = os.path.join(self._folder.name, "socket")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__, "serve", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=self._folder.name,
        )
        assert self._server.stdout is not None
        if self._server.stdout.readline() != b"ready\n":
            raise RuntimeError("the warm process did not start")
        self.command = [sys.executable, "-S", "-I", __file__, "ask", path]
        self.python = [*self.command, SCRIPT]

    def close(self) -> None:
        """Also ends whatever is still running."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._folder.cleanup()

    def __enter__(self) -> WarmStart:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ----------------------------------------------------------------------------------------------------------- the client


def ask(path: str, arguments: list[str]) -> NoReturn:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)

    def forward(number: int, _: FrameType | None) -> None:
        connection.send(bytes([number]))

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    text = json.dumps(request).encode("utf-8", "surrogateescape")
    socket.send_fds(connection, [len(text).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(text)
    code = int(connection.recv(64) or b"1")
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


# ----------------------------------------------------------------------------------------------------------- the server


class Server:
    """Forks a child for every client, one process for all of them."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(16)
        self._clients: dict[socket.socket, int] = {}
        self._deaths, bell = os.pipe()
        os.set_blocking(bell, False)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> dict[str, Any]:
        """Returns only in each forked child, with its request."""
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([0, self._listener, self._deaths, *self._clients], [], [])
            if 0 in ready:
                for child in self._clients.values():
                    os.killpg(child, signal.SIGKILL)
                sys.exit(0)
            if self._deaths in ready:
                os.read(self._deaths, 4096)
                self._reap()
            for client in [client for client in ready if client in self._clients]:
                self._hear(client)
            if self._listener in ready:
                request = self._accept()
                if request is not None:
                    return request

    def _accept(self) -> dict[str, Any] | None:
        client, _ = self._listener.accept()
        size, streams, _, _ = socket.recv_fds(client, 8, 3)
        text = b""
        while len(text) < int.from_bytes(size, "big"):
            text += client.recv(65536)
        child = os.fork()
        if child == 0:
            for other in (client, self._listener, *self._clients):
                other.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            for stream in streams:
                os.close(stream)
            return dict(json.loads(text.decode("utf-8", "surrogateescape")))
        for stream in streams:
            os.close(stream)
        self._clients[client] = child
        return None

    def _hear(self, client: socket.socket) -> None:
        """A signal to pass on; nothing when the client is gone."""
        try:
            signals = client.recv(16)
        except OSError:
            signals = b""
        for number in signals or bytes([signal.SIGKILL]):
            try:
                os.killpg(self._clients[client], number)
            except ProcessLookupError:
                break
        if not signals:
            os.waitpid(self._clients.pop(client), 0)
            client.close()

    def _reap(self) -> None:
        for client, child in list(self._clients.items()):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                with suppress(OSError):
                    client.send(str(os.waitstatus_to_exitcode(status)).encode())
                client.close()
                del self._clients[client]


def become(request: dict[str, Any]) -> NoReturn:
    """In the fork: the audit's child, as a fresh interpreter would start it."""
    import random

    import numpy
    import torch

    import auditor.probe.launch

    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    random.seed()
    numpy.random.seed()
    torch.seed()
    sys.argv = ["-c", *request["arguments"]]
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != HERE]
    if sys.argv[1:2] == [SCRIPT]:
        _run(sys.argv[2:])
    auditor.probe.launch.main()


def _run(arguments: list[str]) -> NoReturn:
    """As `python train.py` would."""
    import runpy

    sys.argv = arguments
    sys.path[0:0] = [os.path.dirname(os.path.abspath(arguments[0]))]
    runpy.run_path(arguments[0], run_name="__main__")
    sys.exit(0)


def _import_all() -> None:
    import numpy.random  # noqa: F401
    import torch._dynamo  # every optimizer imports it, which takes a second
    import torch.utils.data  # noqa: F401

    import auditor.probe.launch
    import auditor.probe.parts
    import auditor.probe.probe
    import auditor.probe.taps
    import auditor.probe.target

    auditor.probe.parts.collectors()


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        ask(sys.argv[2], sys.argv[3:])
    _import_all()
    become(Server(str(Path(sys.argv[2]))).serve())

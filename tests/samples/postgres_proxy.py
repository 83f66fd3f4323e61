"""A proxy before a PostgreSQL server's socket, which cuts a connection at a statement."""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Literal, Self

Cut = Literal["before", "after"]  # the server saw the statement
_NAME = ".s.PGSQL.5432"


class PostgresProxy(AbstractContextManager["PostgresProxy"]):
    """Hand on everything, until `cut` is set: then the connection of that statement is lost."""

    def __init__(self, server: Path) -> None:
        self._server = server / _NAME
        self.folder = Path(tempfile.mkdtemp(prefix="streamlab-proxy-"))
        self.cut: tuple[bytes, Cut] | None = None
        self.n_cut = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / _NAME))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        (self.folder / _NAME).unlink()
        self.folder.rmdir()

    def _accept(self) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with client, server:
            server.connect(str(self._server))
            answers = threading.Thread(target=self._pump, args=(server, client), daemon=True)
            answers.start()
            self._ask(client, server)
            server.shutdown(socket.SHUT_RDWR)
            answers.join()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(65_536):
            if self.cut is not None and self.cut[0] in data:
                when, self.cut = self.cut[1], None
                self.n_cut += 1
                client.shutdown(socket.SHUT_RDWR)  # no answer gets through
                if when == "after":
                    server.sendall(data)
                return
            server.sendall(data)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

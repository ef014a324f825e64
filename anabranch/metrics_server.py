"""The HTTP server of every long-running process: `/metrics`, `/health` and `/ready`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from anabranch.errors import UsageError
from anabranch.loop_status import LoopStatus

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATHS = "/metrics, /health, /ready"


class MetricsServer:
    """Serves until it is closed. `port` is the bound port."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        self.port = int(server.server_port)

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def serve(registry: CollectorRegistry, loop: LoopStatus, port: int, host: str = "127.0.0.1") -> MetricsServer:
    """Serve the registry's metrics and the loop's status. Port 0 is any free one.

    Raises `UsageError` if the port is in use.
    """
    try:
        return MetricsServer(_bind(endpoints(registry, loop), port, host))
    except OSError as error:
        raise UsageError(
            f"metrics cannot be served on {host}:{port}: {error}; choose another --metrics-port"
        ) from error


def endpoints(registry: CollectorRegistry, loop: LoopStatus) -> WSGIApplication:
    """The application: `/metrics` in Prometheus form; `/health` and `/ready` answer 200, or 503 with one line that
    says why."""
    serve_metrics = make_wsgi_app(registry)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answer: Iterable[bytes] = serve_metrics(environ, start_response)
            return answer
        if path == "/health":
            return _answer(start_response, loop.stuck)
        if path == "/ready":
            return _answer(start_response, loop.not_ready)
        return _text(start_response, "404 Not Found", f"there are {PATHS}")

    return application


def _answer(start_response: StartResponse, failure: str | None) -> Iterable[bytes]:
    if failure is None:
        return _text(start_response, "200 OK", "ok")
    return _text(start_response, "503 Service Unavailable", failure)


def _text(start_response: StartResponse, status: str, line: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{line}\n".encode()]


def _bind(application: WSGIApplication, port: int, host: str) -> WSGIServer:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]

    class HttpServer(ThreadingWSGIServer):
        address_family = family

    return make_server(str(address[0]), port, application, HttpServer, _SilentHandler)


class _SilentHandler(WSGIRequestHandler):
    """Logs no request: there is one every few seconds."""

    log_message: Callable[..., None] = staticmethod(lambda *_: None)

"""TLS of the listeners: one certificate for HTTP and gRPC, renewed on disk without a restart.

cert-manager writes a new certificate weeks before the old one ends; connections that are open stay open, and
new ones get the new certificate. Files that do not fit together yet change nothing, and are tried again.
"""

import ssl
from pathlib import Path
from typing import Any

import structlog

from gateway.configuration import ConfigurationError
from gateway.file_watch import FileWatch
from gateway.security_settings import ListenerTlsSettings

_log = structlog.get_logger()


class _Newest(ssl.SSLContext):
    """A context that leaves each new connection to another one, which may be replaced.

    A context in use can take a new certificate and further CAs, but gives none up; and sessions that it has
    granted go on without another look at the client's certificate. A new one knows of neither.
    """

    newest: ssl.SSLContext

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin a handshake, as asyncio and uvloop do."""
        return self.newest.wrap_bio(*args, **options)


class ListenerTls:
    """The certificate of both listeners.

    Args:
        settings: names the files.
        root: what their paths are relative to.

    Attributes:
        http: the context of that port; new connections get what the last refresh has read.
        grpc: the context of that one.

    Raises:
        ConfigurationError: a file is missing, is no PEM, or does not fit the others.
    """

    def __init__(self, settings: ListenerTlsSettings, root: Path) -> None:
        self._certificate = root / settings.certificate
        self._key = root / settings.key
        self._client_ca = root / settings.client_ca if settings.client_ca else None
        self._watch = FileWatch(filter(None, (self._certificate, self._key, self._client_ca)))
        self._is_stale = False
        self.http, self.grpc = _Newest(ssl.PROTOCOL_TLS_SERVER), _Newest(ssl.PROTOCOL_TLS_SERVER)
        self.http.newest, self.grpc.newest = self._new_contexts()

    def refresh(self) -> None:
        """Take new files, if there are any; those that cannot be used are logged, and the old ones stay."""
        if not (self._watch.changed() or self._is_stale):
            return
        self._is_stale = True
        try:
            http, grpc = self._new_contexts()
        except ConfigurationError as error:
            _log.error("certificate_not_renewed", error=str(error))
            return
        self.http.newest, self.grpc.newest = http, grpc
        self._is_stale = False
        _log.info("certificate_renewed", certificate=str(self._certificate))

    def _new_contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """For HTTP and for gRPC."""
        return self._new_context("http/1.1"), self._new_context("h2")

    def _new_context(self, speaks: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([speaks])
        try:
            context.load_cert_chain(self._certificate, self._key)
            if self._client_ca:
                context.load_verify_locations(self._client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except ssl.SSLError as error:
            files = ", ".join(map(str, filter(None, (self._certificate, self._key, self._client_ca))))
            why = (error.reason or str(error)).lower().replace("_", " ")
            raise ConfigurationError(f"server.tls: cannot use {files}: {why}") from error
        except OSError:
            for path in filter(None, (self._certificate, self._key, self._client_ca)):
                _read(path)
            raise
        return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"server.tls: {path}: cannot be read: {error.strerror}") from error

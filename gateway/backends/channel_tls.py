"""TLS to model servers: gRPC's credentials from an endpoint's settings."""

import ssl
from pathlib import Path

import grpc
import structlog

from gateway.configuration import ConfigurationError
from gateway.file_watch import FileWatch
from gateway.security_settings import EndpointTlsSettings

_log = structlog.get_logger()

SYSTEM = "system"
"""As a CA: the roots that gRPC brings."""


class ChannelTls:
    """What a channel to one endpoint needs.

    Args:
        settings: names the files; its `ca` is not empty.
        root: what their paths are relative to.
        endpoint: whose settings they are, for the errors.
        dns_name: that the address was looked up by: the certificate's name, unless the settings say another.

    Attributes:
        options: of the channel: the name that the certificate must have, where it is not the address's.
        renewals: how often the files have changed; channels that were opened before are out of date.

    Raises:
        ConfigurationError: a file is missing, is no PEM, or does not fit the others.
    """

    def __init__(self, settings: EndpointTlsSettings, root: Path, endpoint: str, dns_name: str = "") -> None:
        self._ca = None if settings.ca == SYSTEM else root / settings.ca
        self._certificate = root / settings.certificate if settings.certificate else None
        self._key = root / settings.key if settings.key else None
        self._section = f"endpoints.{endpoint}.tls"
        self._watch = FileWatch(self._paths)
        self._is_stale = False
        self.renewals = 0
        self._check()
        name = settings.server_name or dns_name
        self.options = (
            (("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)) if name else ()
        )

    @property
    def _paths(self) -> tuple[Path, ...]:
        return tuple(path for path in (self._ca, self._certificate, self._key) if path)

    def refresh(self) -> None:
        """Take new files, if there are any; those that cannot be used are logged, and tried again."""
        if not (self._watch.changed() or self._is_stale):
            return
        self._is_stale = True
        try:
            self._check()
        except ConfigurationError as error:
            _log.error("certificate_not_renewed", error=str(error))
            return
        self._is_stale = False
        self.renewals += 1
        _log.info("certificate_renewed", section=self._section)

    def credentials(self) -> grpc.ChannelCredentials:
        """From the files as they are now."""
        ca, key, certificate = (
            path.read_bytes() if path else None for path in (self._ca, self._key, self._certificate)
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def _check(self) -> None:
        """See that they can be used: gRPC would only say, at each call, that there is no connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            for path in self._paths:
                path.read_bytes()
            if self._ca:
                context.load_verify_locations(self._ca)
            if self._certificate:
                context.load_cert_chain(self._certificate, self._key)
        except ssl.SSLError as error:
            files = ", ".join(map(str, self._paths))
            why = (error.reason or str(error)).lower().replace("_", " ")
            raise ConfigurationError(f"{self._section}: cannot use {files}: {why}") from error
        except OSError as error:
            raise ConfigurationError(
                f"{self._section}: {error.filename}: cannot be read: {error.strerror}"
            ) from error

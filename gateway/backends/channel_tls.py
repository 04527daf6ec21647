"""TLS to model servers, from an endpoint's settings."""

import ssl
from pathlib import Path

import structlog

from gateway.configuration import ConfigurationError
from gateway.file_watch import FileWatch
from gateway.security_settings import EndpointTlsSettings

_log = structlog.get_logger()

SYSTEM = "system"
"""As a CA: the roots that the machine trusts."""


class ChannelTls:
    """What a channel to one endpoint needs.

    Args:
        settings: names the files; its `ca` is not empty.
        root: what their paths are relative to.
        endpoint: whose settings they are, for the errors.
        dns_name: that the address was looked up by: the certificate's name, unless the settings say another.

    Attributes:
        server_name: that the certificate must have; empty where it is the address's.
        context: of the next connection.
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
        self.server_name = settings.server_name or dns_name
        self.context = self._load()
        self.renewals = 0

    @property
    def _paths(self) -> tuple[Path, ...]:
        return tuple(path for path in (self._ca, self._certificate, self._key) if path)

    def refresh(self) -> None:
        """Take new files, if there are any; those that cannot be used are logged, and tried again."""
        if not (self._watch.changed() or self._is_stale):
            return
        self._is_stale = True
        try:
            self.context = self._load()
        except ConfigurationError as error:
            _log.error("certificate_not_renewed", error=str(error))
            return
        self._is_stale = False
        self.renewals += 1
        _log.info("certificate_renewed", section=self._section)

    def _load(self) -> ssl.SSLContext:
        """A context of the files as they are now.

        Raises:
            ConfigurationError: they cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        try:
            for path in self._paths:
                path.read_bytes()
            if self._ca:
                context.load_verify_locations(self._ca)
            else:
                context.load_default_certs()
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
        return context

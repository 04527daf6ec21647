"""The sections of `inferway.yaml` on who may ask and what secures a connection: TLS, Redis, keys, quotas."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from gateway.specs import Section

Seconds = Annotated[float, Field(gt=0)]


def _is_redis_url(value: str) -> str:
    expected = "expected redis://host:port/number or rediss://..., or nothing"
    try:
        parts = urlsplit(value)
        is_known = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
        int(parts.path.strip("/") or 0)
    except ValueError as error:
        raise ValueError(expected) from error
    if value and not is_known:
        raise ValueError(expected)
    return value


class ListenerTlsSettings(Section):
    """TLS on the HTTP and the gRPC port; paths are relative to the file.

    Attributes:
        certificate: a file with the chain, the gateway's own certificate first. Empty: no TLS.
        key: a file with its private key.
        client_ca: a file with the CAs whose clients are let in. Empty: clients need no certificate.
    """

    certificate: str = ""
    key: str = ""
    client_ca: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.certificate) is not bool(self.key):
            raise ValueError("certificate and key go together")
        if self.client_ca and not self.certificate:
            raise ValueError("client_ca needs certificate and key")
        return self


class EndpointTlsSettings(Section):
    """TLS to a model server; paths are relative to the file.

    Attributes:
        ca: a file with the CA's certificate, or `system` for those that the machine trusts. Empty: no TLS.
        certificate: a file with the gateway's own chain, for a server that asks for one.
        key: a file with its private key.
        server_name: the name in the server's certificate, where it is not that of the address.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.certificate) is not bool(self.key):
            raise ValueError("certificate and key go together")
        if not self.ca and (self.certificate or self.server_name):
            raise ValueError("certificate and server_name need ca: a file, or `system`")
        return self


class RedisSettings(Section):
    """A Redis. Without `url` there is none.

    Attributes:
        cluster: whether `url` leads to a cluster; its other nodes are learned there.
        ca: for `rediss://`: a file with the CA's certificate, relative to the file. Empty: the system's.
        password_file: a file with the password, where the URL is not to hold it.
        timeout_seconds: longest wait for a reply, and a connection where one must be made first.
        retry_after_seconds: how long a Redis that failed is left alone.
    """

    url: Annotated[str, AfterValidator(_is_redis_url)] = ""
    cluster: bool = False
    ca: str = ""
    password_file: str = ""
    timeout_seconds: Seconds = 0.1
    retry_after_seconds: Seconds = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ca and not self.url.startswith("rediss://"):
            raise ValueError("ca needs a url that starts with rediss://")
        if self.cluster and not self.url:
            raise ValueError("cluster needs url: the address of one of its nodes")
        if self.cluster and int(urlsplit(self.url).path.strip("/") or 0):
            raise ValueError("a cluster has only database 0: leave the number out of url")
        return self


class KeySettings(Section):
    """API keys. Without a file and without Redis the gateway is open to everybody who reaches it.

    Attributes:
        file: keys that `python -m gateway.keys` wrote, relative to the file; read again when it changes.
        redis: keys in Redis, beside those of the file.
        fresh_seconds: how long a key from Redis is used without asking again.
    """

    file: str = ""
    redis: RedisSettings = RedisSettings()
    fresh_seconds: Seconds = 30.0

    @property
    def are_on(self) -> bool:
        """Whether callers need a key."""
        return bool(self.file or self.redis.url)


class QuotaSettings(Section):
    """How the keys' rates and quotas are counted.

    Attributes:
        redis: where all gateways count together. Without it each counts for itself.
        lease_seconds: a gateway fetches what a key's rate allows in this time, at once.
        local_share_ratio: what each gateway lets through by itself while Redis is down, of each limit.
    """

    redis: RedisSettings = RedisSettings()
    lease_seconds: Seconds = 0.1
    local_share_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0

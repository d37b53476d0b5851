"""Redis behind TLS: the address says whom to trust."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cut_wire import cut_wire
from redis_servers import RedisServer, have_redis, running_redis

from cxguard.errors import StoreUnavailable
from cxguard.stores.redis import RedisStore
from cxguard.testing.contract.base import got, put, queued, sample

pytestmark = [pytest.mark.server, pytest.mark.asyncio]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_redis() as running:
        yield running


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for loopback that vouches for itself; what a client trusts, and what a server shows."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted = folder / f"{name}.pem"
    trusted.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    secret = folder / f"{name}.key"
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret.write_bytes(key.private_bytes(*formats))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(trusted, secret)
    return trusted, context


async def test_server_behind_tls_is_used_and_a_stranger_is_not(server: RedisServer, tmp_path: Path) -> None:
    """With the right authority all works; with another, or with none, nothing is sent."""
    trusted, context = certificate(tmp_path, "ours")
    other, _ = certificate(tmp_path, "other")
    async with cut_wire(server.port, tls=context) as wire:
        address = f"rediss://127.0.0.1:{wire.port}/0?prefix=tls&answer_seconds=5"
        store = RedisStore(f"{address}&ssl_ca_certs={trusted}")
        await store.start()
        await put(store, queued("a"))
        assert (await got(store, sample("a").id)).state == "queued"
        await store.stop()
        for stranger in (f"{address}&ssl_ca_certs={other}", address):
            with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                await RedisStore(stranger).start()

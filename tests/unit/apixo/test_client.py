"""However slow or large an answer is, every client ends in time, with the right fault and little memory."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import repeat
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_seedream.apixo import client as clients
from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.apixo.answers import NoAnswer, Reply
from airflow_provider_seedream.apixo.client import ApixoClient, AsyncApixoClient
from airflow_provider_seedream.apixo.exchange import Exchange, Send
from airflow_provider_seedream.hooks.shared_client import shared_poll_client

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FINE = OK + b"Content-Length: 2\r\n\r\n{}"
MEMORY = 16 * 1024 * 1024
POST = Send("POST", "/generateTask/seedream-4-5", {"prompt": "a fox"})

Answer = Reply | NoAnswer
Driver = Callable[[Account], Answer]


def once() -> Exchange[Answer]:
    """An exchange of one request, which returns what came of it."""
    answer = yield POST
    assert answer is not None
    return answer


def blocking(account: Account) -> Answer:
    with ApixoClient(account) as client:
        return client.run(once())


def on_an_event_loop(account: Account) -> Answer:
    async def ask() -> Answer:
        async with AsyncApixoClient(account) as client:
            return await client.run(once())

    return asyncio.run(ask())


def polling(account: Account) -> Answer:
    async def ask() -> Answer:
        async with shared_poll_client(account) as client:
            return await client.run(once())

    return asyncio.run(ask())


@pytest.fixture(params=[blocking, on_an_event_loop, polling])
def ask(request: pytest.FixtureRequest) -> Driver:
    driver: Driver = request.param
    return driver


@pytest.fixture(params=[blocking, on_an_event_loop])
def buy(request: pytest.FixtureRequest) -> Driver:
    """The clients that submit; only they must tell what was delivered."""
    driver: Driver = request.param
    return driver


def account(port: int, *, seconds: float = 30, scheme: str = "http") -> Account:
    return Account(api_key="sk-test", base_url=f"{scheme}://127.0.0.1:{port}/api/v1", request_timeout=seconds)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context whose certificate the clients trust."""
    file = tmp_path / "server.pem"
    file.write_bytes(self_signed("127.0.0.1"))
    monkeypatch.setattr("certifi.where", lambda: str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


class TestARequestEndsAtItsTimeout:
    """The server takes half a minute, and no pause between two bytes is longer than a read timeout."""

    ANSWERS: ClassVar = {
        "interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 12 + FINE,
        "headers": OK + b"Content-Length: 2\r\nX-Long: " + b"x" * 300 + b"\r\n\r\n{}",
        "body": OK + b"Content-Length: 300\r\n\r\n" + b" " * 300,
        "body without a length": OK + b"\r\n" + b" " * 300,
        "chunks": CHUNKED + b"1\r\nx\r\n" * 50 + b"0\r\n\r\n",
    }

    def test_when_the_answer_drips(self, ask: Driver) -> None:
        def ask_for(answer: bytes) -> Answer:
            with server(drip(answer)) as port:
                return ask(account(port, seconds=1))

        with ThreadPoolExecutor() as pool:
            faults = dict(zip(self.ANSWERS, pool.map(ask_for, self.ANSWERS.values()), strict=True))
        too_slow = NoAnswer(delivered=True, detail="TimeoutError: it did not end within 1 s")
        assert faults == dict.fromkeys(self.ANSWERS, too_slow)

    def test_when_the_answer_drips_through_tls(self, ask: Driver, certificate: ssl.SSLContext) -> None:
        with server(drip(self.ANSWERS["headers"]), certificate) as port:
            fault = ask(account(port, seconds=2, scheme="https"))
        assert fault == NoAnswer(delivered=True, detail="TimeoutError: it did not end within 2 s")

    def test_when_the_answer_is_a_torrent(self, ask: Driver) -> None:
        with server(torrent(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)) as port:
            fault = ask(account(port, seconds=1))
        assert isinstance(fault, NoAnswer)
        assert fault.delivered

    def test_when_the_tls_handshake_drips_nothing_was_delivered(self, buy: Driver) -> None:
        beginning_of_a_server_hello = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03" + b"x" * 300
        with server(drip(beginning_of_a_server_hello)) as port:
            fault = buy(account(port, seconds=1, scheme="https"))
        assert isinstance(fault, NoAnswer)
        assert not fault.delivered

    def test_when_nobody_answers_the_connect_nothing_was_delivered(self, buy: Driver) -> None:
        with full_backlog() as port:
            fault = buy(account(port, seconds=1))
        assert isinstance(fault, NoAnswer)
        assert not fault.delivered

    def test_and_leaves_no_thread_behind(self) -> None:
        with server(lambda _: [FINE]) as port:
            assert isinstance(blocking(account(port)), Reply)
            assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())


class TestAnAnswerInTime:
    @pytest.mark.parametrize("wbits", [None, zlib.MAX_WBITS, zlib.MAX_WBITS | 16])
    def test_is_read_though_it_is_compressed_unasked(self, ask: Driver, wbits: int | None) -> None:
        body = json.dumps({"code": 200}).encode()
        coding = {None: b"identity", zlib.MAX_WBITS: b"deflate"}.get(wbits, b"GZIP")
        packed = body if wbits is None else zlib.compress(body, wbits=wbits)
        head = OK + b"Content-Encoding: " + coding + b"\r\nContent-Length: %d\r\n\r\n" % len(packed)
        with server(lambda _: [head + packed]) as port:
            answer = ask(account(port))
        assert isinstance(answer, Reply)
        assert answer.body == body


class TestMemoryIsBounded:
    @pytest.mark.parametrize(
        ("head", "filling"),
        [
            pytest.param(OK + b"\r\n", b"x" * 65536, id="body without a length"),
            pytest.param(OK + b"Content-Length: 999999999999\r\n\r\n", b"x" * 65536, id="body"),
            pytest.param(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n", id="chunks"),
            pytest.param(CHUNKED + b"1;", b"x" * 65536, id="chunk extension"),
            pytest.param(CHUNKED + b"0\r\n", b"X-Trailer: x\r\n" * 1000, id="trailers"),
            pytest.param(OK, b"X-Header: x\r\n" * 1000, id="headers"),
            pytest.param(OK + b"X-Header: ", b"x" * 65536, id="one header"),
            pytest.param(b"HTTP/1.1 200 ", b"x" * 65536, id="status line"),
        ],
    )
    def test_when_the_answer_has_no_end(self, ask: Driver, head: bytes, filling: bytes) -> None:
        def endless(_: threading.Event) -> Iterator[bytes]:
            yield head
            yield from repeat(filling)

        with server(endless) as port, bounded_memory():
            fault = ask(account(port, seconds=4))
        assert isinstance(fault, NoAnswer)
        assert fault.delivered
        assert len(fault.detail) < 1000

    @pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
    def test_when_few_bytes_become_many(self, ask: Driver, coding: bytes) -> None:
        bomb = compressed_zeros(128, zlib.MAX_WBITS | 16 if coding == b"gzip" else zlib.MAX_WBITS)
        head = OK + b"Content-Encoding: " + coding + b"\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        with server(lambda _: [head + bomb]) as port, bounded_memory():
            fault = ask(account(port))
        assert isinstance(fault, NoAnswer)
        assert fault.delivered
        assert f"larger than {clients.MAX_BODY_BYTES} bytes" in fault.detail


class TestGarbageOnTheWireIsNoAnswer:
    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"\0",
            b"SSH-2.0-OpenSSH_9.7\r\n",
            b"HTTP/1.1 \xff\xfe\r\n\r\n",
            b"HTTP/1.1 99999 OK\r\n\r\n",
            OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
            OK + b"Content-Length: -1\r\n\r\n",
            OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
            OK + b": no name\r\n\r\n",
            CHUNKED + b"zz\r\n",
            CHUNKED + b"F" * 30 + b"\r\n",
            CHUNKED + b"5\r\n{}",
        ],
        ids=lambda answer: repr(answer)[:40],
    )
    def test_and_nothing_else(self, ask: Driver, answer: bytes) -> None:
        with server(lambda _: [answer]) as port:
            fault = ask(account(port))
        assert isinstance(fault, NoAnswer)
        # aiohttp's transport cannot tell, which is why nothing is bought through it.
        assert fault.delivered or ask is polling

    @pytest.mark.parametrize(
        "header",
        [
            b"Location: http://[::1",
            b"Location: http://\xff\xfe:99999999999/",
            b"Location: //\xd9\xa3:\xd9\xa3",
            b"Set-Cookie: a=b; expires=" + b"9" * 4000,
            b"Set-Cookie: \xff=\x01; domain=.; max-age=1e400",
            b"Content-Type: text/plain; charset=\xff",
            b"Content-Encoding: gzip, gzip, br, zstd, \xff",
            b"Content-Encoding: gzip",
            b"Retry-After: \xd9\xa3",
        ],
    )
    def test_headers_that_make_no_sense_do_not_hurt(self, ask: Driver, header: bytes) -> None:
        head = b"HTTP/1.1 302 Found\r\nContent-Length: 2\r\n" + header
        with server(lambda _: [head + b"\r\n\r\n{}"]) as port:
            answer = ask(account(port))
        assert isinstance(answer, Reply | NoAnswer)
        if isinstance(answer, Reply):
            assert answer.body == b"{}"


# --- servers that mean harm ---------------------------------------------------------------------------

Script = Callable[[threading.Event], Iterable[bytes]]
"""What is sent in answer to a request, until the client goes away or the event says that the test is over."""


def drip(answer: bytes) -> Script:
    """An answer of some 300 bytes in half a minute, byte by byte."""

    def bytes_in_time(over: threading.Event) -> Iterator[bytes]:
        for byte in answer:
            yield bytes([byte])
            if over.wait(0.1):
                return

    return bytes_in_time


def torrent(filling: bytes) -> Script:
    """Half a minute of as many bytes as the client takes, and an answer at last."""

    def bytes_in_time(over: threading.Event) -> Iterator[bytes]:
        end = time.monotonic() + 30
        while time.monotonic() < end and not over.is_set():
            yield filling
        yield FINE

    return bytes_in_time


def compressed_zeros(megabytes: int, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    zeros = bytes(1024 * 1024)
    return b"".join(packer.compress(zeros) for _ in range(megabytes)) + packer.flush()


@contextmanager
def bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY


@contextmanager
def server(script: Script, certificate: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answers one connection by a script; gives its port."""
    over = threading.Event()
    open_sockets: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            if certificate:
                connection = certificate.wrap_socket(connection, server_side=True)
            open_sockets.append(connection)
            connection.recv(65536)
            for chunk in script(over):
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_sockets.append(listener)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            for one in open_sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in open_sockets:
                one.close()


def self_signed(address: str) -> bytes:
    """A key and a certificate for an IP address, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose queue of connections is full, so that the next one waits."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for one in waiting:
                one.close()

"""Is the command line, ``python -m airflow_provider_seedream.sandbox``."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from airflow_provider_seedream.sandbox.app import Settings
from airflow_provider_seedream.sandbox.directives import Directives
from airflow_provider_seedream.sandbox.faults import API
from airflow_provider_seedream.sandbox.server import Server, listen, read_origin

UNUSABLE_ADDRESS = 2
"""Exit code where host or port cannot be used; the same as for a wrong argument."""

LARGEST_NUMBER = 1_000_000
Number = TypeVar("Number", float, int, Decimal)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit code."""
    options = _make_parser().parse_args(arguments)
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: sys.exit(0))
    try:
        listener = listen(options.host, options.port)
    except (OSError, OverflowError) as error:
        print(_advise(options.host, options.port, error), file=sys.stderr)
        return UNUSABLE_ADDRESS
    settings = Settings(
        options.time_scale, options.balance, Directives(fail=options.fail, deliver=options.deliver)
    )
    ready = f"APIXO sandbox ready at {read_origin(listener)}{API}"
    Server(listener, settings, time.time, on_ready=lambda: print(ready, flush=True)).serve_forever()
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_seedream.sandbox", description="An APIXO that runs on your machine."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="0 picks a free port (%(default)s)")
    parser.add_argument(
        "--time-scale",
        type=_make_reader(float),
        default=0.1,
        help="factor on generation times (%(default)s)",
    )
    parser.add_argument(
        "--balance",
        type=_make_reader(Decimal),
        default=Decimal(100),
        help="USD of every account (%(default)s)",
    )
    parser.add_argument("--fail", metavar="CODE", help="failCode with which every task fails")
    parser.add_argument(
        "--deliver", metavar="N", type=_make_reader(int), help="images that every task delivers at most"
    )
    return parser


def _make_reader(kind: Callable[[str], Number]) -> Callable[[str], Number]:
    """Return a reader of arguments that takes finite numbers from 0 on."""

    def read(text: str) -> Number:
        try:
            value = kind(text)
            usable = 0 <= value < LARGEST_NUMBER
        except (ValueError, InvalidOperation):
            usable = False
        if not usable:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {LARGEST_NUMBER}")
        return value

    return read


def _advise(host: str, port: int, error: Exception) -> str:
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use: stop what runs there, or choose another with --port."
    return f"Cannot listen on {host}:{port}: {error}. Choose another address with --host and --port."


if __name__ == "__main__":
    sys.exit(main())

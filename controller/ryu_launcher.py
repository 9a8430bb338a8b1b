"""`python -m controller.ryu_launcher RUN_FOLDER`: starts Ryu for one run.

Ryu 4.34 expects an attribute that current eventlet has removed, listens
everywhere by default and serves the web; here it gets the attribute, listens on
loopback at the inventory's port, and serves only its Unix socket.
Runs Ryu's own manager as a module, so that Ryu is imported by nobody else.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import socket
import sys
import warnings
from pathlib import Path

import orjson

RUN_FOLDER_VARIABLE = "HOLON_RUN_FOLDER"
_APP = "controller.ryu_app"
NICENESS = -10
"""As the RIC: between a twin's update and the switch lie milliseconds."""


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m controller.ryu_launcher RUN_FOLDER", file=sys.stderr)
        return 2
    run_folder = Path(arguments[0])
    try:
        inventory = orjson.loads((run_folder / "inventory.json").read_bytes())
        port = int(inventory["openflow_tcp_port"])
    except (OSError, ValueError, KeyError) as error:
        print(f"ryu: no usable inventory in {run_folder}: {error!r}", file=sys.stderr)
        return 2
    reason = _port_taken(port)
    if reason is not None:
        print(f"ryu: port {port} of 127.0.0.1: {reason}", file=sys.stderr)
        return 1
    with contextlib.suppress(PermissionError):  # not root: then a test's
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    os.environ[RUN_FOLDER_VARIABLE] = str(run_folder)
    _supply_missing_attribute()
    sys.argv = [
        "ryu-manager",
        "--ofp-listen-host=127.0.0.1",
        f"--ofp-tcp-listen-port={port}",
        "--nouse-stderr",
        "--noverbose",
        _APP,
    ]
    _log_to_stdout()
    runpy.run_module("ryu.cmd.manager", run_name="__main__", alter_sys=True)
    return 0


def _port_taken(port: int) -> str | None:
    """Ryu itself would only log that it cannot listen, and go on without switches."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror
    return None


def _supply_missing_attribute() -> None:
    """`eventlet.wsgi.ALREADY_HANDLED`, gone since eventlet 0.31; Ryu imports it by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import eventlet.wsgi

    if not hasattr(eventlet.wsgi, "ALREADY_HANDLED"):
        eventlet.wsgi.ALREADY_HANDLED = object()


def _log_to_stdout() -> None:
    import logging

    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

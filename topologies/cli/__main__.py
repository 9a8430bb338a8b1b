"""`python -m topologies.cli`: what ./testbed.sh hands over to."""

import signal
import sys

# Ctrl-C while modules are still loading ends the process without a trace of Python.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from topologies.cli.app import main  # noqa: E402

sys.exit(main(sys.argv[1:]))

"""`python -m controller.ric.validate FOLDER`: is this an xApp that could be deployed?

Checks what a deployment checks before it starts anything: descriptor, entry
point, model files and their hashes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from controller.ric.xapps import PROJECT
from controller.xapp_descriptor import (
    DescriptorError,
    entry_command,
    load_descriptor,
    verify_models,
)


def main(arguments: list[str]) -> int:
    """Exit status 2 on a wrong call, 1 when it is refused, one line each."""
    if len(arguments) != 1:
        print("usage: python -m controller.ric.validate FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        descriptor = load_descriptor(folder)
        entry_command(descriptor, folder)
        models = verify_models(descriptor, folder, PROJECT)
    except DescriptorError as error:
        print(error, file=sys.stderr)
        return 1
    hashes = f", {len(models)} model file{'s' * (len(models) != 1)} with the stated hash"
    print(f"xApp {descriptor.xapp_name} {descriptor.version} is valid{hashes if models else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

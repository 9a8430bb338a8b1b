"""A whole network under the real controller, for faults that packets cause."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulated.conftest import OWN_REVALIDATE_MS
from tests.emulated.conftest import testbed as built
from tests.emulated.enforced import Enforced, enforced
from tests.emulated.networks import three_slices


@pytest.fixture(scope="module")
def net() -> Iterator[Enforced]:
    """Two cells, a user in each of three slices; floods meet the revalidator as it is."""
    with (
        built(three_slices(), revalidate_ms=OWN_REVALIDATE_MS) as network,
        enforced(network) as controlled,
    ):
        yield controlled

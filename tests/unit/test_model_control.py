"""Twin model control at an edge: who has which settings, and who shares them."""

from __future__ import annotations

from controller.contracts.twin_models import Override
from controller.local.model_control import ModelControl
from tests.sample_inventory import sample_inventory

USERS = [f"ue{i}" for i in range(1, 6)]


def control() -> ModelControl:
    """Of five users who differ by name only."""
    inventory = sample_inventory()
    first = inventory.users[0]
    users = [first.model_copy(update={"ue_id": ue_id}) for ue_id in USERS]
    same = inventory.model_copy(update={"users": users})
    return ModelControl(same, inventory.cells[0].edge, [], lambda *_: None, lambda _: False)


def said(ue_id: str, period_ms: int, layer: str | None = None) -> Override:
    changes = {"period_ms": period_ms}
    return Override.model_validate({"ue_id": ue_id, "layer": layer, "changes": changes})


def test_what_is_said_of_one_user_is_of_nobody_else() -> None:
    models = control()
    models.configure([said("ue2", 2000), said("ue3", 2000), said("ue4", 4000)])
    assert [models.settings(u).period_ms for u in USERS] == [500, 2000, 2000, 4000, 500]


def test_users_of_whom_the_same_is_said_share_their_settings() -> None:
    """Ten kilobytes each, and a budget has a word for everybody."""
    models = control()
    models.configure([said(u, 2000, "twin-budget") for u in USERS])
    assert len({id(models.settings(u)) for u in USERS}) == 1


def test_the_operators_word_goes_over_the_budgets_in_whichever_order() -> None:
    models = control()
    mine, budgets = said("ue1", 1000), said("ue1", 4000, "twin-budget")
    for order in ([mine, budgets], [budgets, mine]):
        models.configure(order)
        assert models.settings("ue1").period_ms == 1000
    models.configure([budgets])
    assert models.settings("ue1").period_ms == 4000

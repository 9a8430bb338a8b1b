"""Which twin data a token may read: its slices' attributes only, streams included.

A caller without a list of slices (the operator, an xApp whose descriptor names none)
reads all slices; `readers: operator` in a twin model hides an attribute from every
xApp.  What is asked for by name and not allowed is refused and audited; what stands
beside something allowed in one document is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controller.audit import Audit
from controller.contracts.inventory import Inventory, User
from controller.contracts.slice_twins import FORECAST, SliceTwinSettings
from controller.contracts.twin_models import AGENT_ATTRIBUTES, Readers, TwinSettings
from controller.ric.callers import Caller
from controller.ric.errors import Forbidden

Document = dict[str, Any]
_OF_EVERY_STATE = frozenset(
    ("users", "demand_kbps", "goodput_kbps", "loss_ratio", "min_kbps", "max_kbps")
)
"""What no slice's entry in a cell event can be without: with one hidden, all of it is."""


class Access:
    """`settings_of`, `slice_settings_of`: a user's, a slice's twin model as it is now."""

    def __init__(
        self,
        inventory: Inventory,
        audit: Audit,
        settings_of: Callable[[User], TwinSettings],
        slice_settings_of: Callable[[str], SliceTwinSettings],
    ) -> None:
        self._audit = audit
        self._settings_of = settings_of
        self._slice_settings_of = slice_settings_of
        self._known_names: set[str] = set()
        """Of slices that lived at any time: histories outlive them."""
        self.denied = 0
        self.keep(inventory)

    def keep(self, inventory: Inventory) -> None:
        """Slices came, changed or went."""
        self._users = {u.ue_id: u for u in inventory.users}
        self._names = {s.slice_id: str(s.s_nssai) for s in inventory.slices}
        self._known_names.update(self._names.values())
        self._slice_of_service = {s.name: s.slice_id for s in inventory.services}

    def deny(self, caller: Caller, what: str) -> Forbidden:
        """To be raised; the audit has it."""
        self.denied += 1
        slices = ", ".join(sorted(caller.slices or ())) or "none"
        self._audit.note("read denied", caller.name, what=what, slices=sorted(caller.slices or ()))
        return Forbidden(f"{caller.name} may not read {what}", f"its token's slices: {slices}")

    def may_read_slice(self, caller: Caller, s_nssai: str) -> bool:
        return caller.slices is None or s_nssai in caller.slices

    def require_slice(self, caller: Caller, s_nssai: str) -> None:
        if not self.may_read_slice(caller, s_nssai):
            raise self.deny(caller, f"the twin of slice {s_nssai}")

    def may_read_user(self, caller: Caller, ue_id: str) -> bool:
        user = self._users.get(ue_id)
        if user is None or caller.slices is None:
            return True  # an unknown user is the route's 404
        return any(str(s.s_nssai) in caller.slices for s in user.sessions)

    def require_user(self, caller: Caller, ue_id: str) -> None:
        if not self.may_read_user(caller, ue_id):
            raise self.deny(caller, f"the twin of {ue_id}")

    def require_all(self, caller: Caller, what: str) -> None:
        """Of what is not any slice's own."""
        if caller.slices is not None:
            raise self.deny(caller, what)

    # -- documents --------------------------------------------------------------

    def user_twin(self, caller: Caller, document: Document) -> Document:
        """Without services of other slices and attributes that its model hides."""
        ue_id = document.get("id", "")
        hidden = self._hidden(caller, ue_id)
        services = {
            name: {
                direction: self._without(leaves, hidden, "services")
                for direction, leaves in directions.items()
            }
            for name, directions in document.get("services", {}).items()
            if self._is_own_service(caller, directions)
        }
        shown = {**document}
        for group in ("connectivity", "user", "use_case"):
            if group in document:
                shown[group] = self._without(document[group], hidden, group)
        if "resources" in document:
            own = (s for s in document["resources"] if self.may_read_slice(caller, s))
            shown["resources"] = {s: document["resources"][s] for s in own}
        if "services" not in document:
            return shown
        if len(services) < len(document["services"]):  # it is over all of them
            shown.get("user", {}).pop("qoe_mos", None)
        return {**shown, "services": services}

    def report(self, caller: Caller, ue_id: str, report: Document) -> Document:
        """One entry of a user's history, cut the same way."""
        hidden = self._hidden(caller, ue_id)
        fields = {"connectivity.serving_cell": "cell_id", **AGENT_ATTRIBUTES}
        drop = {field for attribute, field in fields.items() if attribute in hidden}
        shown = {k: v for k, v in report.items() if k not in drop}
        if "flows" in report:
            shown["flows"] = [
                {k: v for k, v in flow.items() if f"services.{k}" not in hidden}
                for flow in report["flows"]
                if self._is_own(caller, flow["slice_id"])
            ]
        return shown

    def slice_twin(self, caller: Caller, document: Document) -> Document:
        """Without attributes (`<name>` or `<name>.<cell_id>`) that its model hides."""
        hidden = self._hidden_of_slice(caller, document["id"])
        return {**document, "attributes": _visible(document["attributes"], hidden)}

    def slice_row(self, caller: Caller, row: Document) -> Document:
        """A row of a slice in a cell; a forecast goes with what it is of."""
        hidden = self._hidden_of_slice(caller, f"{row['sst']}-{row['sd']}")
        gone = hidden | ({"predicted_kbps"} if FORECAST in hidden else set())
        return {name: None if name in gone else value for name, value in row.items()}

    def user_row(self, caller: Caller, row: Document) -> Document:
        """A row of a user's table; whose slice it is, the caller's route has seen to."""
        hidden = self._hidden(caller, row["ue_id"])
        places = {"user.location_m": ("x_m", "y_m")}
        gone = {
            column
            for attribute in hidden
            for column in places.get(attribute, (attribute.rpartition(".")[2],))
        }
        return {name: None if name in gone else value for name, value in row.items()}

    def require_user_attribute(self, caller: Caller, ue_id: str, attribute: str) -> None:
        """Of a user that it may read: its own services, and nothing that the model hides."""
        group, _, rest = attribute.partition(".")
        leaf = rest.rpartition(".")[2]
        names = {attribute, f"{group}.{leaf}", ".".join(attribute.split(".")[:2])}
        allowed = not names & self._hidden(caller, ue_id)
        user = self._users.get(ue_id)
        if caller.slices is not None and user is not None:
            if group == "services":
                slice_id = self._slice_of_service.get(rest.partition(".")[0])
                allowed &= slice_id is None or self._is_own(caller, slice_id)
            elif attribute == "user.qoe_mos":
                allowed &= all(str(s.s_nssai) in caller.slices for s in user.sessions)
        if not allowed:
            raise self.deny(caller, f"{attribute} of {ue_id}")

    def cell_twin(self, caller: Caller, document: Document) -> Document:
        """Without attributes named `<name>.<sst-sd>` of other slices, or hidden by its model."""
        if caller.is_operator:
            return document
        attributes = {
            name: value
            for name, value in document["attributes"].items()
            if self._may_read_of_cell(caller, name)
        }
        return {**document, "attributes": attributes}

    def require_cell_attribute(self, caller: Caller, attribute: str) -> None:
        if not self._may_read_of_cell(caller, attribute):
            raise self.deny(caller, f"attribute {attribute} of a cell")

    def require_slice_attribute(self, caller: Caller, s_nssai: str, attribute: str) -> None:
        self.require_slice(caller, s_nssai)
        if attribute.partition(".")[0] in self._hidden_of_slice(caller, s_nssai):
            raise self.deny(caller, f"attribute {attribute} of slice {s_nssai}")

    def event(self, caller: Caller, event: Document) -> Document | None:
        """A stream event as the caller may see it; None: not at all."""
        if caller.is_operator:
            return event
        if event["kind"] == "user":
            shown = self.may_read_user(caller, event["id"])
            return self.user_twin(caller, event) if shown else None
        if event["kind"] == "slice":
            if not self.may_read_slice(caller, event["id"]):
                return None
            hidden = self._hidden_of_slice(caller, event["id"])
            return {**event, "values": _visible(event["values"], hidden)} if hidden else event
        if event["kind"] != "cell":
            return event if caller.slices is None else None
        items = [(s, self._shown_state(caller, s)) for s in event["slices"]]
        if all(before is after for before, after in items):
            return event
        return {**event, "slices": [after for _, after in items if after is not None]}

    def _shown_state(self, caller: Caller, state: Document) -> Document | None:
        """A slice's entry of a cell event; None when what it must have is not to be read."""
        name = self._names.get(state["slice_id"])
        if not self._is_own(caller, state["slice_id"]):
            return None
        hidden = self._hidden_of_slice(caller, name) if name else frozenset()
        if hidden & _OF_EVERY_STATE:
            return None
        return {**state, "owd_p95_ms": None} if "owd_p95_ms" in hidden else state

    def _may_read_of_cell(self, caller: Caller, attribute: str) -> bool:
        name, _, s_nssai = attribute.partition(".")
        if s_nssai not in self._known_names:
            return True
        return self.may_read_slice(caller, s_nssai) and (
            name not in self._hidden_of_slice(caller, s_nssai)
        )

    def _hidden_of_slice(self, caller: Caller, s_nssai: str) -> frozenset[str]:
        return frozenset() if caller.is_operator else self._slice_settings_of(s_nssai).hidden

    def summaries(self, caller: Caller, twins: Iterable[Document]) -> list[Document]:
        return [t for t in twins if self._is_listed(caller, t)]

    def _is_listed(self, caller: Caller, twin: Document) -> bool:
        if twin["kind"] == "user":
            return self.may_read_user(caller, twin["id"])
        return twin["kind"] != "slice" or self.may_read_slice(caller, twin["id"])

    # -- rules --------------------------------------------------------------------

    def _is_own(self, caller: Caller, slice_id: int) -> bool:
        return caller.slices is None or self._names.get(slice_id) in caller.slices

    def _is_own_service(self, caller: Caller, directions: Mapping[str, Any]) -> bool:
        return all(self._is_own(caller, d["slice_id"]["value"]) for d in directions.values())

    def _hidden(self, caller: Caller, ue_id: str) -> set[str]:
        if caller.is_operator or ue_id not in self._users:
            return set()
        attributes = self._settings_of(self._users[ue_id]).attributes
        return {name for name, a in attributes.items() if a.readers is Readers.OPERATOR}

    @staticmethod
    def _without(leaves: Mapping[str, Any], hidden: set[str], group: str) -> Document:
        return {name: value for name, value in leaves.items() if f"{group}.{name}" not in hidden}


def _visible(attributes: Mapping[str, Any], hidden: frozenset[str]) -> Document:
    return {n: value for n, value in attributes.items() if n.partition(".")[0] not in hidden}

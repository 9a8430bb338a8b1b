"""Reading a decision's documents: their shape, and the names in them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from controller.contracts.inventory import Inventory, User
from controller.contracts.slices import Slice, SNssai, Strict
from controller.ric.errors import Malformed, NotFound
from controller.xapp_descriptor import first_fault

Document = TypeVar("Document", bound=Strict)


def parse(schema: type[Document], document: Mapping[str, Any], where: str) -> Document:
    """Strict: a number in quotes is not a number."""
    try:
        encoded = orjson.dumps(document)
    except TypeError as error:  # integers beyond 64 bits, lone surrogates
        raise Malformed(f"{where}: {error}") from None
    try:
        return schema.model_validate_json(encoded, strict=True)
    except ValidationError as error:
        hint = f"{where} of this action: {', '.join(schema.model_fields)}"
        raise Malformed(f"{where}.{first_fault(error)}", hint) from None


def known_cell(cell_id: str, inventory: Inventory) -> str:
    known = [cell.cell_id for cell in inventory.cells]
    if cell_id not in known:
        raise NotFound(f"unknown cell {cell_id!r}", f"cells: {', '.join(known)}")
    return cell_id


def known_slice(s_nssai: SNssai, inventory: Inventory) -> Slice:
    for slice_ in inventory.slices:
        if slice_.s_nssai == s_nssai:
            return slice_
    known = ", ".join(str(s.s_nssai) for s in inventory.slices)
    raise NotFound(f"unknown slice {s_nssai}", f"slices: {known}")


def known_user(ue_id: str, inventory: Inventory) -> User:
    for user in inventory.users:
        if user.ue_id == ue_id:
            return user
    raise NotFound(f"unknown user {ue_id!r}", f"{len(inventory.users)} users, see /api/v1/ues")

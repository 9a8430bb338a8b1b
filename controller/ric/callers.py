"""Who calls the northbound API, and what it may do there."""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from controller.contracts.decisions import Action
from controller.ric.errors import Forbidden, Unauthenticated
from controller.xapp_descriptor import SCOPES

OPERATOR = "operator"


@dataclass(frozen=True)
class Caller:
    """The operator (token of the run folder) or one xApp (token of its process)."""

    name: str
    scopes: frozenset[str]
    is_operator: bool = False
    slices: frozenset[str] | None = None
    """`sst-sd` of the slices whose twin data it may read; None: all."""

    def require(self, scope: str) -> None:
        """Raises `Forbidden`."""
        if scope not in self.scopes:
            have = ", ".join(sorted(self.scopes)) or "none"
            raise Forbidden(
                f"xApp {self.name} has no scope {scope!r} (it has: {have})",
                "scopes are listed in its descriptor under holon.scopes",
            )

    def require_operator(self) -> None:
        if not self.is_operator:
            raise Forbidden(f"xApp {self.name} may not do this", "it needs the operator's token")

    def require_action(self, action: Action, claimed_xapp: str) -> None:
        """An xApp decides in its own name and with its own scopes."""
        self.require(action.value)
        if not self.is_operator and claimed_xapp != self.name:
            raise Forbidden(
                f"xApp {self.name} may not decide as {claimed_xapp!r}", f"set xapp to {self.name!r}"
            )


@dataclass
class Tokens:
    """Bearer tokens of this run; compared in constant time."""

    operator: str
    _xapps: dict[str, Caller] = field(default_factory=dict)

    def issue(self, name: str, scopes: frozenset[str], slices: frozenset[str] | None = None) -> str:
        token = secrets.token_urlsafe(24)
        self._xapps[token] = Caller(name, scopes, slices=slices)
        return token

    def revoke(self, token: str) -> None:
        self._xapps.pop(token, None)

    def caller(self, authorization: str | None) -> Caller:
        """Of an `Authorization` header; raises `Unauthenticated`."""
        scheme, _, token = (authorization or "").partition(" ")
        given = token.strip().encode()
        if scheme.lower() == "bearer" and given:
            if hmac.compare_digest(given, self.operator.encode()):
                return Caller(OPERATOR, frozenset(SCOPES), is_operator=True)
            for known, caller in self._xapps.items():
                if hmac.compare_digest(given, known.encode()):
                    return caller
        raise Unauthenticated(
            "no valid bearer token",
            "send 'Authorization: Bearer <content of the run's token file>'",
        )


def operator_token(path: Path) -> str:
    """The token of the run folder, made (mode 0600) when missing."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        token = path.read_text().strip()
        if token:
            return token
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    token = secrets.token_urlsafe(24)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token

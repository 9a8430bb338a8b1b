"""The queue filter: DSCP -> HTB class, as a classic-BPF program in front of a port's queues.

The userspace datapath does not honour `set_queue`, so one `tc` filter per port
with a rate does it, generated from `queue_of`: the same table in both modes.
cls_bpf and not u32, because a u32 filter makes OVS unable to delete a class.
What is neither IPv4 nor IPv6 goes to queue 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.contracts.slices import queue_of
from topologies.namespaces import run

_LDH_ABS, _LDB_ABS = 40, 48
_AND, _RSH = 84, 116
_JEQ, _JGE = 21, 53
_RET = 6
_ETHERTYPE_OFFSET, _IP_OFFSET = 12, 14
_IPV4, _IPV6 = 0x0800, 0x86DD
CODE_POINTS = 64


@dataclass(frozen=True)
class Instruction:
    """One classic-BPF instruction (struct sock_filter)."""

    code: int
    if_true: int
    if_false: int
    operand: int

    def __str__(self) -> str:
        return f"{self.code} {self.if_true} {self.if_false} {self.operand}"


def class_of(queue_id: int) -> int:
    """Handle of the HTB class that OVS makes for a queue: 1:(queue_id + 1)."""
    return 0x10000 | (queue_id + 1)


def program(queue_table: Callable[[int], int] = queue_of) -> list[Instruction]:
    """The whole filter; its return value is the class. `queue_table` maps DSCP 0-63."""
    choose = _choice([queue_table(dscp) for dscp in range(CODE_POINTS)], 0)
    read_ipv4 = [
        Instruction(_LDB_ABS, 0, 0, _IP_OFFSET + 1),
        Instruction(_RSH, 0, 0, 2),
    ]
    read_ipv6 = [  # version 4 bits, traffic class 8 (DSCP its upper 6), flow label
        Instruction(_LDH_ABS, 0, 0, _IP_OFFSET),
        Instruction(_RSH, 0, 0, 6),
        Instruction(_AND, 0, 0, CODE_POINTS - 1),
    ]
    ipv4, ipv6 = [*read_ipv4, *choose], [*read_ipv6, *choose]
    return [
        Instruction(_LDH_ABS, 0, 0, _ETHERTYPE_OFFSET),
        Instruction(_JEQ, 0, len(ipv4), _IPV4),
        *ipv4,
        Instruction(_JEQ, 0, len(ipv6), _IPV6),
        *ipv6,
        Instruction(_RET, 0, 0, class_of(0)),
    ]


def _choice(queues: Sequence[int], first_dscp: int) -> list[Instruction]:
    """A binary search over the code points; equal neighbours share a leaf."""
    if len(set(queues)) == 1:
        return [Instruction(_RET, 0, 0, class_of(queues[0]))]
    middle = len(queues) // 2
    low = _choice(queues[:middle], first_dscp)
    high = _choice(queues[middle:], first_dscp + middle)
    return [Instruction(_JGE, len(low), 0, first_dscp + middle), *low, *high]


def bytecode(instructions: Sequence[Instruction]) -> str:
    """As `tc filter ... bpf bytecode` takes it."""
    return ",".join([str(len(instructions)), *map(str, instructions)])


def install(interfaces: Sequence[str], bytecode_file: Path) -> None:
    """Put the filter on each of these ports of the current namespace, replacing it.

    Their QoS must stand (the filter hangs on OVS's root qdisc 1:).
    Raises `CommandError`.
    """
    bytecode_file.write_text(bytecode(program()))
    lines = [
        f"filter replace dev {name} parent 1: handle 1 protocol all prio 1 "
        f"bpf bytecode-file {bytecode_file}"
        for name in interfaces
    ]
    if lines:
        run(["tc", "-batch", "-"], stdin="\n".join(lines) + "\n")

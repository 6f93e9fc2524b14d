"""Turns what a systemd unit says of system calls into BPF programs, with systemd's own library for it.

Reads {"allowed": [...], "families": [...]} from standard input and writes 1.bpf, 2.bpf and 3.bpf into the folder
that is named: the list, the address families with the namespaces, and memory that is writable and executable.
"""

import errno
import json
import socket
import sys

from seccomp import ALLOW, EQ, ERRNO, GE, MASKED_EQ, Arg, SyscallFilter

PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
CLONE_NEW = [0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
FAMILIES = 46  # AF_MAX


def known(program, action, call, *conditions):
    """Calls that this architecture, or this version of the library, does not have need no rule."""
    try:
        program.add_rule(action, call, *conditions)
        return 1
    except RuntimeError:
        return 0


def listed(said):
    program = SyscallFilter(ERRNO(errno.EPERM))
    assert sum(known(program, ALLOW, call) for call in said["allowed"]) > 100, "hardly any call is known"
    return program


def families(said):
    program = SyscallFilter(ALLOW)
    allowed = {int(getattr(socket, name)) for name in said["families"]}
    for family in set(range(FAMILIES)) - allowed:
        program.add_rule(ERRNO(errno.EAFNOSUPPORT), "socket", Arg(0, EQ, family))
    program.add_rule(ERRNO(errno.EAFNOSUPPORT), "socket", Arg(0, GE, FAMILIES))
    for flag in CLONE_NEW:
        program.add_rule(ERRNO(errno.EPERM), "clone", Arg(0, MASKED_EQ, flag, flag))
        program.add_rule(ERRNO(errno.EPERM), "unshare", Arg(0, MASKED_EQ, flag, flag))
    known(program, ERRNO(errno.ENOSYS), "clone3")
    program.add_rule(ERRNO(errno.EPERM), "setns")
    return program


def write_or_execute(_):
    program = SyscallFilter(ALLOW)
    both = PROT_WRITE | PROT_EXEC
    program.add_rule(ERRNO(errno.EPERM), "mmap", Arg(2, MASKED_EQ, both, both))
    for call in ["mprotect", "pkey_mprotect"]:
        program.add_rule(ERRNO(errno.EPERM), call, Arg(2, MASKED_EQ, PROT_EXEC, PROT_EXEC))
    program.add_rule(ERRNO(errno.EPERM), "shmat", Arg(2, MASKED_EQ, SHM_EXEC, SHM_EXEC))
    return program


said = json.load(sys.stdin)
for number, make in enumerate([listed, families, write_or_execute], 1):
    with open(f"{sys.argv[1]}/{number}.bpf", "wb") as out:
        make(said).export_bpf(out)

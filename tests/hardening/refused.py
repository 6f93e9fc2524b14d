"""Tries what a service has no need of, and prints {"call": errno}, 0 where it was let through."""

import ctypes
import json

import seccomp

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    ctypes.set_errno(0)
    number = seccomp.resolve_syscall(seccomp.Arch(), name)
    result = libc.syscall(number, *(ctypes.c_long(argument) for argument in arguments))
    return ctypes.get_errno() if result < 0 else 0


AF_UNIX, AF_NETLINK, AF_PACKET, SOCK_RAW, SOCK_STREAM = 1, 16, 17, 3, 1
READ, WRITE, EXEC, ANONYMOUS_PRIVATE = 1, 2, 4, 0x22
tried = {
    "getpid": call("getpid"),
    "socket of AF_UNIX": call("socket", AF_UNIX, SOCK_STREAM, 0),
    "mmap to write": call("mmap", 0, 4096, READ | WRITE, ANONYMOUS_PRIVATE, -1, 0),
    "ptrace": call("ptrace", 0, 0, 0, 0),
    "keyctl": call("keyctl", 0, -3, 1),
    "unshare a user namespace": call("unshare", 0x10000000),
    "io_uring_setup": call("io_uring_setup", 1, ctypes.addressof(ctypes.create_string_buffer(120))),
    "setpriority": call("setpriority", 0, 0, 1),
    "socket of AF_NETLINK": call("socket", AF_NETLINK, SOCK_RAW, 0),
    "mmap to write and execute": call("mmap", 0, 4096, READ | WRITE | EXEC, ANONYMOUS_PRIVATE, -1, 0),
}
print(json.dumps(tried))

"""A stand-in for the NVIDIA driver."""

import ctypes


class Driver:
    """Copies nothing; remembers what is registered, and the depth of the stack of contexts."""

    def __init__(self, failing=()):
        self.failing = failing
        self.registered = {}
        self.depth = 0
        self.copied = 0
        self.allocated = 0
        self.actions = {
            "cuMemHostRegister_v2": self.register,
            "cuMemHostUnregister": self.unregister,
            "cuCtxPushCurrent_v2": lambda _: self.move(1),
            "cuCtxPopCurrent_v2": lambda _: self.move(-1),
            "cuMemAlloc_v2": lambda *_: self.allocate(1),
            "cuMemFree_v2": lambda _: self.allocate(-1),
            "cuMemcpyHtoD_v2": self.copy,
        }

    def __getattr__(self, name):
        def call(*arguments):
            if name in self.failing:
                return 999
            if name in self.actions:
                self.actions[name](*arguments)
            return 0

        return call

    def register(self, address, size, flags):
        assert self.depth == 1
        assert flags.value == 1
        assert address.value % 4096 == 0
        self.registered[address.value] = size.value

    def unregister(self, address):
        assert self.depth == 1
        # Still there: reading it would kill the process otherwise.
        ctypes.string_at(address.value, self.registered.pop(address.value))

    def move(self, number):
        self.depth += number

    def allocate(self, number):
        self.allocated += number

    def copy(self, _there, _here, size):
        self.copied += size.value

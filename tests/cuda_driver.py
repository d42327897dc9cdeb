"""A stand-in for the NVIDIA driver."""

import ctypes


class Driver:
    """Remembers what is registered, and the depth of the stack of contexts.

    Args:
        failing: Names of the functions that fail.
    """

    def __init__(self, failing=()):
        self.failing = failing
        self.registered = {}
        self.num_registered = 0
        self.depth = 0
        self.actions = {
            "cuMemHostRegister_v2": self.register,
            "cuMemHostUnregister": self.unregister,
            "cuCtxPushCurrent_v2": lambda _: self.move(1),
            "cuCtxPopCurrent_v2": lambda _: self.move(-1),
        }
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
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
        assert not self.holds(address.value)
        self.registered[address.value] = size.value
        self.num_registered += 1

    def unregister(self, address):
        assert self.depth == 1
        # Still there: reading it would kill the process otherwise.
        ctypes.string_at(address.value, self.registered.pop(address.value))

    def move(self, number):
        self.depth += number

    def holds(self, address):
        """Whether an address is in registered memory."""
        return any(begin <= address < begin + size for begin, size in self.registered.items())

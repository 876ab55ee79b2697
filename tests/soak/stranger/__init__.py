"""Attempts to disturb a running server, each beside a bystander whose pictures are counted.

Each module defines attempts of one kind. An attempt is a coroutine function that takes the
:class:`~.environment.Environment` and returns a short text on what came back::

    @attempt("udp.empty", "one empty datagram, from anywhere")
    async def empty(env: Environment) -> str:
        ...

An attempt reports a failed check with ``env.add_failure("sentence")``. Every attempt is also checked for the
bystander's pictures, memory, the log and lost session processes.
"""

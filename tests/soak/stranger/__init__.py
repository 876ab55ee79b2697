"""Attempts from outside on a running server, each beside a bystander whose pictures are counted.

A module here is a list of attempts. One more is a coroutine function that takes the :class:`~.world.World` and
returns what came back, in words::

    @attempt("udp.empty", "one empty datagram, from anywhere")
    async def empty(world: World) -> str:
        ...

``world.broke("sentence")`` says that a promise did not hold. Everything else is looked at for every attempt: the
bystander's pictures, memory, the log, worker processes.
"""

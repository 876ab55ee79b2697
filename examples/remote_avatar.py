"""The avatar drawn by a server: ``python examples/remote_avatar.py URL VIDEO [PICTURES]``."""

import asyncio
import sys

from avatar_stream import Clip
from avatar_stream.client import connect, portraits


async def main(url: str, video: str, count: int) -> None:
    """Send a video at its own pace, and take ``count`` pictures."""
    first = (await portraits(url))[0]["id"]
    async with connect(url, portrait=first) as session:

        async def film() -> None:
            for _, image in Clip(video).frames():
                session.send(image)
                await asyncio.sleep(0.04)

        filming = asyncio.create_task(film())
        await session.control(keep=0.3)
        for number in range(count):
            picture = await session.picture()
            print(f"picture {number}: {picture.shape[1]} x {picture.shape[0]}, {session.status.get('face')}")
        filming.cancel()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 100))

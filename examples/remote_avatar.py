"""Let a server draw the avatar: ``python examples/remote_avatar.py URL VIDEO [PICTURES]``."""

import asyncio
import sys

from avatar_stream import Clip
from avatar_stream.client import connect, portraits


async def main(url: str, video: str, count: int) -> None:
    """Send a video at 25 frames a second, and receive ``count`` avatar pictures."""
    first = (await portraits(url))[0]["id"]
    async with connect(url, portrait=first) as session:

        async def send_video() -> None:
            for _, image in Clip(video).frames():
                session.send(image)
                await asyncio.sleep(0.04)

        sending = asyncio.create_task(send_video())
        await session.control(keep=0.3)
        for number in range(count):
            picture = await session.picture()
            print(f"picture {number}: {picture.shape[1]} x {picture.shape[0]}, {session.status.get('face')}")
        sending.cancel()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 100))

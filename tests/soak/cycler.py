"""Connects and leaves many times and prints one JSON line per visit: ``python -m tests.soak.cycler URL COUNT``.

Every second visit leaves with a DELETE, the others only close the connection.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from tests.soak.client import EncodedCamera

PICTURES_PER_VISIT = 3
VISITS_PER_SAMPLE = 10  # after so many visits the bench samples the server


async def cycle(url: str, camera: EncodedCamera, number: int) -> None:
    """Connect, wait for pictures, leave."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    avatar: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    pc.on("track", lambda track: avatar.set_result(track))
    pc.addTransceiver(camera, direction="sendrecv")
    await pc.setLocalDescription(await pc.createOffer())
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        while True:
            response = await client.post(
                "/session", content=pc.localDescription.sdp, headers={"Content-Type": "application/sdp"}
            )
            if response.status_code != 503:
                break
            await asyncio.sleep(0.1)  # the previous session is still ending
        await pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
        track = await avatar
        for _ in range(PICTURES_PER_VISIT):
            await asyncio.wait_for(track.recv(), 20)
        took = time.monotonic() - began
        if number % 2:
            await client.delete(response.headers["location"])
    await pc.close()
    print(json.dumps({"cycle": number, "seconds": round(took, 2)}), flush=True)


async def run(url: str, count: int) -> None:
    """Make ``count`` visits, one after the other."""
    packets = EncodedCamera().packets
    for number in range(count):
        await cycle(url, EncodedCamera(packets), number)
        if (number + 1) % VISITS_PER_SAMPLE == 0:
            sys.stdin.readline()  # wait until the bench has sampled the server


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))

// One connection to the server: camera up, avatar down, control channel beside it. Reports through callbacks and
// leaves every decision about trying again to its owner.

export class ServerError extends Error {}

export async function getJson(response) {
  let body = {};
  try { body = await response.json(); } catch { /* not ours: a proxy's page, perhaps */ }
  if (!response.ok) throw new ServerError(body.error ?? `The server answered ${response.status}.`);
  return body;
}

export class Session {
  #pc; #socket; #location; #closed = false; #before = {};

  constructor({ onTrack, onStatus, onError, onLost }) {
    Object.assign(this, { onTrack, onStatus, onError, onLost });
  }

  async open(camera, portrait) {
    const pc = this.#pc = new RTCPeerConnection({ iceServers: [] });
    const [track] = camera.getVideoTracks();
    track.contentHint = 'motion';
    const transceiver = pc.addTransceiver(track, { direction: 'sendrecv', streams: [camera] });
    pc.ontrack = ({ track, receiver }) => {
      // The newest frame, not the smoothest: it halves the delay on a good line.
      if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
      this.onTrack(new MediaStream([track]));
    };
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === 'failed') this.#lost();
      if (pc.connectionState === 'disconnected') {
        setTimeout(() => { if (pc.connectionState === 'disconnected') this.#lost(); }, 3000);
      }
    };
    await pc.setLocalDescription(await pc.createOffer());
    await gathered(pc);
    const response = await fetch(`session?portrait=${encodeURIComponent(portrait)}`, {
      method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: pc.localDescription.sdp,
    });
    if (!response.ok) await getJson(response);
    this.#location = response.headers.get('Location');
    if (this.#closed) return this.#leave();
    await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
    try {
      const parameters = transceiver.sender.getParameters();
      parameters.degradationPreference = 'maintain-resolution';
      // Landmarks need no more; every packet costs the server time that the avatar can use.
      for (const encoding of parameters.encodings) encoding.maxBitrate = 700_000;
      await transceiver.sender.setParameters(parameters);
    } catch { /* only a preference */ }
    this.#control(this.#location.split('/').pop());
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  // Milliseconds a frame spends on the line and in the browser: round trip and jitter buffer of the last second.
  async lineDelay() {
    let delay = 0;
    for (const report of (await this.#pc.getStats()).values()) {
      if (report.type === 'candidate-pair' && report.nominated) delay += (report.currentRoundTripTime ?? 0) * 1000;
      if (report.type === 'inbound-rtp' && report.kind === 'video') {
        const { jitterBufferDelay: total, jitterBufferEmittedCount: count } = report;
        const frames = count - (this.#before.count ?? 0);
        if (frames > 0) delay += (total - (this.#before.total ?? 0)) / frames * 1000;
        this.#before = { total, count };
      }
    }
    return delay;
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#leave();
  }

  #control(id) {
    const url = new URL(`control/${id}`, location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    const socket = this.#socket = new WebSocket(url);
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'status') this.onStatus(message);
      if (message.type === 'error') this.onError(message.message);
    };
    socket.onclose = () => this.#lost();
    return new Promise((resolve) => { socket.onopen = resolve; }).then(() => this.onOpen?.());
  }

  #lost() {
    if (this.#closed) return;
    this.close();
    this.onLost();
  }

  #leave() {
    this.#pc?.close();
    if (this.#socket) { this.#socket.onclose = null; this.#socket.close(); }
    // keepalive: the request outlives the page when it is being left.
    if (this.#location) fetch(this.#location, { method: 'DELETE', keepalive: true }).catch(() => {});
  }
}

// The whole offer in one request: wait for the candidates, but never long for a slow network card.
function gathered(pc) {
  if (pc.iceGatheringState === 'complete') return Promise.resolve();
  return new Promise((resolve) => {
    pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && resolve());
    setTimeout(resolve, 1500);
  });
}

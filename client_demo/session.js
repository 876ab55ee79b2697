// One connection to the server: camera up, avatar down, control channel beside it. Reports through callbacks and
// leaves every decision about trying again to its owner.
import { iceServers, leave, negotiate, newestFirst, onLost, request, token } from './api.js';

export class Session {
  #pc; #socket; #location; #camera; #picture; #sound; #closed = false; #before = {};

  constructor({ onTrack, onStatus, onError, onLost }) {
    Object.assign(this, { onTrack, onStatus, onError, onLost });
  }

  // Without a camera no picture leaves this page: faces go by `sendFace`.
  async open(camera, portrait) {
    this.#camera = camera;
    const pc = this.#pc = new RTCPeerConnection({ iceServers: await iceServers('session') });
    this.#picture = pc.addTransceiver('video', { direction: 'sendrecv' });
    await this.show(this.#camera); // the choice may have changed meanwhile
    // Silent until the microphone is switched on; what it says goes to viewers, not back here.
    this.#sound = pc.addTransceiver('audio', { direction: 'sendonly' });
    pc.ontrack = ({ track, receiver }) => {
      newestFirst(receiver);
      this.onTrack(new MediaStream([track]));
    };
    onLost(pc, () => this.#lost());
    const query = new URLSearchParams({ portrait });
    // A name of one's own keeps the address for viewers the same, day after day.
    const name = new URLSearchParams(window.location.search).get('session');
    if (name) query.set('session', name);
    const { location, answer } = await negotiate(pc, `session?${query}`);
    this.#location = location;
    if (this.#closed) return this.#leave();
    await pc.setRemoteDescription({ type: 'answer', sdp: answer });
    try {
      const { sender } = this.#picture;
      const parameters = sender.getParameters();
      parameters.degradationPreference = 'maintain-resolution';
      // Landmarks need no more; every packet costs the server time that the avatar can use.
      for (const encoding of parameters.encodings) encoding.maxBitrate = 700_000;
      await sender.setParameters(parameters);
    } catch { /* only a preference */ }
    this.#control(this.#key);
  }

  get #key() { return this.#location.split('/').pop(); }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  // Bytes of a face that was found here (see face/packet.js); a line that is behind gets the next one.
  sendFace(bytes) {
    const socket = this.#socket;
    if (socket?.readyState === WebSocket.OPEN && socket.bufferedAmount < 4096) socket.send(bytes);
  }

  // Send this camera's picture; null for none.
  async show(camera) {
    this.#camera = camera;
    const track = camera?.getVideoTracks()[0] ?? null;
    if (track) track.contentHint = 'motion';
    await this.#picture?.sender.replaceTrack(track);
  }

  // Let viewers hear a microphone's track; null for silence.
  async speak(track) {
    await this.#sound.sender.replaceTrack(track);
  }

  // An address for viewers, and for OBS as a browser source; whether it can be revoked.
  async link() {
    const { path, revocable } = await (await request(`links/${this.#key}`, { method: 'POST' })).json();
    return { url: new URL(path.slice(1), new URL('.', location.href)).href, revocable };
  }

  // End every link to this session, and who watches by one.
  async revokeLinks() {
    await request(`links/${this.#key}`, { method: 'DELETE' });
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
      if (message.type === 'reconnect') this.#lost(); // the server is about to stop: the next one takes over
    };
    socket.onclose = () => this.#lost();
    socket.onopen = () => {
      if (token.value) this.send({ type: 'token', value: token.value });
      this.onOpen?.();
    };
  }

  #lost() {
    if (this.#closed) return;
    this.close();
    this.onLost();
  }

  #leave() {
    this.#pc?.close();
    if (this.#socket) { this.#socket.onclose = null; this.#socket.close(); }
    leave(this.#location);
  }
}

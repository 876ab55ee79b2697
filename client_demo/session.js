// One connection to the server: sends the camera, receives the avatar, and has a control channel. Reports through
// callbacks; its owner decides whether to reconnect.
import { iceServers, leave, minimizeJitterBuffer, negotiate, onLost, request, token } from './api.js';

const CAMERA_BITS_PER_SECOND = 700_000; // enough for landmarks; every packet costs the server time
const MAX_UNSENT_BYTES = 4096; // of faces, before the next one is dropped

export class Session {
  #pc; #socket; #location; #camera; #video; #audio; #closed = false; #statsBefore = {};

  constructor({ onTrack, onStatus, onError, onLost }) {
    Object.assign(this, { onTrack, onStatus, onError, onLost });
  }

  // Without a camera no picture is sent; privacy mode uses `sendFace`.
  async open(camera, portrait) {
    this.#camera = camera;
    const pc = this.#pc = new RTCPeerConnection({ iceServers: await iceServers('session') });
    this.#video = pc.addTransceiver('video', { direction: 'sendrecv' });
    await this.sendCamera(this.#camera); // the camera may have changed meanwhile
    // Silent until the microphone is switched on. Viewers hear it; it does not come back to this page.
    this.#audio = pc.addTransceiver('audio', { direction: 'sendonly' });
    pc.ontrack = ({ track, receiver }) => {
      minimizeJitterBuffer(receiver);
      this.onTrack(new MediaStream([track]));
    };
    onLost(pc, () => this.#lost());
    const query = new URLSearchParams({ portrait });
    // With a name, the address for viewers stays the same from session to session.
    const name = new URLSearchParams(window.location.search).get('session');
    if (name) query.set('session', name);
    const { location, answer } = await negotiate(pc, `session?${query}`);
    this.#location = location;
    if (this.#closed) return this.#leave();
    await pc.setRemoteDescription({ type: 'answer', sdp: answer });
    try {
      const { sender } = this.#video;
      const parameters = sender.getParameters();
      parameters.degradationPreference = 'maintain-resolution';
      for (const encoding of parameters.encodings) encoding.maxBitrate = CAMERA_BITS_PER_SECOND;
      await sender.setParameters(parameters);
    } catch { /* only a preference */ }
    this.#openControl(this.#key);
  }

  get #key() { return this.#location.split('/').pop(); }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  // Sends the bytes of a face (see face/packet.js), or drops them if the line is behind.
  sendFace(bytes) {
    const socket = this.#socket;
    if (socket?.readyState === WebSocket.OPEN && socket.bufferedAmount < MAX_UNSENT_BYTES) socket.send(bytes);
  }

  // Sends this camera's picture; null for none.
  async sendCamera(camera) {
    this.#camera = camera;
    const track = camera?.getVideoTracks()[0] ?? null;
    if (track) track.contentHint = 'motion';
    await this.#video?.sender.replaceTrack(track);
  }

  // Sends a microphone's track to viewers; null for silence.
  async sendMicrophone(track) {
    await this.#audio.sender.replaceTrack(track);
  }

  // Makes a link for viewers, and for OBS as a browser source. Resolves to it and to whether it can be revoked.
  async link() {
    const { path, revocable } = await (await request(`links/${this.#key}`, { method: 'POST' })).json();
    return { url: new URL(path.slice(1), new URL('.', location.href)).href, revocable };
  }

  // Revokes all links to this session and disconnects their viewers.
  async revokeLinks() {
    await request(`links/${this.#key}`, { method: 'DELETE' });
  }

  // Milliseconds that a frame spends on the line and in the browser: round trip, and jitter buffer since the last call.
  async lineDelay() {
    let delay = 0;
    for (const report of (await this.#pc.getStats()).values()) {
      if (report.type === 'candidate-pair' && report.nominated) delay += (report.currentRoundTripTime ?? 0) * 1000;
      if (report.type === 'inbound-rtp' && report.kind === 'video') {
        const { jitterBufferDelay: total, jitterBufferEmittedCount: count } = report;
        const frames = count - (this.#statsBefore.count ?? 0);
        if (frames > 0) delay += (total - (this.#statsBefore.total ?? 0)) / frames * 1000;
        this.#statsBefore = { total, count };
      }
    }
    return delay;
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#leave();
  }

  #openControl(id) {
    const url = new URL(`control/${id}`, location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    const socket = this.#socket = new WebSocket(url);
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'status') this.onStatus(message);
      if (message.type === 'error') this.onError(message.message);
      if (message.type === 'reconnect') this.#lost(); // the server is about to stop
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

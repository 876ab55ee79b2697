// Records the avatar on this device, with the marks that its pictures carry.
import { t } from './words.js';

const KINDS = ['video/mp4;codecs=avc1.42E01E,mp4a.40.2', 'video/webm;codecs=vp9,opus', 'video/webm'];

export class Recording {
  #recorder; #canvas = document.createElement('canvas'); #parts = []; #running = true;

  // Throws where the browser cannot record. `sound` is an audio track or null.
  constructor(video, sound) {
    const kind = KINDS.find((one) => globalThis.MediaRecorder?.isTypeSupported(one));
    if (!kind) throw new Error(t('noRecord'));
    this.#canvas.width = video.videoWidth;
    this.#canvas.height = video.videoHeight;
    const stream = this.#canvas.captureStream();
    if (sound) stream.addTrack(sound);
    this.#recorder = new MediaRecorder(stream, { mimeType: kind, videoBitsPerSecond: 4_000_000 });
    this.#recorder.ondataavailable = ({ data }) => this.#parts.push(data);
    this.#recorder.onstop = () => this.#save(kind.split(';')[0]);
    this.#draw(video);
    this.#recorder.start(1000);
  }

  stop() {
    this.#running = false;
    if (this.#recorder.state !== 'inactive') this.#recorder.stop();
  }

  #draw(video) {
    if (!this.#running) return;
    const context = this.#canvas.getContext('2d');
    const { width, height } = this.#canvas;
    context.drawImage(video, 0, 0, width, height);
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(() => this.#draw(video));
    else setTimeout(() => this.#draw(video), 40);
  }

  #save(kind) {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob(this.#parts, { type: kind }));
    link.download = `avatar-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.${kind.split('/')[1]}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}

// The button that starts and ends one; `sound` gives the track that is recorded with it, or null.
export class RecordButton {
  #recording = null;

  constructor(button, video, sound, say) {
    Object.assign(this, { button, video, sound, say });
    button.onclick = () => (this.#recording ? this.stop() : this.#start());
  }

  stop() {
    this.#recording?.stop();
    this.#recording = null;
    this.#show();
  }

  #start() {
    try {
      this.#recording = new Recording(this.video, this.sound());
      this.#show();
    } catch (error) { this.say(error.message); }
  }

  #show() {
    this.button.setAttribute('aria-pressed', Boolean(this.#recording));
    this.button.dataset.t = this.#recording ? 'recording' : 'record';
    this.button.textContent = t(this.button.dataset.t);
  }
}

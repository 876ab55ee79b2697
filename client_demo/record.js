// Records the avatar on this device. The recording has the marks of its pictures.
import { t } from './words.js';

const MIME_TYPES = ['video/mp4;codecs=avc1.42E01E,mp4a.40.2', 'video/webm;codecs=vp9,opus', 'video/webm'];

export class Recording {
  #recorder; #canvas = document.createElement('canvas'); #chunks = []; #running = true;

  // `sound` is an audio track or null. Throws if the browser cannot record.
  constructor(video, sound) {
    const mimeType = MIME_TYPES.find((type) => globalThis.MediaRecorder?.isTypeSupported(type));
    if (!mimeType) throw new Error(t('noRecord'));
    this.#canvas.width = video.videoWidth;
    this.#canvas.height = video.videoHeight;
    const stream = this.#canvas.captureStream();
    if (sound) stream.addTrack(sound);
    this.#recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: 4_000_000 });
    this.#recorder.ondataavailable = ({ data }) => this.#chunks.push(data);
    this.#recorder.onstop = () => this.#save(mimeType.split(';')[0]);
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

  #save(mimeType) {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob(this.#chunks, { type: mimeType }));
    link.download = `avatar-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.${mimeType.split('/')[1]}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}

// The button that starts and stops a recording. `sound` returns the audio track to record, or null.
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

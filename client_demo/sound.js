// The microphone, and links to share.
import { t } from './words.js';

export class Microphone {
  #stream = null;

  get track() { return this.#stream?.getAudioTracks()[0] ?? null; }

  async open() {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error(t('insecure'));
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      throw new Error(t('noMicrophone'));
    }
  }

  close() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
  }
}

// Shows the session's link for viewers and puts it on the clipboard; `revoke` is shown where links can be ended.
export async function shareLink(session, button, field, revoke) {
  const { url, revocable } = await session.link();
  field.value = url;
  field.hidden = false;
  revoke.hidden = !revocable;
  field.select();
  try { await navigator.clipboard.writeText(field.value); } catch { return; } // it is there to be copied by hand
  button.textContent = t('copied');
  setTimeout(() => { button.textContent = t('share'); }, 2000);
}

export async function revokeLinks(session, field, revoke) {
  await session.revokeLinks();
  field.hidden = revoke.hidden = true;
  field.value = '';
}

// The microphone, and links to share.
import { t } from './words.js';

const COPIED_MS = 2000; // for which the button says so

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

// Shows the session's link for viewers and copies it. Shows the button `revoke` if links can be revoked.
export async function shareLink(session, button, field, revoke) {
  const { url, revocable } = await session.link();
  field.value = url;
  field.hidden = false;
  revoke.hidden = !revocable;
  field.select();
  try { await navigator.clipboard.writeText(field.value); } catch { return; } // the user can copy it from the field
  button.textContent = t('copied');
  setTimeout(() => { button.textContent = t('share'); }, COPIED_MS);
}

export async function revokeLinks(session, field, revoke) {
  await session.revokeLinks();
  field.hidden = revoke.hidden = true;
  field.value = '';
}

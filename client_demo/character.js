// The dialogs to enrol a person as a character, with their consent, and to rename or remove a character.
import { request } from './api.js';
import { t } from './words.js';

const $ = (id) => document.getElementById(id);

export class Characters {
  #portraits; #panel; #say; #shownCharacter = null;

  // `say` shows an error message.
  constructor(portraits, panel, say) {
    this.#portraits = portraits;
    this.#panel = panel;
    this.#say = say;
    $('keep-person').onclick = () => this.#openEnrolDialog();
    $('enrol-form').onsubmit = (event) => { event.preventDefault(); this.#enrol(); };
    $('enrol-close').onclick = () => $('enrol').close();
    $('card-open').onclick = () => this.#showCard();
    $('card-close').onclick = () => $('card').close();
    $('card-rename').onclick = () => this.#change({ name: $('card-name').value });
    $('card-settings').onclick = () => this.#change({ settings: this.#panel.settings });
    $('card-remove').onclick = () => this.#remove();
  }

  // Shows the buttons for the chosen portrait: an uploaded picture can be enrolled, a character has a card.
  show() {
    $('keep-person').hidden = !(this.#portraits.enrolment && this.#portraits.uploaded);
    $('card-open').hidden = !this.#portraits.character;
  }

  #openEnrolDialog() {
    const style = $('enrol-style');
    style.replaceChildren(...['', ...this.#portraits.styles].map((name) => {
      const option = Object.assign(document.createElement('option'), { value: name, textContent: t(`style-${name || 'none'}`) });
      option.dataset.t = `style-${name || 'none'}`;
      return option;
    }));
    $('enrol-said').textContent = '';
    $('enrol').showModal();
  }

  async #enrol() {
    const message = $('enrol-said');
    message.textContent = t('enrolling');
    $('enrol-send').disabled = true;
    try {
      const pictures = [this.#portraits.chosen];
      for (const file of [...$('enrol-more').files].slice(0, 4)) pictures.push(await this.#portraits.send(file));
      const done = await (await request('identities', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({
          pictures, name: $('enrol-name').value, consent: $('enrol-consent').value, style: $('enrol-style').value,
          protected: $('enrol-protect').checked,
        }),
      })).json();
      $('enrol').close();
      $('enrol-form').reset();
      await this.#portraits.reload(done.id);
      const advice = done.pictures[done.shown].advice;
      if (advice.length) this.#say(`${t('enrolled')} ${advice.join('; ')}.`);
    } catch (error) {
      message.textContent = error.message;
    } finally {
      $('enrol-send').disabled = false;
    }
  }

  async #showCard() {
    const { id, name } = this.#shownCharacter = this.#portraits.character;
    try {
      const card = await (await request(`identities/${id}/card`)).blob();
      const image = $('card-picture');
      URL.revokeObjectURL(image.src);
      Object.assign(image, { src: URL.createObjectURL(card), alt: `${t('card')}: ${name}` });
      $('card-name').value = name;
      $('card-said').textContent = '';
      $('card').showModal();
    } catch (error) { this.#say(error.message); }
  }

  async #change(changes) {
    try {
      await request(`identities/${this.#shownCharacter.id}`, {
        method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(changes),
      });
      $('card-said').textContent = t('saved');
      await this.#portraits.reload(this.#shownCharacter.id);
    } catch (error) { $('card-said').textContent = error.message; }
  }

  async #remove() {
    if (!confirm(t('removeSure'))) return;
    try {
      await request(`identities/${this.#shownCharacter.id}`, { method: 'DELETE' });
      await this.#portraits.reload();
      $('card').close();
    } catch (error) { $('card-said').textContent = error.message; }
  }
}

// The page: choose a portrait, start the camera, be somebody else.
import { FaceFinder, openCamera } from './camera.js';
import { privacy } from './kept.js';
import { Portraits } from './portraits.js';
import { RecordButton } from './record.js';
import { ServerError, token } from './api.js';
import { Guide } from './guide.js';
import { Session } from './session.js';
import { Microphone, shareLink } from './sound.js';
import { check } from './check.js';
import { otherLanguage, speak, t } from './words.js';

const $ = (id) => document.getElementById(id);
const body = document.body;
const RETRIES = 8;
const SIMPLER = { smaller: 'smaller', 'half rate': 'half', warp: 'warp' }; // what a rung of the server's ladder means

let session = null;
let camera = null;
let started = false;
let attempt = 0;
let retry = 0;
let mirror = true;

let finder = null;
const microphone = new Microphone();
let keepChosen = false; // until then the server's own setting counts

const recordButton = new RecordButton($('record'), $('avatar'), () => microphone.track, say);
const guide = new Guide($('guide'));

const portraits = new Portraits($('portraits'), (id, byHand) => {
  $('still').src = portraits.picture;
  if (byHand) guide.did('chose');
  session?.send({ type: 'portrait', id });
}, upload);

function setState(state) {
  body.dataset.state = state;
  $('state').textContent = t(state);
  $('start').disabled = $('start-voice').disabled = state !== 'idle';
  $('controls').disabled = state !== 'live';
}

function say(sentence) {
  $('alert').hidden = !sentence;
  $('alert').textContent = sentence ?? '';
}

function hint(sentence) {
  $('hint').hidden = !sentence;
  $('hint').textContent = sentence ?? '';
}

// With the camera, or with the microphone alone: then the mouth follows the voice.
async function start(withCamera) {
  say();
  setState('connecting');
  started = true;
  try {
    if (withCamera) {
      camera = await openCamera();
      camera.getVideoTracks()[0].onended = () => { stop(); say(t('unplugged')); };
      $('self').srcObject = camera;
      body.dataset.camera = '';
      if (privacy.value) await findFace();
    } else {
      await openMicrophone();
    }
  } catch (error) {
    stop();
    return say(error.message);
  }
  attempt = 0;
  if (started) await connect();
}

async function connect() {
  const mine = session = new Session({
    onTrack: (stream) => { $('avatar').srcObject = stream; },
    onStatus: showStatus,
    onError: say,
    onLost: () => { if (session === mine) lost(); },
  });
  mine.onOpen = () => {
    attempt = 0;
    setState('live');
    guide.did('live');
    mine.send({ type: 'mirror', value: mirror });
    mine.send({ type: 'gain', value: Number($('gain').value) });
    if ($('background').value !== 'own') mine.send({ type: 'background', value: $('background').value });
    hold();
    if (keepChosen) mine.send({ type: 'keep', value: Number($('keep').value) });
    if (microphone.track) mine.speak(microphone.track);
  };
  try {
    await mine.open(privacy.value ? null : camera, portraits.chosen);
    if (session === mine) say();
  } catch (error) {
    mine.close();
    if (session !== mine) return;
    if (error instanceof ServerError && error.status === 401) {
      stop();
      askForToken(error);
    } else if (error instanceof ServerError && attempt === 0) {
      stop();
      say(sentence(error.message));
    } else {
      lost();
    }
  }
}

// Privacy mode: the picture stays here. It is never sent because something failed.
async function findFace() {
  hint(t('loading'));
  const mine = finder = new FaceFinder();
  try {
    await mine.start(camera, (bytes) => session?.sendFace(bytes), (error) => { stop(); say(unfound(error)); });
  } catch (error) {
    throw new Error(unfound(error));
  } finally {
    hint();
  }
}

const unfound = (error) => `${t('notFound')} ${error?.message ?? error}`;

async function togglePrivacy() {
  privacy.value = !privacy.value;
  showPrivacy();
  if (!camera) return;
  try {
    if (privacy.value) {
      await session?.show(null);
      await findFace();
    } else {
      forgetFace();
      await session?.show(camera);
    }
  } catch (error) {
    stop();
    say(error.message);
  }
}

function forgetFace() {
  finder?.stop();
  finder = null;
  $('sent').textContent = '';
}

function showPrivacy() {
  $('private').checked = privacy.value;
  $('promise').dataset.t = privacy.value ? 'kept' : 'privacy';
  $('promise').textContent = t($('promise').dataset.t);
}

// The connection or the server is gone: try again, a little later each time, with the same camera and portrait.
function lost() {
  session = null;
  delete body.dataset.playing;
  hint();
  if (!started) return;
  if (attempt >= RETRIES) {
    stop();
    return say(t('gone'));
  }
  attempt += 1;
  setState('reconnecting');
  say(t('lost'));
  retry = setTimeout(async () => {
    try { await portraits.renew(); } catch { /* the next attempt tells */ }
    if (started) await connect();
  }, Math.min(500 * 2 ** (attempt - 1), 8000));
}

function stop() {
  clearTimeout(retry);
  session?.close();
  session = null;
  camera?.getTracks().forEach((track) => { track.onended = null; track.stop(); });
  camera = null;
  started = false;
  forgetFace();
  silence();
  recordButton.stop();
  $('self').srcObject = $('avatar').srcObject = null;
  delete body.dataset.playing;
  delete body.dataset.camera;
  hint();
  setState('idle');
}

async function showStatus(status) {
  $('fps').textContent = Math.round(status.fps);
  if (!keepChosen && status.keep !== undefined) {
    $('keep').value = status.keep;
    showKeep();
  }
  if (finder) $('sent').textContent = `${Math.round(finder.rate)} kbit/s`;
  $('viewers').textContent = status.viewers;
  $('watched').hidden = !status.viewers;
  const simpler = status.engine === 'warp' ? undefined : SIMPLER[status.rung];
  $('simpler').hidden = !simpler;
  $('simpler').textContent = simpler ? t(simpler) : '';
  if (status.face === 'lost' || status.face === 'searching') {
    hint(t(camera ? 'noFace' : 'noVoice'));
  } else {
    if (status.calibrated) guide.did('calibrated');
    hint(status.calibrated ? null : t('ahead'));
  }
  if (session && status.server_ms !== null) {
    const line = await session?.lineDelay().catch(() => 0) ?? 0;
    // The pacer holds a finished picture for half a period on average.
    $('latency').textContent = `${Math.round(status.server_ms + line + 20)} ms`;
  }
}

function hold() {
  const boxes = [...document.getElementsByName('hold')];
  session?.send({ type: 'hold', value: boxes.filter((box) => box.checked).map((box) => box.value) });
}

function showKeep() {
  $('keep-value').textContent = Number($('keep').value).toFixed(1);
}

async function upload(file) {
  if (!file) return;
  say();
  $('drop').classList.add('busy');
  try { await portraits.upload(file); } catch (error) {
    if (error.status === 401) askForToken(error);
    else say(error instanceof ServerError ? sentence(error.message) : t('silent'));
  } finally {
    $('drop').classList.remove('busy');
    $('file').value = '';
  }
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

function toggleMirror() {
  mirror = !mirror;
  $('mirror').setAttribute('aria-pressed', mirror);
  $('self').style.transform = mirror ? '' : 'none';
  session?.send({ type: 'mirror', value: mirror });
}

// Viewers hear the microphone, in step with the picture; it does not come back to this page.
async function toggleMicrophone() {
  if (microphone.track) return silence();
  try { await openMicrophone(); } catch (error) { say(error.message); }
}

async function openMicrophone() {
  await microphone.open();
  $('speak').setAttribute('aria-pressed', true);
  await session?.speak(microphone.track);
}

function silence() {
  microphone.close();
  $('speak').setAttribute('aria-pressed', false);
  session?.speak(null).catch(() => {});
}

async function share() {
  try { await shareLink(session, $('share'), $('link')); } catch (error) {
    say(error instanceof ServerError ? sentence(error.message) : t('silent'));
  }
}

async function checkAll() {
  $('check').showModal();
  $('checked').textContent = t('checking');
  $('checked').textContent = t(await check($('checks')) ? 'checkWell' : 'checkBad');
}

function askForToken(error) {
  say(token.value ? sentence(error.message) : t('wantsToken'));
  $('token-form').hidden = false;
  $('token').focus();
}

function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $('stage').requestFullscreen?.().catch(() => say(t('noFull')));
}

$('start').onclick = () => start(true);
$('start-voice').onclick = () => start(false);
$('stop').onclick = stop;
$('check-all').onclick = checkAll;
$('private').onchange = togglePrivacy;
$('neutral').onclick = () => session?.send({ type: 'neutral' });
$('mirror').onclick = toggleMirror;
$('full').onclick = toggleFull;
$('speak').onclick = toggleMicrophone;
$('share').onclick = share;
$('language').onclick = () => {
  otherLanguage();
  guide.show();
  $('state').textContent = t(body.dataset.state);
};
$('token-form').onsubmit = (event) => {
  event.preventDefault();
  token.value = $('token').value.trim();
  $('token-form').hidden = true;
  say();
};
$('file').onchange = () => upload($('file').files[0]);
$('background').onchange = () => session?.send({ type: 'background', value: $('background').value });
for (const box of document.getElementsByName('hold')) box.onchange = hold;
$('gain').oninput = () => {
  $('gain-value').textContent = Number($('gain').value).toFixed(1);
  session?.send({ type: 'gain', value: Number($('gain').value) });
};
$('keep').oninput = () => {
  keepChosen = true;
  showKeep();
  session?.send({ type: 'keep', value: Number($('keep').value) });
};
$('avatar').onplaying = () => { body.dataset.playing = ''; };

const drop = $('drop');
addEventListener('dragover', (event) => { event.preventDefault(); drop.classList.add('over'); });
addEventListener('dragleave', (event) => { if (!event.relatedTarget) drop.classList.remove('over'); });
addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  upload(event.dataTransfer.files[0]);
});
addEventListener('keydown', (event) => {
  if (event.target.matches('input:not([type=radio])') || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = { n: $('neutral'), m: $('mirror'), f: $('full'), s: $('stop') }[event.key.toLowerCase()];
  if (action && body.dataset.state === 'live') action.click();
});
// A reload or a closed tab leaves no session behind.
addEventListener('pagehide', () => session?.close());

token.fromAddress();
speak();
showPrivacy();
setState('idle');
portraits.load().catch(() => say(`${t('silent')} ${t('reload')}`));

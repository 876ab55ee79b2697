// The page: choose a portrait, start the camera, be somebody else.
import { openCamera } from './camera.js';
import { Portraits } from './portraits.js';
import { PrivateFace } from './private.js';
import { RecordButton } from './record.js';
import { ServerError, token } from './api.js';
import { Guide } from './guide.js';
import { Session } from './session.js';
import { Microphone, revokeLinks, shareLink } from './sound.js';
import { Characters } from './character.js';
import { check } from './check.js';
import { Panel } from './panel.js';
import { otherLanguage, speak, t } from './words.js';

const $ = (id) => document.getElementById(id);
const body = document.body;
const RETRIES = 8;
const SIMPLER = { smaller: 'smaller', 'half rate': 'half', warp: 'warp' }; // what each quality means

let session = null;
let camera = null;
let started = false;
let attempt = 0;
let retry = 0;

const microphone = new Microphone();

const recordButton = new RecordButton($('record'), $('avatar'), () => microphone.track, say);
const guide = new Guide($('guide'));
const face = new PrivateFace((bytes) => session?.sendFace(bytes), hint, (sentence) => { stop(); say(sentence); });
const panel = new Panel((message) => session?.send(message), say);

const portraits = new Portraits($('portraits'), (id, byHand) => {
  portraits.picture.then((url) => { if (portraits.chosen === id) $('still').src = url; });
  if (byHand) guide.did('chose');
  session?.send({ type: 'portrait', id });
  characters.show();
}, upload);
const characters = new Characters(portraits, panel, say);

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
      if (face.wanted) await face.find(camera);
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
    panel.tell();
    if (microphone.track) mine.speak(microphone.track);
  };
  try {
    await mine.open(face.wanted ? null : camera, portraits.chosen);
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

async function togglePrivacy() {
  face.toggle();
  if (!camera) return;
  try {
    if (face.wanted) {
      await session?.show(null);
      await face.find(camera);
    } else {
      face.forget();
      await session?.show(camera);
    }
  } catch (error) {
    stop();
    say(error.message);
  }
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
  face.forget();
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
  panel.show(status);
  showLikeness(status.identity);
  face.showRate();
  $('viewers').textContent = status.viewers;
  $('watched').hidden = !status.viewers;
  const simpler = status.engine === 'warp' ? undefined : SIMPLER[status.quality];
  $('simpler').hidden = !simpler;
  $('simpler').textContent = simpler ? t(simpler) : '';
  if (status.notice) {
    hint(sentence(status.notice));
  } else if (status.face === 'lost' || status.face === 'searching') {
    hint(t(camera ? 'noFace' : 'noVoice'));
  } else {
    if (status.calibrated) guide.did('calibrated');
    if (status.calibrated) hint(status.faces > 1 ? t('others') : null);
    else hint(t('ahead'));
  }
  if (session && status.server_ms !== null) {
    const line = await session?.lineDelay().catch(() => 0) ?? 0;
    // The pacer holds a finished picture for half a period on average.
    $('latency').textContent = `${Math.round(status.server_ms + line + 20)} ms`;
  }
}

// How much the last picture looks like its portrait, as the server's guard sees it.
function showLikeness(identity) {
  $('alike').hidden = !identity;
  if (!identity) return;
  $('likeness').textContent = `${Math.round(100 * Math.max(0, 1 - identity.distance))} %`;
  $('alike').dataset.step = identity.step;
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

async function asked(work) {
  try { await work(); } catch (error) {
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
$('mirror').onclick = () => panel.toggleMirror();
$('full').onclick = toggleFull;
$('speak').onclick = toggleMicrophone;
$('share').onclick = () => asked(() => shareLink(session, $('share'), $('link'), $('revoke')));
$('revoke').onclick = () => asked(() => revokeLinks(session, $('link'), $('revoke')));
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
  const action = { r: $('neutral'), m: $('mirror'), f: $('full'), s: $('stop') }[event.key.toLowerCase()];
  if (action && body.dataset.state === 'live') action.click();
});
// A reload or a closed tab leaves no session behind.
addEventListener('pagehide', () => session?.close());

token.fromAddress();
speak();
face.show();
setState('idle');
portraits.load().catch(() => say(`${t('silent')} ${t('reload')}`));

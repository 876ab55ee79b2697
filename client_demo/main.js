// The page: choose a portrait, start the camera, watch the avatar.
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
import { showTexts, switchLanguage, t } from './words.js';

const $ = (id) => document.getElementById(id);
const body = document.body;
const MAX_RETRIES = 8;
const MIN_RETRY_MS = 500; // doubles with every attempt
const MAX_RETRY_MS = 8000;
const PACER_MS = 20; // that a finished picture waits on average: half a period
const REDUCED_QUALITY = { smaller: 'smaller', 'half rate': 'half', warp: 'warp' }; // quality: key of its text

let session = null;
let camera = null;
let started = false;
let attempt = 0;
let retryTimer = 0;

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

// Starts with the camera, or with the microphone alone, whose sound then moves the mouth.
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
    onLost: () => { if (session === mine) reconnect(); },
  });
  mine.onOpen = () => {
    attempt = 0;
    setState('live');
    guide.did('live');
    panel.sendAll();
    if (microphone.track) mine.sendMicrophone(microphone.track);
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
      say(asSentence(error.message));
    } else {
      reconnect();
    }
  }
}

async function togglePrivacy() {
  face.toggle();
  if (!camera) return;
  try {
    if (face.wanted) {
      await session?.sendCamera(null);
      await face.find(camera);
    } else {
      face.stop();
      await session?.sendCamera(camera);
    }
  } catch (error) {
    stop();
    say(error.message);
  }
}

// Opens a new session with the same camera and portrait, later with every attempt.
function reconnect() {
  session = null;
  delete body.dataset.playing;
  hint();
  if (!started) return;
  if (attempt >= MAX_RETRIES) {
    stop();
    return say(t('gone'));
  }
  attempt += 1;
  setState('reconnecting');
  say(t('lost'));
  retryTimer = setTimeout(async () => {
    try { await portraits.renew(); } catch { /* the next attempt reports it */ }
    if (started) await connect();
  }, Math.min(MIN_RETRY_MS * 2 ** (attempt - 1), MAX_RETRY_MS));
}

function stop() {
  clearTimeout(retryTimer);
  session?.close();
  session = null;
  camera?.getTracks().forEach((track) => { track.onended = null; track.stop(); });
  camera = null;
  started = false;
  face.stop();
  closeMicrophone();
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
  const reduced = status.engine === 'warp' ? undefined : REDUCED_QUALITY[status.quality];
  $('simpler').hidden = !reduced;
  $('simpler').textContent = reduced ? t(reduced) : '';
  if (status.notice) {
    hint(asSentence(status.notice));
  } else if (status.face === 'lost' || status.face === 'searching') {
    hint(t(camera ? 'noFace' : 'noVoice'));
  } else {
    if (status.calibrated) guide.did('calibrated');
    if (status.calibrated) hint(status.faces > 1 ? t('others') : null);
    else hint(t('ahead'));
  }
  if (session && status.server_ms !== null) {
    const line = await session?.lineDelay().catch(() => 0) ?? 0;
    $('latency').textContent = `${Math.round(status.server_ms + line + PACER_MS)} ms`;
  }
}

// Shows how much the last picture looks like its portrait, as the server's guard measures it.
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
    else say(error instanceof ServerError ? asSentence(error.message) : t('silent'));
  } finally {
    $('drop').classList.remove('busy');
    $('file').value = '';
  }
}

const asSentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

// Viewers hear the microphone, in sync with the picture; it does not come back to this page.
async function toggleMicrophone() {
  if (microphone.track) return closeMicrophone();
  try { await openMicrophone(); } catch (error) { say(error.message); }
}

async function openMicrophone() {
  await microphone.open();
  $('speak').setAttribute('aria-pressed', true);
  await session?.sendMicrophone(microphone.track);
}

function closeMicrophone() {
  microphone.close();
  $('speak').setAttribute('aria-pressed', false);
  session?.sendMicrophone(null).catch(() => {});
}

// Runs `work` and shows its error, if any.
async function showingErrors(work) {
  try { await work(); } catch (error) {
    say(error instanceof ServerError ? asSentence(error.message) : t('silent'));
  }
}

async function checkAll() {
  $('check').showModal();
  $('checked').textContent = t('checking');
  $('checked').textContent = t(await check($('checks')) ? 'checkWell' : 'checkBad');
}

function askForToken(error) {
  say(token.value ? asSentence(error.message) : t('wantsToken'));
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
$('share').onclick = () => showingErrors(() => shareLink(session, $('share'), $('link'), $('revoke')));
$('revoke').onclick = () => showingErrors(() => revokeLinks(session, $('link'), $('revoke')));
$('language').onclick = () => {
  switchLanguage();
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
// Ends the session when the page is reloaded or closed.
addEventListener('pagehide', () => session?.close());

token.fromAddress();
showTexts();
face.show();
setState('idle');
portraits.load().catch(() => say(`${t('silent')} ${t('reload')}`));

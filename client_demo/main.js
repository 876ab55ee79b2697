// The page: choose a portrait, start the camera, be somebody else.
import { Portraits } from './portraits.js';
import { Recording } from './record.js';
import { ServerError, token } from './api.js';
import { Session } from './session.js';
import { otherLanguage, speak, t } from './words.js';

const $ = (id) => document.getElementById(id);
const body = document.body;
const RETRIES = 8;
const SIMPLER = { smaller: 'smaller', 'half rate': 'half', warp: 'warp' }; // what a rung of the server's ladder means

let session = null;
let camera = null;
let attempt = 0;
let retry = 0;
let mirror = true;

let microphone = null;
let recording = null;
let keepChosen = false; // until then the server's own setting counts

const portraits = new Portraits($('portraits'), (id) => {
  $('still').src = portraits.picture;
  session?.send({ type: 'portrait', id });
}, upload);

function setState(state) {
  body.dataset.state = state;
  $('state').textContent = t(state);
  $('start').disabled = state !== 'idle';
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

function cameraProblem(error) {
  switch (error?.name) {
    case 'NotAllowedError': return t('refused');
    case 'NotFoundError': case 'OverconstrainedError': return t('none');
    case 'NotReadableError': return t('busy');
    default: return `${t('failed')} ${error?.message ?? error}.`;
  }
}

async function start() {
  say();
  if (!navigator.mediaDevices?.getUserMedia) {
    return say(t('insecure'));
  }
  setState('connecting');
  try {
    camera = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25 } },
    });
  } catch (error) {
    setState('idle');
    return say(cameraProblem(error));
  }
  camera.getVideoTracks()[0].onended = () => { stop(); say(t('unplugged')); };
  $('self').srcObject = camera;
  body.dataset.camera = '';
  attempt = 0;
  await connect();
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
    mine.send({ type: 'mirror', value: mirror });
    mine.send({ type: 'gain', value: Number($('gain').value) });
    if (keepChosen) mine.send({ type: 'keep', value: Number($('keep').value) });
    if (microphone) mine.speak(microphone.getAudioTracks()[0]);
  };
  try {
    await mine.open(camera, portraits.chosen);
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

// The connection or the server is gone: try again, a little later each time, with the same camera and portrait.
function lost() {
  session = null;
  delete body.dataset.playing;
  hint();
  if (!camera) return;
  if (attempt >= RETRIES) {
    stop();
    return say(t('gone'));
  }
  attempt += 1;
  setState('reconnecting');
  say(t('lost'));
  retry = setTimeout(async () => {
    try { await portraits.renew(); } catch { /* the next attempt tells */ }
    if (camera) await connect();
  }, Math.min(500 * 2 ** (attempt - 1), 8000));
}

function stop() {
  clearTimeout(retry);
  session?.close();
  session = null;
  camera?.getTracks().forEach((track) => { track.onended = null; track.stop(); });
  camera = null;
  silence();
  endRecording();
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
  $('viewers').textContent = status.viewers;
  $('watched').hidden = !status.viewers;
  const simpler = status.engine === 'warp' ? undefined : SIMPLER[status.rung];
  $('simpler').hidden = !simpler;
  $('simpler').textContent = simpler ? t(simpler) : '';
  if (status.face === 'lost' || status.face === 'searching') {
    hint(t('noFace'));
  } else {
    hint(status.calibrated ? null : t('ahead'));
  }
  if (session && status.server_ms !== null) {
    const line = await session?.lineDelay().catch(() => 0) ?? 0;
    // The pacer holds a finished picture for half a period on average.
    $('latency').textContent = `${Math.round(status.server_ms + line + 20)} ms`;
  }
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
  if (microphone) return silence();
  try {
    microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    return say(t('noMicrophone'));
  }
  $('speak').setAttribute('aria-pressed', true);
  await session?.speak(microphone.getAudioTracks()[0]);
}

function silence() {
  microphone?.getTracks().forEach((track) => track.stop());
  microphone = null;
  $('speak').setAttribute('aria-pressed', false);
  session?.speak(null).catch(() => {});
}

function toggleRecording() {
  if (recording) return endRecording();
  try {
    recording = new Recording($('avatar'), microphone?.getAudioTracks()[0] ?? null);
    showRecording();
  } catch (error) { say(error.message); }
}

function endRecording() {
  recording?.stop();
  recording = null;
  showRecording();
}

function showRecording() {
  $('record').setAttribute('aria-pressed', Boolean(recording));
  $('record').dataset.t = recording ? 'recording' : 'record';
  $('record').textContent = t($('record').dataset.t);
}

async function share() {
  try {
    const link = await session.link();
    $('link').value = link;
    $('link').hidden = false;
    $('link').select();
    try { await navigator.clipboard.writeText(link); } catch { return; } // the link is there to be copied by hand
    $('share').textContent = t('copied');
    setTimeout(() => { $('share').textContent = t('share'); }, 2000);
  } catch (error) {
    say(error instanceof ServerError ? sentence(error.message) : t('silent'));
  }
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

$('start').onclick = start;
$('stop').onclick = stop;
$('neutral').onclick = () => session?.send({ type: 'neutral' });
$('mirror').onclick = toggleMirror;
$('full').onclick = toggleFull;
$('speak').onclick = toggleMicrophone;
$('share').onclick = share;
$('record').onclick = toggleRecording;
$('language').onclick = () => {
  otherLanguage();
  $('state').textContent = t(body.dataset.state);
};
$('token-form').onsubmit = (event) => {
  event.preventDefault();
  token.value = $('token').value.trim();
  $('token-form').hidden = true;
  say();
};
$('file').onchange = () => upload($('file').files[0]);
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
setState('idle');
portraits.load().catch(() => say(`${t('silent')} ${t('reload')}`));

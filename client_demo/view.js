// The avatar of a session and nothing else: for a viewer's browser, and for OBS as a browser source. Speaks WHEP.
import { ServerError, iceServers, leave, negotiate, newestFirst, onLost, token } from './api.js';

const $ = (id) => document.getElementById(id);
const id = location.pathname.split('/').filter(Boolean).pop();
const endpoint = `../whep/${encodeURIComponent(id)}`;
const LONGEST_WAIT = 5000;

let pc = null;
let place = null;
let wait = 500;

function show(state, sentence = '') {
  document.body.dataset.state = state;
  $('state').textContent = sentence;
}

async function watch() {
  try {
    pc = new RTCPeerConnection({ iceServers: await iceServers(endpoint) });
    const mine = pc;
    const stream = new MediaStream();
    for (const kind of ['video', 'audio']) pc.addTransceiver(kind, { direction: 'recvonly' });
    pc.ontrack = ({ track, receiver }) => {
      if (track.kind === 'video') newestFirst(receiver);
      stream.addTrack(track);
    };
    onLost(pc, () => { if (pc === mine) again('The connection was lost. Trying again…'); });
    const { location, answer } = await negotiate(pc, endpoint);
    place = location;
    await pc.setRemoteDescription({ type: 'answer', sdp: answer });
    $('avatar').srcObject = stream;
    await play();
  } catch (error) {
    if (error instanceof ServerError && [401, 403].includes(error.status)) return show('refused', `${error.message}.`);
    again(error instanceof ServerError && error.status === 404 ? 'Nobody is here yet.' : 'Connecting…');
  }
}

// Browsers refuse sound before a click; OBS does not.
async function play() {
  const video = $('avatar');
  video.muted = false;
  try { await video.play(); } catch (error) {
    if (error.name !== 'NotAllowedError') return;
    video.muted = true;
    $('sound').hidden = false;
    await video.play();
  }
}

function again(sentence) {
  pc?.close();
  leave(place);
  pc = place = null;
  show('connecting', sentence);
  setTimeout(watch, wait);
  wait = Math.min(wait * 2, LONGEST_WAIT);
}

$('avatar').onplaying = () => { wait = 500; show('live'); };
$('sound').onclick = () => { $('avatar').muted = false; $('sound').hidden = true; };
// The picture stands still when its session ends: look whether packets still come.
let before = 0;
let still = 0;
setInterval(async () => {
  if (document.body.dataset.state !== 'live' || !pc) return;
  let bytes = 0;
  for (const report of (await pc.getStats()).values()) if (report.type === 'inbound-rtp') bytes += report.bytesReceived;
  still = bytes === before ? still + 1 : 0;
  before = bytes;
  if (still >= 3) { still = 0; again('The session has ended.'); }
}, 1000);
addEventListener('pagehide', () => leave(place));

// OBS lays the page over a scene; a browser shows it by itself.
if (!window.obsstudio) document.body.style.background = '#0a0b0e';
token.fromAddress();
watch();

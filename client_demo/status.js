// The status page, for the administrator of the server.
import { request, token } from './api.js';

const UPDATE_MS = 2000;
const $ = (id) => document.getElementById(id);

function element(name, text) {
  return Object.assign(document.createElement(name), { textContent: text });
}

function duration(seconds) {
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  return hours ? `${hours} h ${minutes % 60} min` : minutes ? `${minutes} min` : `${seconds} s`;
}

function show(status) {
  document.body.dataset.state = status.stopping ? 'reconnecting' : 'live';
  $('state').textContent = status.stopping ? 'stopping' : 'running';
  const figures = { engine: status.engine, 'running for': duration(status.uptime), sessions: `${status.sessions.length} of ${status.capacity}` };
  $('figures').replaceChildren(...Object.entries(figures).map(([name, value]) => {
    const group = document.createElement('div');
    group.append(element('dt', name), element('dd', value));
    return group;
  }));
  $('rows').replaceChildren(...status.sessions.map((session) => {
    const row = document.createElement('tr');
    const name = document.createElement('td');
    name.append(Object.assign(element('a', session.id), { href: `view/${session.id}` }));
    const delay = session.server_ms === null ? '–' : `${session.server_ms} ms`;
    const rest = [session.live ? 'live' : 'connecting', duration(session.seconds), session.fps, delay, session.face,
      session.quality, session.portrait.startsWith('u-') ? 'own picture' : session.portrait, session.viewers];
    row.append(name, ...rest.map((text) => element('td', text)));
    return row;
  }));
  $('sessions').hidden = !status.sessions.length;
  $('none').hidden = status.sessions.length > 0;
}

function showError(message) {
  $('alert').hidden = !message;
  $('alert').textContent = message ?? '';
}

async function update() {
  try {
    show(await (await request('status', { headers: { Accept: 'application/json' } })).json());
    showError();
  } catch (error) {
    document.body.dataset.state = 'idle';
    $('state').textContent = 'no answer';
    const refused = [401, 403].includes(error.status);
    showError(refused ? error.message : 'The server does not answer. Is it still running?');
    if (refused) { $('token-form').hidden = false; return; }
  }
  setTimeout(update, UPDATE_MS);
}

$('token-form').onsubmit = (event) => {
  event.preventDefault();
  token.value = $('token').value.trim();
  $('token-form').hidden = true;
  update();
};
token.fromAddress();
update();

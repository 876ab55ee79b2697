// What the server is doing, for whoever runs it.
import { request, token } from './api.js';

const $ = (id) => document.getElementById(id);

function element(name, text) {
  return Object.assign(document.createElement(name), { textContent: text });
}

function since(seconds) {
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  return hours ? `${hours} h ${minutes % 60} min` : minutes ? `${minutes} min` : `${seconds} s`;
}

function show(said) {
  document.body.dataset.state = said.stopping ? 'reconnecting' : 'live';
  $('state').textContent = said.stopping ? 'stopping' : 'running';
  const figures = { engine: said.engine, 'running for': since(said.uptime), sessions: `${said.sessions.length} of ${said.capacity}` };
  $('figures').replaceChildren(...Object.entries(figures).map(([name, value]) => {
    const group = document.createElement('div');
    group.append(element('dt', name), element('dd', value));
    return group;
  }));
  $('rows').replaceChildren(...said.sessions.map((session) => {
    const row = document.createElement('tr');
    const name = document.createElement('td');
    name.append(Object.assign(element('a', session.id), { href: `view/${session.id}` }));
    const delay = session.server_ms === null ? '–' : `${session.server_ms} ms`;
    const rest = [session.live ? 'live' : 'connecting', since(session.seconds), session.fps, delay, session.face,
      session.quality, session.portrait.startsWith('u-') ? 'own picture' : session.portrait, session.viewers];
    row.append(name, ...rest.map((text) => element('td', text)));
    return row;
  }));
  $('sessions').hidden = !said.sessions.length;
  $('none').hidden = said.sessions.length > 0;
}

function complain(sentence) {
  $('alert').hidden = !sentence;
  $('alert').textContent = sentence ?? '';
}

async function look() {
  try {
    show(await (await request('status', { headers: { Accept: 'application/json' } })).json());
    complain();
  } catch (error) {
    document.body.dataset.state = 'idle';
    $('state').textContent = 'no answer';
    const refused = [401, 403].includes(error.status);
    complain(refused ? error.message : 'The server does not answer. Is it still running?');
    if (refused) { $('token-form').hidden = false; return; }
  }
  setTimeout(look, 2000);
}

$('token-form').onsubmit = (event) => {
  event.preventDefault();
  token.value = $('token').value.trim();
  $('token-form').hidden = true;
  look();
};
token.fromAddress();
look();

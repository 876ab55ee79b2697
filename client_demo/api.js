// Requests to the server: the token where it wants one, its sentences as errors, its ICE servers.

const KEPT = 'avatar-stream-token';

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// The token stays in this tab. One behind the # of the address is taken over and the address cleaned of it.
export const token = {
  get value() { return sessionStorage.getItem(KEPT) ?? ''; },
  set value(text) { sessionStorage.setItem(KEPT, text); },
  fromAddress() {
    const given = location.hash.slice(1);
    if (!given) return;
    this.value = decodeURIComponent(given);
    history.replaceState(null, '', location.pathname + location.search);
  },
};

export async function request(path, options = {}, bearer = token.value) {
  const headers = { ...options.headers };
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  let message = `The server answered ${response.status}.`;
  try { message = (await response.json()).error ?? message; } catch { /* not ours: a proxy's page, perhaps */ }
  throw new ServerError(message, response.status);
}

// What the endpoint at `path` names as ICE servers in its Link headers (RFC 9725 section 4.4).
export async function iceServers(path, bearer) {
  const response = await request(path, { method: 'OPTIONS' }, bearer);
  return parseLinks(response.headers.get('Link') ?? '');
}

export function parseLinks(header) {
  return [...header.matchAll(/<([^>]+)>((?:\s*;\s*[\w-]+="[^"]*")*)/g)].flatMap(([, urls, rest]) => {
    const said = Object.fromEntries([...rest.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    if (said.rel !== 'ice-server') return [];
    return [said.username ? { urls, username: said.username, credential: said.credential } : { urls }];
  });
}

// The whole offer in one request: wait for the candidates, but never long for a slow network card.
export function gathered(pc) {
  if (pc.iceGatheringState === 'complete') return Promise.resolve();
  return new Promise((resolve) => {
    pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && resolve());
    setTimeout(resolve, 1500);
  });
}

// Offer, answer; the Location to leave by.
export async function negotiate(pc, path, bearer) {
  await pc.setLocalDescription(await pc.createOffer());
  await gathered(pc);
  const response = await request(path, {
    method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: pc.localDescription.sdp,
  }, bearer);
  return { location: new URL(response.headers.get('Location'), response.url).href, answer: await response.text() };
}

// The newest frame, not the smoothest: it halves the delay on a good line.
export function newestFirst(receiver) {
  if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
}

// Calls back once when the connection is lost: failed, or interrupted for three seconds.
export function onLost(pc, lost) {
  pc.onconnectionstatechange = () => {
    if (pc.connectionState === 'failed') lost();
    if (pc.connectionState === 'disconnected') {
      setTimeout(() => { if (pc.connectionState === 'disconnected') lost(); }, 3000);
    }
  };
}

// keepalive: the request outlives the page when it is being left.
export function leave(location, bearer) {
  if (location) request(location, { method: 'DELETE', keepalive: true }, bearer).catch(() => {});
}

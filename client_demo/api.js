// Requests to the server: with the token, errors with the server's message, ICE servers, offer and answer.

const TOKEN_KEY = 'avatar-stream-token'; // in sessionStorage
const GATHERING_MS = 1500; // at most, for ICE candidates
const INTERRUPTED_MS = 3000; // an interruption that counts as a lost connection

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// The token stays in this tab. `fromAddress` takes a token from behind the # of the address and removes it there.
export const token = {
  get value() { return sessionStorage.getItem(TOKEN_KEY) ?? ''; },
  set value(text) { sessionStorage.setItem(TOKEN_KEY, text); },
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
  try { message = (await response.json()).error ?? message; } catch { /* not JSON: perhaps a proxy's page */ }
  throw new ServerError(message, response.status);
}

// The ICE servers in the Link headers of the endpoint at `path` (RFC 9725 section 4.4).
export async function iceServers(path, bearer) {
  const response = await request(path, { method: 'OPTIONS' }, bearer);
  return parseLinks(response.headers.get('Link') ?? '');
}

export function parseLinks(header) {
  return [...header.matchAll(/<([^>]+)>((?:\s*;\s*[\w-]+="[^"]*")*)/g)].flatMap(([, urls, rest]) => {
    const attributes = Object.fromEntries([...rest.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    if (attributes.rel !== 'ice-server') return [];
    return [attributes.username ? { urls, username: attributes.username, credential: attributes.credential } : { urls }];
  });
}

// Resolves once the offer has all ICE candidates, or after GATHERING_MS, since one slow network card may delay them.
export function candidatesGathered(pc) {
  if (pc.iceGatheringState === 'complete') return Promise.resolve();
  return new Promise((resolve) => {
    pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && resolve());
    setTimeout(resolve, GATHERING_MS);
  });
}

// Sends the offer. Resolves to the answer and to the resource's address, which `leave` deletes.
export async function negotiate(pc, path, bearer) {
  await pc.setLocalDescription(await pc.createOffer());
  await candidatesGathered(pc);
  const response = await request(path, {
    method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: pc.localDescription.sdp,
  }, bearer);
  return { location: new URL(response.headers.get('Location'), response.url).href, answer: await response.text() };
}

// Asks for no jitter buffer: on a good line this halves the delay, and playback is less smooth.
export function minimizeJitterBuffer(receiver) {
  if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
}

// Calls `lost` when the connection fails, or is interrupted for INTERRUPTED_MS.
export function onLost(pc, lost) {
  pc.onconnectionstatechange = () => {
    if (pc.connectionState === 'failed') lost();
    if (pc.connectionState === 'disconnected') {
      setTimeout(() => { if (pc.connectionState === 'disconnected') lost(); }, INTERRUPTED_MS);
    }
  };
}

// Deletes the resource. With keepalive the request is sent even while the page closes.
export function leave(location, bearer) {
  if (location) request(location, { method: 'DELETE', keepalive: true }, bearer).catch(() => {});
}

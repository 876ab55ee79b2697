// The clients in one bundle, for a page: window.clients.
export { WHIPClient } from 'whip-whep/whip.js';
export { WHEPClient } from 'whip-whep/whep.js';
export { WHIPClient as EyevinnPublisher } from '@eyevinn/whip-web-client';
export { WebRTCPlayer } from '@eyevinn/webrtc-player';

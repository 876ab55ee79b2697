// Only the avatar of a session: for a viewer's browser, and for OBS as a browser source.
import './avatar-view.js';
import { token } from './api.js';

token.fromAddress();
const view = document.createElement('avatar-view');
view.setAttribute('session', decodeURIComponent(location.pathname.split('/').filter(Boolean).pop()));
if (new URLSearchParams(location.search).has('transparent')) view.setAttribute('transparent', '');
view.addEventListener('statechange', () => { document.body.dataset.state = view.state; });
// OBS shows the page over a scene, so it stays transparent there.
if (!window.obsstudio) document.body.style.background = '#0a0b0e';
document.body.append(view);

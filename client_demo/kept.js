// What this device remembers: the chosen portrait, the user's own picture (in IndexedDB; sent only when it is chosen),
// and whether privacy mode is on.

const PORTRAIT_KEY = 'avatar-stream-portrait';
const PRIVACY_KEY = 'avatar-stream-privacy';

export const keptPortrait = {
  get id() { return localStorage.getItem(PORTRAIT_KEY); },
  set id(id) { localStorage.setItem(PORTRAIT_KEY, id); },
};

export const privacy = {
  get value() { return localStorage.getItem(PRIVACY_KEY) === 'on'; },
  set value(on) { localStorage.setItem(PRIVACY_KEY, on ? 'on' : 'off'); },
};

export const keptPicture = {
  get: () => inStore('readonly', (store) => store.get('own')).catch(() => null),
  put: (file) => inStore('readwrite', (store) => store.put(file, 'own')).catch(() => {}),
};

// Runs `action` on the store of pictures; resolves to its result, or null.
function inStore(mode, action) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('avatar-stream', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('pictures');
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const query = action(opening.result.transaction('pictures', mode).objectStore('pictures'));
      query.onsuccess = () => { resolve(query.result ?? null); opening.result.close(); };
      query.onerror = () => { reject(query.error); opening.result.close(); };
    };
  });
}

// What this device remembers: the portrait that was chosen, one's own picture (in IndexedDB, never sent unasked), and
// whether the camera's picture stays here.

const KEY = 'avatar-stream-portrait';

export const keptPortrait = {
  get id() { return localStorage.getItem(KEY); },
  set id(id) { localStorage.setItem(KEY, id); },
};

export const privacy = {
  get value() { return localStorage.getItem('avatar-stream-privacy') === 'on'; },
  set value(on) { localStorage.setItem('avatar-stream-privacy', on ? 'on' : 'off'); },
};

export const keptPicture = {
  get: () => work('readonly', (store) => store.get('own')).catch(() => null),
  put: (file) => work('readwrite', (store) => store.put(file, 'own')).catch(() => {}),
};

function work(mode, action) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('avatar-stream', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('pictures');
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const asked = action(opening.result.transaction('pictures', mode).objectStore('pictures'));
      asked.onsuccess = () => { resolve(asked.result ?? null); opening.result.close(); };
      asked.onerror = () => { reject(asked.error); opening.result.close(); };
    };
  });
}

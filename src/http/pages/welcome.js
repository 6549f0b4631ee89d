// The snippets name this very server.
const address = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/connection/websocket`;
for (const place of document.querySelectorAll('[data-address]')) place.textContent = address;

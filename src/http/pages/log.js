// The log: newest first, bounded, drawn once per frame, however many records arrive.

const ROWS_MAX = 500;
/** More new rows than this nobody reads as they come: then the log is drawn less often, and the time is left to the records. */
const ROWS_CALM = 40;
const FLOOD_MS = 500;

export class Log {
  #body;
  #note;
  #waiting = [];
  #passed = 0;
  #filter = '';
  #paused = false;
  #drawnAt = 0;

  constructor(body, note) {
    this.#body = body;
    this.#note = note;
    body.addEventListener('click', (event) => event.target.closest('tr')?.classList.toggle('open'));
  }

  /** A row: {kind, at, subject, offset, latency, badge, value, tags}; an event has only kind, at and value. `value` of a record is a function. */
  add(row) {
    this.#waiting.push(row);
    if (this.#waiting.length > ROWS_MAX) {
      this.#waiting.shift();
      this.#passed += 1;
    }
  }

  pause(paused) {
    this.#paused = paused;
  }

  clear() {
    this.#waiting.length = 0;
    this.#body.replaceChildren();
  }

  filter(text) {
    this.#filter = text.trim().toLowerCase();
    for (const row of this.#body.rows) row.hidden = !this.#matches(row.textContent);
  }

  /** Moves what has arrived since the last frame into the page. */
  draw(now) {
    if (this.#waiting.length === 0) return;
    if (this.#waiting.length > ROWS_CALM && now - this.#drawnAt < FLOOD_MS) return;
    this.#drawnAt = now;
    if (this.#paused) {
      this.#note.textContent = `paused, ${this.#waiting.length + this.#passed} more have arrived`;
      return;
    }
    const rows = this.#waiting.map((row) => this.#row(row)).reverse();
    this.#note.textContent = 'newest first, 500 rows at most';
    this.#passed = 0;
    this.#waiting.length = 0;
    this.#body.prepend(...rows);
    while (this.#body.rows.length > ROWS_MAX) this.#body.lastElementChild.remove();
  }

  #matches(text) {
    return this.#filter === '' || text.toLowerCase().includes(this.#filter);
  }

  #row(row) {
    const line = document.createElement('tr');
    line.dataset.kind = row.kind;
    line.append(cell('time', clock(row.at)));
    if (row.subject === undefined) {
      const value = cell('value', row.value);
      value.colSpan = 5;
      line.append(value);
    } else {
      const latency = cell('number', row.latency ?? '');
      if (row.badge) {
        const badge = document.createElement('span');
        badge.className = 'badge';
        badge.dataset.kind = row.badge;
        badge.textContent = row.badge;
        latency.replaceChildren(badge);
        if (row.latency) latency.title = `${row.latency} after the record's time`;
      }
      const subject = cell('subject', row.subject);
      subject.title = row.subject;
      line.append(subject, cell('number offset', row.offset ?? ''), latency, cell('value', row.value()), cell('tags', row.tags ?? ''));
    }
    if (this.#filter !== '') line.hidden = !this.#matches(line.textContent);
    return line;
  }
}

function cell(name, text) {
  const cell = document.createElement('td');
  cell.className = name;
  cell.textContent = text;
  return cell;
}

function clock(at) {
  const time = new Date(at);
  const digits = (number, length = 2) => String(number).padStart(length, '0');
  return `${digits(time.getHours())}:${digits(time.getMinutes())}:${digits(time.getSeconds())}.${digits(time.getMilliseconds(), 3)}`;
}

// Enhancements of the pages, which also work without this script. Elements opt in with data- attributes:
//
//   time[data-zone]       is converted to the local zone, with UTC in its title
//   time[data-title]      has the local time and UTC in its title
//   time[data-countdown]  counts down to its time
//   [data-submit]         submits its form when it changes
//   button[data-copy]     copies the text of the element with that ID
//   button[data-add]      adds its data-value as a line to the field with that ID
//   [data-choose]         selects the radio button name=value when it receives input
//   form[data-check]      is checked at that path during input; errors are shown at their [data-field]
//   form[data-once]       is submitted only once
//   form[data-marks]      gets a field with that name, which signals to the server that scripts run
//   [data-live]           is replaced whenever that path sends an event
//   button[data-tail]     adds calls from that path at the top of [data-rows] as they arrive
//   form[data-working]    shows the element with that ID when it is submitted
//   textarea[data-line]   has that line selected
//   [data-secret]         is emptied when the page is left, so that going back does not show it again
'use strict';

const find = (selector, root = document) => [...root.querySelectorAll(selector)];

function announce(text) {
  const toast = document.querySelector('[data-toast]');
  toast.textContent = text;
  toast.classList.add('shown');
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => toast.classList.remove('shown'), 4000);
}

// --- times

const local = new Intl.DateTimeFormat(undefined, {
  year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', timeZoneName: 'short',
});

const localSeconds = new Intl.DateTimeFormat(undefined, {
  year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit',
});

function utc(date) {
  return date.toISOString().slice(0, 16).replace('T', ' ') + ' UTC';
}

function showTimes(root) {
  for (const time of find('time[data-zone]', root)) {
    const date = new Date(time.dateTime);
    const seconds = time.dataset.zone === 'seconds';
    time.textContent = (seconds ? localSeconds : local).format(date);
    time.title = seconds ? date.toISOString().slice(0, 19).replace('T', ' ') + ' UTC' : utc(date);
  }
  for (const time of find('time[data-title], time[data-countdown]', root)) {
    const date = new Date(time.dateTime);
    time.title = `${local.format(date)} – ${utc(date)}`;
  }
}

function left(millis) {
  const seconds = Math.floor(millis / 1000);
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600), Math.floor(seconds / 60)];
  if (hours < 1) return `${minutes} min ${seconds % 60} s`;
  if (days < 1) return `${hours} h ${minutes % 60} min`;
  return `${days} d ${hours % 24} h`;
}

function countDown() {
  for (const time of find('time[data-countdown]')) {
    const millis = new Date(time.dateTime) - Date.now();
    const text = millis > 0 ? left(millis) : '0 s';
    if (time.textContent !== text) time.textContent = text;
  }
}

// --- forms

function submitOnChange() {
  for (const field of find('[data-submit]')) {
    field.addEventListener('change', () => field.form.requestSubmit());
  }
}

function copyButtons(root) {
  for (const button of find('button[data-copy]', root)) {
    button.hidden = false;
    button.addEventListener('click', async () => {
      const source = document.getElementById(button.dataset.copy);
      const text = source.value ?? source.textContent;
      try {
        await navigator.clipboard.writeText(text);
        announce('Copied.');
      } catch {
        // Without TLS, browsers deny access to the clipboard: select the text instead.
        getSelection().selectAllChildren(source);
        announce('Selected. Copy it with the keyboard.');
      }
    });
  }
}

function helpFilling() {
  for (const button of find('button[data-add]')) {
    button.addEventListener('click', (event) => {
      const field = document.getElementById(button.dataset.add);
      const lines = field.value.split(/[\s,;]+/).filter(Boolean);
      if (!lines.includes(button.dataset.value)) lines.push(button.dataset.value);
      field.value = lines.join('\n');
      field.dispatchEvent(new Event('input', { bubbles: true }));
      field.focus();
      event.preventDefault();
    });
  }
  for (const field of find('[data-choose]')) {
    field.addEventListener('input', () => {
      const [name, value] = field.dataset.choose.split('=');
      field.form.querySelector(`input[name="${name}"][value="${value}"]`).checked = true;
    });
  }
  for (const form of find('form[data-once]')) {
    form.addEventListener('submit', () => setTimeout(() => find('button', form).forEach((button) => { button.disabled = true; })));
  }
}

function checkWhileFilling(form) {
  // Errors from the server stay visible until they are corrected.
  const used = new Set(find('[data-field].wrong', form).map((part) => part.dataset.field));
  let timer, number = 0;
  const show = (errors) => {
    for (const part of find('[data-field]', form)) {
      const name = part.dataset.field;
      const wrong = name in errors && used.has(name);
      part.classList.toggle('wrong', wrong);
      const error = part.querySelector('.error');
      const shown = wrong ? errors[name] : '';
      if (error && error.textContent !== shown) error.textContent = shown;
      for (const input of find('[aria-describedby]', part)) {
        if (wrong) input.setAttribute('aria-invalid', 'true'); else input.removeAttribute('aria-invalid');
      }
    }
  };
  const check = async () => {
    const mine = ++number;
    const body = new URLSearchParams(new FormData(form));
    try {
      const response = await fetch(form.dataset.check, { method: 'POST', body });
      if (response.ok && mine === number) show(await response.json());
    } catch { /* The server checks again on submission. */ }
  };
  form.addEventListener('input', (event) => {
    const part = event.target.closest('[data-field]');
    if (!part) return;
    used.add(part.dataset.field);
    clearTimeout(timer);
    timer = setTimeout(check, 400);
  });
}

function markForms() {
  for (const form of find('form[data-marks]')) {
    const field = Object.assign(document.createElement('input'), { type: 'hidden', name: form.dataset.marks, value: '1' });
    form.append(field);
  }
}

function showLive(part) {
  const source = new EventSource(part.dataset.live);
  source.addEventListener('message', (event) => {
    part.innerHTML = event.data;
    showTimes(part);
  });
  source.addEventListener('end', () => source.close());
  addEventListener('pagehide', () => source.close());
}

// --- calls as they arrive

const MAX_ROWS = 200;

function tail(button) {
  const list = document.querySelector('[data-tailed]');
  const rows = list.querySelector('[data-rows]');
  const status = list.querySelector('[data-tail-status]');
  let source, last, fresh = 0, timer;
  const address = () => {
    const url = new URL(button.dataset.tail, location.href);
    if (last) url.searchParams.set('after', last);
    return url;
  };
  const add = (event) => {
    last = event.lastEventId;
    const template = document.createElement('template');
    template.innerHTML = event.data;
    const row = template.content.querySelector('tr');
    if (!row) return;
    showTimes(row);
    row.classList.add('fresh');
    setTimeout(() => row.classList.remove('fresh'), 3000);
    rows.prepend(row);
    list.hidden = false;
    document.querySelector('.empty')?.remove();
    while (rows.rows.length > MAX_ROWS) rows.lastElementChild.remove();
    fresh += 1;
    timer ??= setTimeout(() => {
      status.textContent = fresh === 1 ? '1 new call' : `${fresh} new calls`;
      fresh = 0;
      timer = undefined;
    }, 2000);
  };
  const stop = () => {
    source?.close();
    source = undefined;
    button.setAttribute('aria-pressed', 'false');
  };
  const start = () => {
    source = new EventSource(address());
    source.addEventListener('message', add);
    source.addEventListener('error', () => {
      if (source?.readyState !== EventSource.CLOSED) return;
      stop();
      announce('Live updates stopped. Reload the page.');
    });
    button.setAttribute('aria-pressed', 'true');
    announce('Showing new calls as they arrive.');
  };
  button.hidden = false;
  button.addEventListener('click', () => (source ? stop() : start()));
  addEventListener('pagehide', stop);
}

function showWorking(form) {
  form.addEventListener('submit', () => {
    document.getElementById(form.dataset.working).hidden = false;
  });
}

function goToLine(area) {
  const line = Number(area.dataset.line);
  if (!line) return;
  const lines = area.value.split('\n');
  const start = lines.slice(0, line - 1).join('\n').length + (line > 1 ? 1 : 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[line - 1] ?? '').length);
  area.scrollTop = Math.max(0, (line - 4) * (area.scrollHeight / lines.length));
}

function forgetSecrets() {
  const secrets = find('[data-secret]');
  if (!secrets.length) return;
  addEventListener('pagehide', () => {
    for (const secret of secrets) secret.textContent = 'The secret was shown once.';
  });
}

showTimes(document);
helpFilling();
find('form[data-check]').forEach(checkWhileFilling);
markForms();
find('[data-live]').forEach(showLive);
find('button[data-tail]').forEach(tail);
find('form[data-working]').forEach(showWorking);
find('textarea[data-line]').forEach(goToLine);
forgetSecrets();
submitOnChange();
copyButtons(document);
if (document.querySelector('time[data-countdown]')) setInterval(countDown, 1000);

'use strict';
// Everything that a server or a model says reaches the page through textContent.
(() => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const e = document.createElement(tag);
    if (className) e.className = className;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const count = (n) => Number(n || 0).toLocaleString('en').replaceAll(',', '\u202f');
  const size = (n) => {
    for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
      if (n < 1024 || unit === 'GiB') return (n < 10 && unit !== 'B' ? n.toFixed(1) : Math.round(n)) + ' ' + unit;
      n /= 1024;
    }
  };
  const rate = (tokens, seconds) => seconds > 0 ? (tokens / seconds).toFixed(tokens / seconds < 10 ? 1 : 0) : '\u2013';
  const plural = (n, word) => count(n) + ' ' + word + (n === 1 ? '' : 's');

  // --- the server ---

  const keyName = 'ds4-api-key';
  const headers = () => {
    const h = {'Content-Type': 'application/json'};
    const key = sessionStorage.getItem(keyName);
    if (key) h.Authorization = 'Bearer ' + key;
    return h;
  };

  // Problem is what went wrong with a request, in words for people.
  class Problem extends Error {
    constructor(text, options = {}) { super(text); Object.assign(this, options); }
  }
  const away = () => new Problem('The server does not answer. It may have ended, or be starting again.', {again: true, away: true});

  const request = async (path, options = {}) => {
    let response;
    try {
      response = await fetch(path, {headers: headers(), cache: 'no-store', ...options});
    } catch (e) {
      if (e.name === 'AbortError') throw e;
      throw away();
    }
    if (response.ok || path === '/healthz') return response;
    let text = '';
    try { text = (await response.json()).error.message; } catch { /* not one of our errors */ }
    const wait = Number(response.headers.get('Retry-After')) || 0;
    const said = text ? ' It says: ' + text : '';
    switch (response.status) {
      case 401: throw new Problem('The server wants an API key.', {key: true, again: true});
      case 429: throw new Problem('The server has more requests than it can queue.' + said, {again: true, wait: wait || 1});
      case 503: throw new Problem('The server takes no requests at the moment.' + said, {again: true, wait});
    }
    throw new Problem(text || 'The server answered ' + response.status + '.', {again: response.status >= 500});
  };

  // events reads a stream of server-sent events.
  async function* events(body) {
    const most = 8 << 20; // characters of one event
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      let piece;
      try {
        piece = await reader.read();
      } catch (e) {
        if (e.name === 'AbortError') throw e;
        throw new Problem('The connection broke in the middle of the answer.', {again: true, away: true});
      }
      if (piece.done) return;
      rest += piece.value;
      let end;
      while ((end = rest.indexOf('\n\n')) >= 0) {
        const data = rest.slice(0, end).split('\n').filter((l) => l.startsWith('data:')).map((l) => l.slice(5).trimStart()).join('\n');
        rest = rest.slice(end + 2);
        if (data) yield data;
      }
      if (rest.length > most) throw new Problem('The server sent an event without an end.');
    }
  }

  // --- the conversation ---

  let messages = [];
  let running = null; // the AbortController of the answer that is coming
  let waiting = null; // the turn of which no text has come yet

  const log = $('log');
  // The conversation scrolls in its own box, or with the page where that is narrow and the server's state is below.
  const narrow = () => getComputedStyle(log).overflowY === 'visible';
  const below = () => narrow() ? $('chat').getBoundingClientRect().bottom - innerHeight : log.scrollHeight - log.scrollTop - log.clientHeight;
  const toEnd = () => { (narrow() ? document.scrollingElement : log).scrollTop += Math.max(0, below()); };
  const follow = (f) => {
    const atEnd = below() < 60;
    f();
    if (atEnd) toEnd();
  };

  // writer shows text as it comes: blocks and spans of code, strong words and headings as what they are, the rest as it is.
  // Each line has a node of its own, with the line break in front, and is decided about when it is complete.
  const writer = (box) => {
    let node = null, parent = box, lead = 0; // the line that grows, where it is, and whether a break is in front
    let fence = '', indent = 0; // what opened the block of code that is being written
    const open = (to, text) => {
      parent = to;
      lead = text.length;
      node = document.createTextNode(text);
      to.append(node);
    };
    const span = (text) => {
      const parts = [];
      let at = 0;
      for (const m of text.matchAll(/`([^`]+)`|\*\*([^\s*](?:[^*]*[^\s*])?)\*\*/g)) {
        parts.push(text.slice(at, m.index), m[1] ? make('code', '', m[1]) : make('b', '', m[2]));
        at = m.index + m[0].length;
      }
      return [...parts, text.slice(at)];
    };
    const block = (language) => {
      const frame = make('div', 'code'), head = make('p', '', language), pre = make('pre'), code = make('code');
      if (navigator.clipboard) { // only where the address is this machine's, or encrypted
        const copy = make('button', '', 'Copy');
        copy.type = 'button';
        copy.addEventListener('click', async () => {
          await navigator.clipboard.writeText(code.textContent);
          copy.textContent = 'Copied';
          setTimeout(() => { copy.textContent = 'Copy'; }, 1500);
        });
        head.append(copy);
      }
      pre.tabIndex = 0; // it can be scrolled
      pre.append(code);
      frame.append(head, pre);
      box.append(frame);
      open(code, '');
    };
    const endLine = (more) => {
      const line = node.data.slice(lead), mark = line.match(/^(\s*)(`{3,}|~{3,})\s*([^`]*)$/);
      if (fence && mark && !mark[3] && mark[2].startsWith(fence)) {
        node.remove();
        fence = '';
        open(box, '');
        return;
      }
      if (!fence && mark && more) {
        node.remove();
        fence = mark[2];
        indent = mark[1].length;
        block(mark[3].trim());
        return;
      }
      if (fence && indent) node.data = node.data.slice(0, lead) + line.replace(new RegExp('^ {0,' + indent + '}'), '');
      const heading = fence ? null : line.match(/^#{1,6} +(.*)$/), parts = fence ? [] : span(heading ? heading[1] : line);
      if (heading || parts.length > 1) {
        node.data = node.data.slice(0, lead);
        const to = heading ? make('b', 'heading') : box;
        if (heading) box.append(to);
        to.append(...parts);
      }
      // A blank line behind a block of code is there already.
      if (more && (line || lead || node.previousSibling?.className !== 'code')) open(parent, '\n');
    };
    open(box, '');
    return {
      push: (text) => {
        for (const part of text.split(/(\n)/)) {
          if (part === '\n') endLine(true);
          else node.appendData(part);
        }
      },
      end: () => endLine(false),
    };
  };

  const addTurn = (role, text) => {
    $('blank').hidden = true;
    const turn = make('article', 'turn ' + role);
    turn.setAttribute('aria-label', role === 'user' ? 'You' : 'Model');
    const said = make('div', 'said'), write = writer(said);
    if (text) { write.push(text); write.end(); }
    turn.append(said);
    follow(() => log.append(turn));
    return {turn, write, thought: null};
  };

  const think = (view, text, first) => {
    if (!view.thought) {
      const fold = make('details');
      view.summary = make('summary', '', 'Thinking');
      view.thought = make('div', 'thought');
      fold.append(view.summary, view.thought);
      view.turn.prepend(fold);
    }
    if (first) view.thought.textContent = '';
    view.thought.append(text);
  };

  const figures = (view, text) => {
    if (!view.figures) view.turn.append(view.figures = make('p', 'figures'));
    view.figures.textContent = text;
  };

  const summarize = (timings, usage, firstMs) => {
    const parts = [];
    if (timings) {
      parts.push(rate(timings.completion_tokens, timings.decode_ms / 1000) + ' tokens/s');
      parts.push(plural(timings.completion_tokens, 'token'));
      const restored = timings.restored_tokens ? ' (' + count(timings.restored_tokens) + ' from disk)' : '';
      parts.push(count(timings.cached_tokens) + ' of ' + plural(timings.prompt_tokens, 'prompt token') + ' cached' + restored);
      if (timings.evaluated_tokens) parts.push('prefill ' + rate(timings.evaluated_tokens, timings.prefill_ms / 1000) + ' tokens/s');
      if (timings.attempts > 1) parts.push(timings.attempts + ' attempts');
    } else if (usage) {
      parts.push(plural(usage.completion_tokens, 'token'), count(usage.prompt_tokens_details?.cached_tokens) + ' of ' + plural(usage.prompt_tokens, 'prompt token') + ' cached');
    }
    if (firstMs) parts.push('first token after ' + (firstMs < 1000 ? Math.round(firstMs) + ' ms' : (firstMs / 1000).toFixed(2) + ' s'));
    return parts.join(', ');
  };

  const fail = (view, problem) => {
    const box = make('div', 'problem');
    box.setAttribute('role', 'alert');
    const text = make('span', '', problem.message);
    box.append(text);
    if (problem.again) {
      let timer = 0;
      const again = make('button', '', 'Try again');
      again.type = 'button';
      again.addEventListener('click', () => { clearInterval(timer); view.turn.remove(); answer(); });
      box.append(again);
      let left = Math.ceil(problem.wait || 0);
      const show = () => {
        text.textContent = problem.message + (left > 0 ? ' It asks to wait ' + plural(left, 'second') + '.' : '');
        if (left-- <= 0) clearInterval(timer);
      };
      timer = setInterval(show, 1000);
      show();
    }
    follow(() => view.turn.append(box));
    if (problem.key) askKey();
  };

  // failed says what an error in mid-stream means.
  const failed = (e) => new Problem('The answer failed: ' + String(e.message || 'no reason was given') + '.' + (e.retryable !== false ? '' :
    ' The server has given this conversation up for now' + (e.limit ? ', after ' + plural(e.limit, 'failure') : '') + '. Try again when its state is ok.'), {again: true});

  const busy = (on) => {
    $('stop').hidden = !on;
    $('send').disabled = on;
  };

  // answer asks for the next message of the conversation and shows it as it comes.
  const answer = async () => {
    const control = running = new AbortController();
    for (const button of log.querySelectorAll('.problem button')) button.remove(); // of answers that nobody asks for any more
    const view = waiting = addTurn('assistant', '');
    view.turn.classList.add('busy');
    busy(true);
    const began = performance.now();
    let text = '', pieces = 0, firstMs = 0, usage = null, timings = null, finish = null, ended = false;
    // What has come is shown once a frame, however many pieces it came in.
    const fresh = {said: '', thought: ''};
    let frame = 0;
    const show = () => {
      cancelAnimationFrame(frame);
      frame = 0;
      if (!fresh.said && !fresh.thought) return;
      follow(() => {
        if (waiting === view) { waiting = null; figures(view, ''); }
        if (fresh.thought) think(view, fresh.thought);
        view.write.push(fresh.said);
        fresh.said = fresh.thought = '';
        const seconds = (performance.now() - began - firstMs) / 1000;
        if (seconds > 0.3) figures(view, 'about ' + rate(pieces - 1, seconds) + ' tokens/s');
      });
    };
    try {
      const response = await request('/v1/chat/completions', {
        method: 'POST', signal: control.signal, body: JSON.stringify({
          messages, stream: true, stream_options: {include_usage: true}, max_tokens: Number($('limit').value) || 1024,
          thinking: {type: $('thinking').checked ? 'enabled' : 'disabled'},
        }),
      });
      for await (const data of events(response.body)) {
        if (data === '[DONE]') { ended = true; break; }
        let event;
        try { event = JSON.parse(data); } catch { throw new Problem('The server sent something that is no event.'); }
        if (event.error) throw failed(event.error);
        usage = event.usage || usage;
        timings = event.timings || timings;
        const choice = event.choices?.[0];
        finish = choice?.finish_reason || finish;
        const delta = choice?.delta || {};
        const piece = delta.content || '', thought = delta.reasoning_content || '';
        if (!piece && !thought) continue;
        if (!pieces++) firstMs = performance.now() - began;
        text += piece;
        fresh.said += piece;
        fresh.thought += thought;
        frame ||= requestAnimationFrame(show);
      }
      show();
      if (!ended) throw new Problem('The answer broke off.', {again: true});
      if (view.summary) view.summary.textContent = 'Thought';
      follow(() => figures(view, summarize(timings, usage, firstMs) + (finish === 'length' ? ', cut off at the limit' : '')));
      if (finish === 'length' && !text) throw new Problem('The limit was reached before the answer began. Allow more tokens.', {again: true});
    } catch (e) {
      show();
      if (e.name === 'AbortError') figures(view, 'stopped');
      else {
        if (waiting === view && view.figures) figures(view, '');
        fail(view, e instanceof Problem ? e : new Problem(String(e.message || e), {again: true}));
        text = '';
      }
    }
    if (waiting === view) waiting = null;
    view.write.end();
    view.turn.classList.remove('busy');
    if (running !== control) return; // another conversation began
    running = null;
    busy(false);
    if (text) messages.push({role: 'assistant', content: text});
    refresh();
  };

  $('ask').addEventListener('submit', (event) => {
    event.preventDefault();
    const text = $('text').value.trim();
    if (!text || running) return;
    $('text').value = '';
    if (messages.at(-1)?.role === 'user') { // it has no answer: this one takes its place
      messages.pop();
      [...log.querySelectorAll('.turn.user')].at(-1).append(make('p', 'figures', 'left out of what follows, because it has no answer'));
    }
    messages.push({role: 'user', content: text});
    addTurn('user', text);
    answer();
    toEnd();
  });
  const touch = matchMedia('(pointer: coarse)').matches; // there is no Shift for a new line, and a keyboard hides half of the page
  $('text').addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !touch) {
      event.preventDefault();
      $('ask').requestSubmit();
    }
  });
  const stop = () => running?.abort();
  $('stop').addEventListener('click', stop);
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape' && !$('key').open) stop(); });
  $('new').addEventListener('click', () => {
    const old = running;
    running = null;
    old?.abort();
    messages = [];
    for (const turn of log.querySelectorAll('.turn')) turn.remove();
    $('blank').hidden = false;
    busy(false);
    $('text').focus();
  });

  // --- the key ---

  const askKey = () => {
    if ($('key').open) return;
    $('key-error').textContent = sessionStorage.getItem(keyName) ? 'The last one was not right.' : '';
    $('key').showModal();
  };
  let keyCancelled = false;
  $('key-cancel').addEventListener('click', () => { keyCancelled = true; $('key').close(); });
  $('key').addEventListener('cancel', () => { keyCancelled = true; }); // the Escape key
  $('key-form').addEventListener('submit', (event) => {
    event.preventDefault();
    sessionStorage.setItem(keyName, $('key-text').value.trim());
    keyCancelled = false;
    $('key-text').value = '';
    $('key').close();
    refresh();
  });

  // --- what the server is doing ---

  const states = {empty: 'empty', idle: 'waits for its next turn', restoring: 'reads from disk', prefill: 'reads the prompt', decode: 'writes'};
  const bar = (label, parts) => {
    const b = make('div', 'bar');
    b.setAttribute('role', 'img');
    b.setAttribute('aria-label', label);
    fillBar(b, parts);
    return b;
  };
  const fillBar = (b, parts) => b.replaceChildren(...parts.filter(([, share]) => share > 0).map(([className, share, title]) => {
    const i = make('i', className);
    i.style.width = Math.min(100 * share, 100) + '%';
    if (title) i.title = title;
    return i;
  }));
  const line = (left, right) => {
    const s = make('span');
    s.append(make('b', '', left), make('small', '', right));
    return s;
  };

  // progress says what an answer waits for, as far as it can be told whose session is whose.
  const progress = (s) => {
    const starting = s.sessions.filter((v) => v.state === 'prefill' || v.state === 'restoring'), [v] = starting;
    if (s.waiting && !starting.length) return 'waiting, with ' + plural(s.waiting, 'request') + ' in the queue';
    if (s.waiting || starting.length !== 1) return '';
    return v.state === 'prefill' ? 'reading the prompt, ' + count(v.tokens) + ' of ' + plural(v.prompt_tokens, 'token') : 'reading the conversation from disk';
  };

  const showSessions = (s) => {
    $('model').textContent = s.model + ', ' + count(s.context_tokens) + ' tokens of context';
    $('queue').textContent = s.waiting ? plural(s.waiting, 'request') + ' waiting' : '';
    if (waiting) figures(waiting, progress(s));
    $('sessions').replaceChildren(...s.sessions.map((v, i) => {
      const item = make('li');
      item.dataset.state = v.state;
      let doing = states[v.state] || v.state;
      if (v.state === 'decode') doing += ', ' + plural(v.completion_tokens, 'token') + ' so far';
      if (v.state === 'prefill') doing += ', ' + count(v.tokens) + ' of ' + count(v.prompt_tokens) + (v.cached_tokens ? ', ' + count(v.cached_tokens) + ' were cached' : '');
      item.append(line(doing, count(v.tokens) + ' tokens'),
        bar('session ' + (i + 1) + ': ' + count(v.tokens) + ' tokens in memory, ' + count(v.saved_tokens) + ' also on disk',
          [['disk', v.saved_tokens / s.context_tokens], ['mem', (v.tokens - v.saved_tokens) / s.context_tokens]]));
      return item;
    }));
    const t = s.totals;
    $('totals').replaceChildren(...[
      ['prefill', rate(t.prefill_tokens, t.prefill_seconds) + ' tokens/s'], ['decode', rate(t.decode_tokens, t.decode_seconds) + ' tokens/s'],
      ['evaluated prompt tokens', count(t.prefill_tokens)], ['reused', count(t.cached_tokens)], ['of them from disk', count(t.restored_tokens)],
    ].flatMap(([name, value]) => [make('dt', '', name), make('dd', '', value)]));
  };

  // chains joins segments to the conversations that they are: one row for each
  // segment that nothing continues, from its beginning.
  const chainsOf = (entries) => {
    const byID = new Map(entries.map((e) => [e.id, e]));
    const parents = new Set(entries.map((e) => e.parent));
    return entries.filter((e) => !parents.has(e.id)).sort((a, b) => b.last_used.localeCompare(a.last_used)).map((leaf) => {
      const chain = [];
      for (let e = leaf; e && chain.length < 4096; e = byID.get(e.parent)) chain.unshift(e);
      return chain;
    });
  };
  const ago = (time) => {
    const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
    if (seconds < 90) return 'just now';
    for (const [unit, s] of [['day', 86400], ['hour', 3600], ['minute', 60]]) if (seconds >= s) return plural(Math.floor(seconds / s), unit) + ' ago';
  };

  const showKV = (kv) => {
    const state = $('kv-state');
    state.className = kv.enabled && !kv.healthy ? 'bad' : '';
    state.textContent = kv.enabled ? size(kv.bytes) + ' of ' + size(kv.budget_bytes) + (kv.reason ? '. ' + kv.reason : '') : kv.reason;
    $('segments').textContent = kv.segments ? plural(kv.segments, 'segment') : '';
    $('budget').hidden = $('verdicts').hidden = $('jail').hidden = !kv.enabled;
    $('budget').setAttribute('aria-label', state.textContent);
    fillBar($('budget'), [['ok', kv.segment_bytes / kv.budget_bytes, 'segments: ' + size(kv.segment_bytes)],
      ['jail', kv.quarantine_bytes / kv.budget_bytes, 'quarantine: ' + size(kv.quarantine_bytes)],
      ['foreign', kv.foreign_bytes / kv.budget_bytes, 'files of others: ' + size(kv.foreign_bytes)]]);
    const chains = chainsOf(kv.entries), most = 30;
    $('chains').replaceChildren(...chains.slice(0, most).map((chain) => {
      const item = make('li'), leaf = chain.at(-1), longest = Math.max(...chains.map((c) => c.at(-1).to));
      const bytes = chain.reduce((sum, e) => sum + e.bytes, 0);
      const verdicts = [...new Set(chain.map((e) => e.verdict))].filter((v) => v !== 'ok');
      item.append(line(count(leaf.to) + ' tokens' + (verdicts.length ? ', ' + verdicts.join(', ') : ''), size(bytes) + ', ' + ago(leaf.last_used)),
        bar(plural(chain.length, 'segment'), chain.map((e) => [['ok', 'probation', 'orphan', 'leaving'].includes(e.verdict) ? e.verdict : 'foreign', e.tokens / longest,
          e.id.slice(0, 12) + ': ' + count(e.from) + ' to ' + count(e.to) + ', ' + e.verdict + (e.strikes ? ', ' + plural(e.strikes, 'strike') : '')])));
      return item;
    }));
    if (chains.length > most) $('chains').append(make('li', '', plural(chains.length - most, 'more conversation')));
    $('jailed').textContent = kv.quarantine_files ? plural(kv.quarantine_files, 'file') + ', ' + size(kv.quarantine_bytes) : '';
    $('quarantine').replaceChildren(...kv.quarantine.slice(0, most).map((q) => {
      const item = make('li'), head = make('span');
      head.append(make('b', 'why', q.why), make('small', '', ago(q.since)));
      item.append(head, make('small', '', (q.to ? count(q.from) + ' to ' + count(q.to) + ' tokens, ' : '') + size(q.bytes) + (q.strikes ? ', ' + plural(q.strikes, 'strike') : '')));
      if (q.error) item.append(make('small', '', q.error));
      item.title = q.name;
      return item;
    }));
    if (!kv.quarantine.length) $('quarantine').append(make('li', '', 'Nothing is in quarantine.'));
  };

  const showHealth = (h) => {
    const s = $('status');
    s.className = h.status === 'ok' ? 'ok' : h.status.startsWith('degraded-cache') ? 'degraded' : 'bad';
    s.lastElementChild.textContent = h.status + (h.reasons?.length ? ': ' + h.reasons.join('; ') : '');
  };
  const showAway = (problem) => follow(() => {
    $('away').hidden = !problem;
    $('away').textContent = problem ? problem.message : '';
    $('stale').hidden = !problem || !$('sessions').children.length;
    if (!problem) return;
    $('status').className = 'bad';
    $('status').lastElementChild.textContent = problem.away ? 'away' : 'not available';
  });

  // refresh asks for everything once. One at a time, and again a while after.
  const calm = 2000, eager = 500;
  let timer = 0, asking = false;
  const refresh = async () => {
    clearTimeout(timer);
    if (asking) return;
    asking = true;
    try {
      showHealth(await (await request('/healthz')).json());
      if (!keyCancelled) {
        const [sessions, kv] = await Promise.all([request('/v1/sessions'), request('/v1/kv?limit=500')]);
        showSessions(await sessions.json());
        showKV(await kv.json());
      }
      showAway(null);
    } catch (e) {
      if (e.key) askKey();
      else showAway(e instanceof Problem ? e : away());
    }
    asking = false;
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, running ? eager : calm);
  };
  document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
  refresh();
  if (!touch) $('text').focus();
})();

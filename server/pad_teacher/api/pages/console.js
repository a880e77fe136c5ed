// The console: the state of the service live, and one response set looked at from all sides.
// Texts go into textContent, never into HTML. The key lives in this module's memory alone.
import { distribution, divergence, likeliest, reward } from "./rankings.js";

const $ = (id) => document.getElementById(id);
const LETTERS = "ABCDEFGH";
const EXAMPLE = { prompt: "count from two to five", responses: ["two three four five", "two three five", "five four three two", "two three four five"] };
const needsKey = document.querySelector("meta[name=pad-keys]").content === "needed";
let key = "";
let scored = null; // the set that was sent, and the reply's only set
let other = null;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const fixed = (value, digits = 4) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const whole = (value) => Math.round(value).toLocaleString("en");
const percent = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

function bar(share) {
  const inner = make("i");
  inner.style.width = `${100 * Math.min(1, share)}%`;
  const outer = make("span", { className: "bar" }, inner);
  outer.setAttribute("aria-hidden", "true");
  return outer;
}

function headers() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// ---- The key

function ask(problem = "") {
  key = "";
  $("key").value = "";
  $("key-problem").textContent = problem;
  $("asking").hidden = false;
  $("open").hidden = true;
  $("result").hidden = true;
  $("key").focus();
}

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  if (!/^[!-~]+$/.test(key)) return ask("This is no key: it holds a blank, or a character that no key has.");
  try {
    const reply = await fetch("v1/usage", { headers: headers(), cache: "no-store" });
    if (reply.status === 401) return ask("The service does not know this key.");
  } catch {
    $("key-problem").textContent = "The service does not answer. Try again.";
    return;
  }
  $("key").value = "";
  open();
});

function open() {
  $("asking").hidden = true;
  $("open").hidden = false;
  watch();
}

// ---- Now: server-sent events. EventSource cannot send a key, so the stream is read here.

const RATE_SECONDS = 10;
const SILENT_SECONDS = 15; // an event comes every second: after so many the service, or the way to it, is gone
let rates = []; // [seconds, tokens] of the last events
let watching = 0;

async function watch() {
  const mine = ++watching; // an older loop ends
  let wait = 1;
  while (mine === watching && !$("open").hidden) {
    const stop = new AbortController();
    try {
      const reply = await soon(fetch("v1/events", { headers: headers(), cache: "no-store", signal: stop.signal }));
      const problem = reply.ok ? null : await refusal(reply);
      if (mine !== watching) return;
      if (reply.status === 401) return ask("The service does not know this key any more.");
      if (problem) throw new Error(problem);
      wait = 1;
      await read(reply.body.getReader(), (state) => mine === watching && show(state));
    } catch (error) {
      if (mine !== watching) return;
      $("state").textContent = `The service does not answer (${error.message}). Trying again.`;
      $("now").classList.add("old"); // the numbers below are those of its last event
      rates = [];
      await new Promise((done) => setTimeout(done, 1000 * wait));
      wait = Math.min(8, 2 * wait);
    } finally {
      stop.abort();
    }
  }
}

async function soon(promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`silent for ${SILENT_SECONDS} s`)), 1000 * SILENT_SECONDS); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function refusal(reply) {
  const body = await reply.json().catch(() => null); // a proxy answers in HTML
  return body?.error?.message ?? `status ${reply.status}`;
}

async function read(reader, each) {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await soon(reader.read());
    if (done) return;
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = parts.pop();
    for (const part of parts) each(JSON.parse(part.replace(/^data: /, "")));
  }
}

function rate(state) {
  rates.push([state.uptime_seconds, state.tokens_scored]);
  if (rates.length > RATE_SECONDS + 1) rates.shift();
  const [[began, before], [now, after]] = [rates[0], rates.at(-1)];
  if (now < began || after < before) rates = rates.slice(-1); // it has started again
  return now > began ? (after - before) / (now - began) : null;
}

function show(state) {
  const asked = state.cache_hits + state.cache_misses;
  const speed = rate(state);
  $("now").classList.remove("old");
  $("state").textContent = state.status === "ready" ? "Ready." : `${state.status}: ${state.reason ?? ""}`;
  $("copy-fingerprint").dataset.text = state.teacher?.fingerprint ?? "";
  $("copy-fingerprint").disabled = !state.teacher;
  const facts = {
    Model: state.teacher?.model ?? "–",
    Fingerprint: state.teacher?.fingerprint ?? "–",
    "Golden score, largest error": state.golden_difference_nats == null ? "–" : `${state.golden_difference_nats.toExponential(1)} nats`,
    "Tokens a second, last 10 s": speed === null ? "–" : whole(speed),
    "Tokens scored": whole(state.tokens_scored),
    "Queue": `${whole(state.queued_tokens)} tokens in ${whole(state.queued_requests)} requests`,
    "Wait, median and 99 %": state.waits ? `${fixed(state.wait_p50_seconds, 3)} s, ${fixed(state.wait_p99_seconds, 3)} s (last ${whole(state.waits)})` : "–",
    "Saved by the cache": asked ? `${percent(state.cache_hits / asked)} of ${whole(asked)} rows` : "–",
    "Shared in flight": `${whole(state.shared_in_flight)} rows`,
    "Key": state.key.name || "none needed",
    "Weight": `${state.key.weight}`,
    "Left of this minute": state.key.left_of_minute == null ? "no limit" : `${whole(state.key.left_of_minute)} of ${whole(state.key.tokens_per_minute)}`,
    "Left of this UTC day": state.key.left_of_day == null ? "no limit" : `${whole(state.key.left_of_day)} of ${whole(state.key.tokens_per_day)}`,
  };
  $("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }))));
  const total = state.jobs.reduce((sum, job) => sum + job.total_tokens, 0);
  $("jobs").replaceChildren(...state.jobs.map((job) => make("tr", {},
    make("th", { scope: "row", textContent: job.job }),
    make("td", {}, bar(total ? job.total_tokens / total : 0), total ? percent(job.total_tokens / total) : "–"),
    make("td", { textContent: whole(job.total_tokens) }),
    make("td", { textContent: whole(job.requests) }))));
  const more = state.jobs_in_all - state.jobs.length;
  $("jobs-caption").textContent = `Jobs of this key since the service started${more ? `; ${whole(more)} smaller ones are left out` : ""}`;
}

// ---- Try it

function addResponse(text = "", finished = true) {
  const place = $("responses");
  if (place.children.length >= LETTERS.length) return;
  const area = make("textarea", { rows: 1, value: text, dir: "auto" });
  const whole = make("label", { className: "finished" }, make("input", { type: "checkbox", checked: finished }), " finished");
  const remove = make("button", { type: "button", textContent: "Remove" });
  const row = make("div", { className: "response" }, make("label", {}), area, whole, remove);
  remove.addEventListener("click", () => { row.remove(); label(); });
  place.append(row);
  label();
}

function label() {
  const rows = [...$("responses").children];
  rows.forEach((row, k) => {
    const [name, area, whole, remove] = row.children;
    name.textContent = LETTERS[k];
    area.id = `response-${k}`;
    name.htmlFor = area.id;
    whole.firstChild.setAttribute("aria-label", `Response ${LETTERS[k]} is finished`);
    remove.setAttribute("aria-label", `Remove response ${LETTERS[k]}`);
    remove.disabled = rows.length <= 2;
  });
  $("add").disabled = rows.length >= LETTERS.length;
}

function fill(set) {
  $("prompt").value = typeof set.prompt === "string" ? set.prompt : JSON.stringify(set.prompt);
  $("responses").replaceChildren();
  for (const response of set.responses) addResponse(textOf(response), response.finished !== false);
  while ($("responses").children.length < 2) addResponse();
}

const textOf = (response) => response?.text ?? response;

function checked(set) {
  const fits = set && typeof set === "object" && (typeof set.prompt === "string" || Array.isArray(set.prompt))
    && Array.isArray(set.responses) && set.responses.every((each) => typeof textOf(each) === "string");
  if (!fits) throw new Error("a line has a prompt and a list of responses");
  if (set.responses.length < 2 || set.responses.length > LETTERS.length) throw new Error("this page shows two to eight responses");
  return set;
}

function request() {
  const written = $("prompt").value;
  let prompt = written;
  if (/^\s*\[\s*\{/.test(written)) {
    try { prompt = JSON.parse(written); } catch { prompt = written; }
  }
  const responses = [...$("responses").children].map((row) => {
    const [text, { checked: finished }] = [row.querySelector("textarea").value, row.querySelector("input")];
    return finished ? text : { text, finished };
  });
  return { sets: [{ prompt, responses }], orders: $("orders").value, per_order: true, per_token: true, token_texts: true };
}

$("set-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("problem").textContent = "";
  $("score").disabled = true;
  const asked = request();
  try {
    const reply = await fetch("v1/score", { method: "POST", headers: { ...headers(), "Content-Type": "application/json", "X-Job-Id": "console" }, body: JSON.stringify(asked) });
    if (reply.status === 401) return ask("The service does not know this key any more.");
    if (!reply.ok) throw new Error(await refusal(reply));
    scored = { asked, set: (await reply.json()).sets[0] };
    other = null;
    $("other").value = "";
    $("divergence").textContent = "";
    draw();
  } catch (error) {
    $("problem").textContent = error instanceof TypeError ? "The service does not answer. Try again." : error.message;
  } finally {
    $("score").disabled = false;
  }
});

function tokens(response) {
  const texts = response.token_texts;
  return make("span", { className: "text", dir: "auto" }, ...texts.map((text, k) => {
    const value = response.token_log_likelihoods[k];
    const token = make("span", { className: "token", textContent: text, title: `${fixed(value)} nats` });
    token.style.setProperty("--weight", String(Math.min(1, -value / 8)));
    return token;
  }));
}

function numbers(response) {
  const rows = response.token_texts.map((text, k) => make("tr", {}, make("td", {}, make("code", { textContent: text })), make("td", { textContent: fixed(response.token_log_likelihoods[k]) })));
  return make("details", {}, make("summary", { textContent: "Numbers" }), make("table", {}, make("tbody", {}, ...rows)));
}

function draw() {
  const { asked, set } = scored;
  const alpha = Number($("alpha").value);
  const responses = asked.sets[0].responses;
  const texts = responses.map(textOf);
  $("result").hidden = false;
  $("scored").replaceChildren(...set.responses.map((each, k) => {
    const first = texts.indexOf(texts[k]);
    const name = make("b", { textContent: LETTERS[k] });
    const copy = first < k ? make("small", { textContent: ` a copy of ${LETTERS[first]}` }) : "";
    const cut = responses[k].finished === false ? make("small", { textContent: " not finished" }) : "";
    return make("tr", {},
      make("th", { scope: "row" }, name, copy, cut, tokens(each), numbers(each)),
      make("td", { textContent: String(each.tokens) }),
      make("td", { textContent: fixed(each.mean_log_likelihood) }),
      make("td", {}, bar(each.selection_probability), fixed(each.selection_probability)),
      make("td", { className: "reward", textContent: fixed(reward(each, alpha)) }));
  }));
  drawMatrix(set);
  drawRankings();
}

function drawMatrix(set) {
  const n = set.responses.length;
  const head = make("tr", {}, make("th", { scope: "col", textContent: "Shown as A, B, …" }), ...[...LETTERS.slice(0, n)].map((name) => make("th", { scope: "col", textContent: name })), make("th", { scope: "col", textContent: "Label mass" }));
  const rows = set.per_order.map(({ order, probabilities, label_mass }) => {
    const cells = Array.from({ length: n }, (_, k) => {
      const at = order.findIndex((responses) => responses.includes(k));
      return make("td", {}, ...(at < 0 ? ["–"] : [bar(probabilities[at]), fixed(probabilities[at])]));
    });
    return make("tr", {}, make("th", { scope: "row", textContent: order.map((responses) => responses.map((k) => LETTERS[k]).join("=")).join(" ") }), ...cells, make("td", { textContent: fixed(label_mass) }));
  });
  const letters = Array.from({ length: n }, (_, at) => {
    const values = set.per_order.filter(({ order }) => at < order.length).map(({ probabilities }) => probabilities[at]);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null; // copies leave letters over
  });
  const of = (name, values, last) => make("tr", {}, make("th", { scope: "row", textContent: name }), ...values.map((value) => make("td", {}, ...(value === null ? ["–"] : [bar(value), fixed(value)]))), make("td", { textContent: last }));
  const foot = make("tfoot", {}, of("Mean of the response", set.responses.map((each) => each.selection_probability), fixed(set.label_mass)),
    of("Mean of the letter at this place", letters, ""));
  $("matrix").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows), foot);
  if (!set.per_order.length) {
    $("matrix-words").textContent = "All responses are one text: there is nothing to choose, so the teacher was not asked.";
    return;
  }
  const disagreement = set.order_disagreement == null ? "Only one order was asked." : `Two orders differ by ${fixed(set.order_disagreement)} at most (0: all agree, 1: none).`;
  $("matrix-words").textContent = `Each row asks the same question with the responses in another order. If rows differ, the letter has decided and not the text: the average over the orders takes that away. The last row is the teacher's liking for each letter itself. ${disagreement} Label mass ${fixed(set.label_mass)}.`;
}

function drawRankings() {
  const alpha = Number($("alpha").value);
  const [betaTeacher, betaStudent] = [Number($("beta-teacher").value), Number($("beta-student").value)];
  $("alpha-value").textContent = fixed(alpha, 2);
  $("beta-teacher-value").textContent = fixed(betaTeacher, 1);
  $("beta-student-value").textContent = fixed(betaStudent, 1);
  const rewards = scored.set.responses.map((each) => reward(each, alpha));
  $("scored").querySelectorAll(".reward").forEach((cell, k) => { cell.textContent = fixed(rewards[k]); });
  drawCode(scored.asked);
  const scores = rewards.map((value) => betaTeacher * value);
  if (!scores.every(Number.isFinite)) {
    $("rankings-caption").textContent = "A selection probability of 0 has no logarithm: there is no reward with this α.";
    $("rankings").replaceChildren();
    if (other) $("divergence").textContent = "Without rewards there is no divergence.";
    return;
  }
  const theirs = other && other.map((each) => betaStudent * each.mean_log_likelihood);
  const same = theirs && new Map(distribution(theirs).map(({ ranking, logProb }) => [ranking.join(), logProb]));
  const shown = likeliest(scores);
  $("rankings-caption").textContent = scores.length <= 4 ? "Plackett-Luce distribution over all rankings" : "Plackett-Luce distribution: the ten likeliest rankings";
  $("rankings").replaceChildren(...shown.map(({ ranking, logProb }) => {
    const row = make("tr", {}, make("th", { scope: "row", textContent: ranking.map((k) => LETTERS[k]).join(" > ") }), make("td", {}, bar(Math.exp(logProb)), percent(Math.exp(logProb))));
    row.dataset.logProb = String(logProb);
    if (same) row.append(make("td", {}, bar(Math.exp(same.get(ranking.join()))), percent(Math.exp(same.get(ranking.join())))));
    return row;
  }));
  $("other-head").hidden = $("student-slider").hidden = !theirs;
  if (theirs) $("divergence").textContent = `Jensen-Shannon divergence of the two: ${fixed(divergence(scores, theirs))} nats (0: equal, 0.6931: nothing shared).`;
}

for (const name of ["alpha", "beta-teacher", "beta-student"]) $(name).addEventListener("input", () => scored && drawRankings());

$("other").addEventListener("input", () => {
  other = null;
  try {
    const responses = JSON.parse($("other").value).sets[0].responses;
    if (responses.length !== scored.set.responses.length || !responses.every((each) => Number.isFinite(each.mean_log_likelihood))) throw new Error();
    other = responses;
    $("divergence").textContent = "";
  } catch {
    $("divergence").textContent = $("other").value.trim() ? "This is no reply about the same responses." : "";
  }
  drawRankings();
});

// ---- The same call elsewhere, and a link

const base = () => new URL(".", location.href).href.replace(/\/$/, "");
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function drawCode(asked) {
  const body = { ...asked, alpha: Number($("alpha").value) };
  const auth = needsKey ? ' -H "Authorization: Bearer $KEY"' : "";
  $("curl").textContent = `curl -s ${base()}/v1/score${auth} --json ${quoted(JSON.stringify(body))}`;
  const set = JSON.stringify(JSON.stringify({ id: "0", ...asked.sets[0] }));
  $("python").textContent = [
    "import os",
    "from pad_student import Teacher",
    "from pad_wire import SampledSet",
    "",
    `teacher = Teacher(${JSON.stringify(base())}, key=os.environ.get("KEY"))`,
    `line = ${set}`,
    `print(teacher.score([SampledSet.model_validate_json(line)], alpha=${body.alpha}, orders=${JSON.stringify(body.orders)}))`,
  ].join("\n");
  const bytes = new TextEncoder().encode(JSON.stringify(asked.sets[0]));
  const packed = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  $("link").href = `#set=${packed}`;
}

function fromLink() {
  const packed = /^#set=([\w-]+)$/.exec(location.hash)?.[1];
  if (!packed) return null;
  try {
    const bytes = Uint8Array.from(atob(packed.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
    return checked(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    $("problem").textContent = "The link's set cannot be read.";
    return null;
  }
}

async function copy(text, place) {
  try {
    await navigator.clipboard.writeText(text);
    place.textContent = "Copied.";
  } catch { // on plain HTTP but for this machine browsers have no clipboard
    place.textContent = text;
  }
}

$("copy-fingerprint").addEventListener("click", (event) => copy(event.target.dataset.text, $("copied")));
document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", () => {
  const texts = { curl: $("curl").textContent, python: $("python").textContent, link: $("link").href };
  copy(texts[button.dataset.copy], $("copied-call"));
}));
$("add").addEventListener("click", () => addResponse());
$("take").addEventListener("click", () => {
  try {
    fill(checked(JSON.parse($("line").value)));
    $("problem").textContent = "";
  } catch (error) {
    $("problem").textContent = `The line cannot be taken: ${error.message}`;
  }
});
addEventListener("hashchange", () => { const set = fromLink(); if (set) fill(set); });

fill(fromLink() ?? EXAMPLE);
if (needsKey) ask();
else open();

// Now: the state of the service, live. EventSource cannot send a key, so the server-sent events are read here.
import { fetchWithKey, isOpen, refusal } from "./asking.js";
import { Chart } from "./curves.js";
import { $, bar, copy, fixed, make, percent, whole } from "./dom.js";

const RATE_SECONDS = 10;
const SILENT_SECONDS = 15; // an event comes every second: after so many the service, or the way to it, is gone
const SHOWN_SECONDS = 900; // of the curves; older seconds are forgotten
const rate = new Chart($("rate"), "Tokens a second, and tokens that wait");

let watching = 0;
let seconds = []; // of the last events: { at, tokens, speed, queued }

export async function watch() {
  const mine = ++watching; // an older loop ends
  let wait = 1;
  while (mine === watching && isOpen()) {
    const stop = new AbortController();
    try {
      const reply = await soon(fetchWithKey("v1/events", { signal: stop.signal }));
      if (mine !== watching || !reply) return;
      if (!reply.ok) throw new Error(await refusal(reply));
      wait = 1;
      await read(reply.body.getReader(), (state) => mine === watching && show(state));
    } catch (error) {
      if (mine !== watching) return;
      $("state").textContent = `The service does not answer (${error.message}). Trying again.`;
      $("now").classList.add("old"); // the numbers below are those of its last event
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

// Tokens a second over the last ten; null after a start.
function speedOf({ uptime_seconds: at, tokens_scored: tokens, queued_tokens: queued }) {
  const last = seconds.at(-1);
  if (last && (at < last.at || tokens < last.tokens)) seconds = []; // the service has started again
  const first = seconds.findLast((each) => at - each.at >= RATE_SECONDS) ?? seconds[0];
  const speed = first && at > first.at ? (tokens - first.tokens) / (at - first.at) : null;
  seconds.push({ at, tokens, speed, queued });
  while (at - seconds[0].at > SHOWN_SECONDS) seconds.shift();
  return speed;
}

function drawRate() {
  const x = seconds.map(({ at }) => at / 60);
  const curve = (name, of, colour) => ({ name, x, values: seconds.map(of), every: 1, colour });
  rate.show({ unit: "minutes since the service started", window: 1, marks: [], series: [
    curve("scored a second", ({ speed }) => speed, "--series-0"), curve("waiting", ({ queued }) => queued, "--series-1"),
  ] });
}

function show(state) {
  const speed = speedOf(state);
  $("now").classList.remove("old");
  $("state").textContent = state.status === "ready" ? "Ready." : `${state.status}: ${state.reason ?? ""}`;
  $("copy-fingerprint").dataset.text = state.teacher?.fingerprint ?? "";
  $("copy-fingerprint").disabled = !state.teacher;
  $("facts").replaceChildren(...Object.entries(facts(state, speed)).map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }))));
  drawRate();
  showJobs(state);
}

const left = (of, most) => (of == null ? "no limit" : `${whole(of)} of ${whole(most)}`);

function facts(state, speed) {
  const asked = state.cache_hits + state.cache_misses;
  return {
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
    "Left of this minute": left(state.key.left_of_minute, state.key.tokens_per_minute),
    "Left of this UTC day": left(state.key.left_of_day, state.key.tokens_per_day),
  };
}

function showJobs({ jobs, jobs_in_all: all }) {
  const total = jobs.reduce((sum, job) => sum + job.total_tokens, 0);
  $("jobs").replaceChildren(...jobs.map((job) => make("tr", {},
    make("th", { scope: "row", textContent: job.job }),
    make("td", {}, bar(total ? job.total_tokens / total : 0), total ? percent(job.total_tokens / total) : "–"),
    make("td", { textContent: whole(job.total_tokens) }),
    make("td", { textContent: whole(job.requests) }))));
  const more = all - jobs.length;
  $("jobs-caption").textContent = `Jobs of this key since the service started${more ? `; ${whole(more)} smaller ones are left out` : ""}`;
}

$("copy-fingerprint").addEventListener("click", (event) => copy(event.target.dataset.text, $("copied")));

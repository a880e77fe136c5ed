// Try it: the form of one response set, a line of a file or a link that fills it, and the request that it makes.
import { fetchWithKey, refusal } from "./asking.js";
import { $, LETTERS, make } from "./dom.js";

const EXAMPLE = { prompt: "count from two to five", responses: ["two three four five", "two three five", "five four three two", "two three four five"] };

export const textOf = (response) => response?.text ?? response;

// Fills the form, from the page's link if it has a set; `then` gets each { asked, set } that the service has scored.
export function beginSet(then) {
  fill(fromLink() ?? EXAMPLE);
  addEventListener("hashchange", () => { const set = fromLink(); if (set) fill(set); });
  $("set-form").addEventListener("submit", (event) => { event.preventDefault(); score(then); });
}

// The part of a link that carries a set.
export function packed(set) {
  const bytes = new TextEncoder().encode(JSON.stringify(set));
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function fromLink() {
  const found = /^#set=([\w-]+)$/.exec(location.hash)?.[1];
  if (!found) return null;
  try {
    const bytes = Uint8Array.from(atob(found.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
    return checked(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    $("problem").textContent = "The link's set cannot be read.";
    return null;
  }
}

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

async function score(then) {
  $("problem").textContent = "";
  $("score").disabled = true;
  const asked = request();
  try {
    const reply = await fetchWithKey("v1/score", { method: "POST", headers: { "Content-Type": "application/json", "X-Job-Id": "console" }, body: JSON.stringify(asked) });
    if (!reply) return;
    if (!reply.ok) throw new Error(await refusal(reply));
    then({ asked, set: (await reply.json()).sets[0] });
  } catch (error) {
    $("problem").textContent = error instanceof TypeError ? "The service does not answer. Try again." : error.message;
  } finally {
    $("score").disabled = false;
  }
}

$("add").addEventListener("click", () => addResponse());
$("take").addEventListener("click", () => {
  try {
    fill(checked(JSON.parse($("line").value)));
    $("problem").textContent = "";
  } catch (error) {
    $("problem").textContent = `The line cannot be taken: ${error.message}`;
  }
});
